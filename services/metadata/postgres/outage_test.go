package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

// operations are a read and a write of each kind.
func operations(t *testing.T, c *metadata.Catalog) map[string]func() error {
	m := manifest(blob("config"), "x", "latest")
	ctx := t.Context()
	return map[string]func() error{
		"Manifest": func() error {
			_, err := c.Manifest(ctx, alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "latest"}})
			return err
		},
		"Blob": func() error { _, err := c.Blob(ctx, alice, "a", blob("config").Digest); return err },
		"Tags": func() error {
			_, err := c.Tags(ctx, alice, "a", registry.Page[registry.Tag]{Limit: 10})
			return err
		},
		"Repositories": func() error {
			_, err := c.Repositories(ctx, alice, registry.Page[registry.Name]{Limit: 10})
			return err
		},
		"PutManifest": func() error { _, err := c.PutManifest(ctx, alice, "a", m); return err },
		"Link":        func() error { _, err := c.Link(ctx, alice, "a", blob("config")); return err },
		"Check":       func() error { _, err := c.Check(ctx); return err },
	}
}

// While the server is away everything is refused with an error that says so, and
// when it is back the same catalog goes on at once.
func TestG11ServerGoesAway(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	c := openCatalog(t, server.DSN(server.Database(t)), metadata.Options{})
	link(t, c, "a", blob("config"))
	put(t, c, "a", manifest(blob("config"), "x", "latest"))
	for _, how := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL} {
		for name, do := range operations(t, c) { // leaves connections in the pools
			if err := do(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := server.Stop(how); err != nil {
			t.Fatal(err)
		}
		for name, do := range operations(t, c) {
			if err := do(); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("%s while the server is away: got error %v, want Unavailable", name, err)
			} else if strings.Contains(err.Error(), pgtest.Password) {
				t.Errorf("%s tells the password: %v", name, err)
			}
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		for name, do := range operations(t, c) {
			if err := do(); err != nil {
				t.Errorf("%s when the server is back: %v", name, err)
			}
		}
	}
}

// Connections that the server has cut off one by one are replaced without an
// error.
func TestConnectionsAreReplaced(t *testing.T) {
	server := pgtest.Shared(t)
	db := server.Database(t)
	c := openCatalog(t, server.DSN(db), metadata.Options{})
	link(t, c, "a", blob("config"))
	put(t, c, "a", manifest(blob("config"), "x", "latest"))
	for name, do := range operations(t, c) {
		server.MustSQL(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+db+"'")
		if err := do(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that takes no more connections is not an internal error.
func TestNoMoreConnections(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	c := openCatalog(t, server.DSN(server.Database(t)), metadata.Options{})
	link(t, c, "a", blob("config"))
	// As a primary that is shut down for a switch-over does.
	server.MustSQL(t, "postgres", "ALTER ROLE "+pgtest.Role+" CONNECTION LIMIT 0")
	server.MustSQL(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+pgtest.Role+"'")
	_, err := c.Link(t.Context(), alice, "a", blob("other"))
	if !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("no more connections: got error %v, want Unavailable", err)
	}
	server.MustSQL(t, "postgres", "ALTER ROLE "+pgtest.Role+" CONNECTION LIMIT -1")
	link(t, c, "a", blob("other"))
}

// The password changes while the program runs.
func TestPasswordRotates(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	db := server.Database(t)
	file := filepath.Join(t.TempDir(), "dsn")
	write := func(password string) {
		t.Helper()
		dsn := strings.Replace(server.DSN(db), pgtest.Password, password, 1)
		if err := os.WriteFile(file, []byte(dsn+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(pgtest.Password)
	cfg := config.Storage{Metadata: config.Metadata{Driver: config.Postgres, DSNFile: file}}
	no := false
	cfg.Commit = &no // the server of the test does not sync
	opened, err := postgres.OpenConfigured(t.Context(), cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	c, err := metadata.Open(t.Context(), opened, nil, metadata.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	link(t, c, "a", blob("config"))

	server.MustSQL(t, "postgres", "ALTER ROLE "+pgtest.Role+" PASSWORD 'second-secret'")
	link(t, c, "a", blob("one")) // over connections that are open
	cutOff := func() {
		server.MustSQL(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '"+pgtest.Role+"'")
	}
	cutOff()
	_, err = c.Link(t.Context(), alice, "a", blob("two"))
	if !errors.Is(err, registry.ErrUnavailable) || strings.Contains(err.Error(), pgtest.Password) {
		t.Errorf("with the old password: got error %v, want Unavailable and no password", err)
	}
	write("second-secret")
	link(t, c, "a", blob("two"))
	if _, err := c.Blob(t.Context(), alice, "a", blob("two").Digest); err != nil {
		t.Error(err)
	}
}

// A database that comes later is waited for, one that never comes is given up,
// and what no waiting mends is said at once.
func TestStartWithoutAServer(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	db := server.Database(t)
	if err := server.Stop(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	waits := make(chan string, 100)
	log := slog.New(logTo(waits))
	open := func(ctx context.Context, dsn string, patience time.Duration) error {
		opened, err := postgres.OpenPatiently(ctx, postgres.Options{DSN: fixed(dsn)}, patience, log)
		if err == nil {
			err = opened.Close()
		}
		return err
	}
	if err := open(t.Context(), server.DSN(db), 0); err == nil || strings.Contains(err.Error(), pgtest.Password) {
		t.Errorf("without patience: got error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- open(ctx, server.DSN(db), time.Minute) }()
	if line := <-waits; !strings.Contains(line, "waiting for the metadata database") || strings.Contains(line, pgtest.Password) {
		t.Errorf("it logs %q", line)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("called off: got error %v, want Canceled", err)
	}
	go func() { ended <- open(t.Context(), server.DSN(db), time.Minute) }()
	<-waits
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("when the server has come: %v", err)
	}
	for _, dsn := range []string{"postgres://u:hush@h:x/db", "host=h password='hush", "postgres://u:hush@h/db?sslmode=maybe", server.DSN(db) + "&default_query_exec_mode=simple_protocol"} {
		if err := open(t.Context(), dsn, time.Minute); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: got error %v", dsn, err)
		}
	}
}

// logTo is a handler that sends each line's text.
type logTo chan<- string

func (l logTo) Enabled(context.Context, slog.Level) bool { return true }
func (l logTo) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l logTo) WithGroup(string) slog.Handler            { return l }

func (l logTo) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool { line += fmt.Sprint(" ", a); return true })
	l <- line
	return nil
}
