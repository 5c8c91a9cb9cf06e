package scanner_test

import (
	"log/slog"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/scanner"
)

func TestScansOnPostgres(t *testing.T) {
	server := pgtest.Shared(t)
	onPostgres := func(t testing.TB, _ string) *sqldb.DB {
		t.Helper()
		relaxed := false // the server of the tests does not sync
		cfg := config.Storage{Pool: config.Pool{Commit: &relaxed}, Metadata: config.Metadata{Driver: config.Postgres, DSN: config.Secret(pgtest.DSN(server.Port, server.Database(t)))}}
		db, err := postgres.OpenScanner(t.Context(), cfg, func(err error) { t.Error(err) }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	registrytest.Scans(t, registrytest.ScansBackend{New: func(t *testing.T) registrytest.Scanned {
		s := newStore(t, onPostgres, func(o *scanner.Options) { o.Idle = true })
		return registrytest.Scanned{Scans: s, Put: s.put}
	}})
	t.Run("strange texts", func(t *testing.T) { strangeTexts(t, onPostgres) })
	t.Run("index of indexes", func(t *testing.T) { indexOfIndexes(t, onPostgres) })
}
