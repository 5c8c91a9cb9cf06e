package metadata_test

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata"
)

// store is a catalog with its database.
type store struct {
	*metadata.Catalog
	db      *sqldb.DB
	place   place
	options metadata.Options
	reaper  registry.Reaper
	open    bool
}

// openStore opens the catalog of a place.
func openStore(t testing.TB, at place, o metadata.Options, r registry.Reaper) *store {
	t.Helper()
	db := at.open(t)
	c, err := metadata.Open(t.Context(), db, r, o, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := &store{Catalog: c, db: db, place: at, options: o, reaper: r, open: true}
	t.Cleanup(func() { s.close(t) })
	return s
}

func (s *store) close(t testing.TB) {
	if !s.open {
		return
	}
	s.open = false
	if err := s.Catalog.Close(); err != nil {
		t.Error(err)
	}
	if err := s.db.Close(); err != nil {
		t.Error(err)
	}
}

// crash opens what a crash at this moment would leave of the store.
func (s *store) crash(t testing.TB) *store {
	t.Helper()
	at := s.place.crash(t, s.db)
	s.close(t)
	return openStore(t, at, s.options, s.reaper)
}

func copyDatabase(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(to, ".berth"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metadata.db", "metadata.db-wal"} {
		b, err := os.ReadFile(filepath.Join(from, ".berth", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, ".berth", name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// mustExec changes the database behind the catalog's back.
func (s *store) mustExec(t testing.TB, statement string, args ...any) {
	t.Helper()
	err := s.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(statement, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}
