package metadata_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// place is where a store keeps its database.
type place interface {
	open(t testing.TB) *sqldb.DB
	// crash returns the place as a crash of the process at this moment would leave
	// it, and ends what the process has of it.
	crash(t testing.TB, db *sqldb.DB) place
	// withoutForeignKeys changes what no process has open.
	withoutForeignKeys(t testing.TB, statement string)
}

// newPlace returns a place of an empty store.
type newPlace func(t testing.TB) place

// onEach runs a test on each database.
func onEach(t *testing.T, test func(t *testing.T, at newPlace)) {
	for _, d := range []struct {
		name string
		at   newPlace
	}{{"sqlite", onSQLite}, {"postgres", onPostgres}} {
		t.Run(d.name, func(t *testing.T) {
			d.at(t) // skips the test, or starts a server that others use, too
			test(t, d.at)
		})
	}
}

// directory is the place of a SQLite database.
type directory string

func onSQLite(t testing.TB) place { return directory(t.TempDir()) }

func (d directory) open(t testing.TB) *sqldb.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), string(d), func(err error) { t.Errorf("fatal: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (d directory) crash(t testing.TB, db *sqldb.DB) place {
	t.Helper()
	to := t.TempDir()
	copyDatabase(t, string(d), to)
	return directory(to)
}

func (d directory) withoutForeignKeys(t testing.TB, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(string(d), ".berth", "metadata.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// server is the place of a PostgreSQL database: a schema of a server that all
// tests share.
type server struct {
	*pgtest.Server
	name, dsn string
}

func onPostgres(t testing.TB) place {
	t.Helper()
	s := pgtest.Shared(t)
	name, dsn := s.Schema(t)
	return server{s, name, dsn}
}

func (s server) open(t testing.TB) *sqldb.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{
		DSN: func() (config.Secret, error) { return config.Secret(s.dsn), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// crash cuts off all connections, as the end of a process does.
func (s server) crash(t testing.TB, _ *sqldb.DB) place {
	t.Helper()
	s.MustSQL(t, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '"+s.name+"'")
	return s
}

func (s server) withoutForeignKeys(t testing.TB, statement string) {
	t.Helper()
	s.MustSQL(t, "postgres", "SET search_path = "+s.name+"; SET session_replication_role = replica; "+statement)
}
