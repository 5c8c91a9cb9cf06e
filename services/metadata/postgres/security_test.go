package postgres_test

import (
	"bytes"
	"errors"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

// TestS142Protocol: values never get into the text of a statement, whatever the
// data source name asks for, and no value is larger than 8 MiB; the driver is one
// without known holes in its protocol.
func TestS142Protocol(t *testing.T) {
	server := pgtest.Shared(t)
	db := server.Database(t)
	for _, mode := range []string{"simple_protocol", "exec"} {
		_, err := postgres.Open(t.Context(), postgres.Options{DSN: fixed(server.DSN(db) + "&default_query_exec_mode=" + mode)})
		if err == nil || !strings.Contains(err.Error(), "default_query_exec_mode") {
			t.Errorf("%s: %v", mode, err)
		}
	}

	proxy := pgtest.NewProxy(t, server.Port)
	c := openCatalog(t, pgtest.DSN(proxy.Port, db), metadata.Options{})
	config := blob("config")
	link(t, c, "a", config)
	const evil = "' OR 1=1 --"
	proxy.Took()
	if _, err := c.PutManifest(t.Context(), registry.Actor{ID: evil}, "a", manifest(config, "one", "latest")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Tags(t.Context(), alice, "a", registry.Page[registry.Tag]{After: evil, Limit: 10}); err != nil {
		t.Fatal(err)
	}
	flights := proxy.Took()
	if len(flights) == 0 {
		t.Fatal("void: nothing was sent")
	}
	for _, f := range flights {
		if f.Has("OR 1=1") {
			t.Errorf("a value is in a statement: %q", f.Texts)
		}
	}

	large := manifest(config, "large", "latest")
	large.Bytes = append(large.Bytes, bytes.Repeat([]byte(" "), 9<<20)...)
	large.Digest = registry.SHA256.FromBytes(large.Bytes)
	if _, err := c.PutManifest(t.Context(), alice, "a", large); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("a manifest of 9 MiB: %v", err)
	}
	if sent := proxy.Took(); len(sent) > 1 { // perhaps the repository was looked up
		t.Errorf("%d messages were sent for it", len(sent))
	}
}

// TestS142DriverVersion: before 5.9.2 a message of more than 4 GiB could hold
// others.
func TestS142DriverVersion(t *testing.T) {
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`jackc/pgx/v5 v5\.(\d+)\.(\d+)`).FindSubmatch(text)
	if found == nil {
		t.Fatal("go.mod names no pgx")
	}
	minor, _ := strconv.Atoi(string(found[1]))
	patch, _ := strconv.Atoi(string(found[2]))
	if minor < 9 || minor == 9 && patch < 2 {
		t.Errorf("pgx 5.%d.%d, want 5.9.2 or newer", minor, patch)
	}
}
