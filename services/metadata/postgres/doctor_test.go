package postgres

import (
	"bytes"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
)

// examine returns what doctor says of a database.
func examine(t *testing.T, dsn string, durable bool) string {
	t.Helper()
	cfg := config.Defaults().Storage
	cfg.Metadata = config.Metadata{Driver: config.Postgres, DSN: config.Secret(dsn)}
	cfg.Commit = &durable
	var out bytes.Buffer
	doctor.Run(t.Context(), doctor.NewReport(&out, false), Examine(cfg))
	return out.String()
}

func TestExamine(t *testing.T) {
	server := pgtest.Shared(t) // which does not sync
	dsn := server.DSN(server.Database(t))
	got := examine(t, dsn, false)
	for _, want := range []string{"ok    storage.metadata:", "PostgreSQL clock: its clock agrees", "synchronous_commit:", "full_page_writes:", "collation:", "max_connections:"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if got := examine(t, dsn, true); !strings.Contains(got, "fail  storage.metadata: this database can't be used: the server runs with fsync = off") {
		t.Errorf("got %s", got)
	}
	for dsn, want := range map[string]string{
		"postgres://nobody:canary@127.0.0.1:1/x": "fail  storage.metadata:",
		"postgres://canary:%zz@/":                "fail  storage.metadata:",
		server.DSN(server.Database(t, "ENCODING 'SQL_ASCII' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")): "has encoding SQL_ASCII",
	} {
		if got := examine(t, dsn, false); !strings.Contains(got, want) || strings.Contains(got, "canary") {
			t.Errorf("%s: want %q, and no password, in\n%s", dsn, want, got)
		}
	}
}
