package metadata

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

func openDatabase(t testing.TB, root string) *sqldb.DB {
	t.Helper()
	db, err := sqlite.Open(t.Context(), root, nil)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// schema returns what the database consists of.
func schema(t *testing.T, db *sqldb.DB) []string {
	t.Helper()
	rows, err := db.Query(t.Context(), "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var name, text string
		if err := rows.Scan(&name, &text); err != nil {
			t.Fatal(err)
		}
		all = append(all, name+": "+text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// A kill after any statement of the migration leaves a database that the next
// start migrates to the same schema.
func TestG21MigrationIsKillSafe(t *testing.T) {
	fresh := openDatabase(t, t.TempDir())
	defer fresh.Close()
	if err := fresh.Migrate(t.Context(), migrations, "migrations"); err != nil {
		t.Fatal(err)
	}
	want := schema(t, fresh)
	b, err := migrations.ReadFile("migrations/0001_catalog.sql")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.SplitAfter(string(b), ";\n")
	for n := range len(parts) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			root, killed := t.TempDir(), t.TempDir()
			db := openDatabase(t, root)
			defer db.Close()
			// What a kill leaves: the files as they are in the middle of the
			// transaction that Migrate would make.
			err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
				for _, s := range parts[:n] {
					if _, err := tx.Exec(strings.ReplaceAll(s, "/*clustered*/", "WITHOUT ROWID")); err != nil {
						return err
					}
				}
				if n > 0 {
					var tables int
					if err := tx.QueryRow("SELECT COUNT(*) FROM sqlite_schema").Scan(&tables); err != nil {
						return fmt.Errorf("counting tables: %w", err)
					}
					if tables == 0 {
						return errors.New("the transaction has made no table")
					}
				}
				copyFiles(t, root, killed)
				return errKilled
			})
			if !errors.Is(err, errKilled) {
				t.Fatal(err)
			}
			again := openDatabase(t, killed)
			defer again.Close()
			if got := schema(t, again); len(got) != 0 {
				t.Errorf("half a migration is visible: %q", got)
			}
			for range 2 {
				if err := again.Migrate(t.Context(), migrations, "migrations"); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(want, schema(t, again)); diff != "" {
				t.Errorf("schema (-want +got):\n%s", diff)
			}
		})
	}
}

var errKilled = errors.New("killed")

func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(to, ".berth"), os.DirFS(filepath.Join(from, ".berth"))); err != nil {
		t.Fatal(err)
	}
}

// A migration that fails leaves the version before it, and nothing else.
func TestMigrationFails(t *testing.T) {
	db := openDatabase(t, t.TempDir())
	defer db.Close()
	steps := fstest.MapFS{
		"m/0001_a.sql": {Data: []byte("CREATE TABLE a (x TEXT);\n")},
		"m/0002_b.sql": {Data: []byte("CREATE TABLE b (x TEXT);\nINSERT INTO nowhere VALUES (1);\n")},
	}
	err := db.Migrate(t.Context(), steps, "m")
	if err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got error %v, want one about version 2", err)
	}
	if got := strings.Join(schema(t, db), "\n"); !strings.Contains(got, "a:") || strings.Contains(got, "b:") {
		t.Errorf("got schema %s, want table a only", got)
	}
	steps["m/0002_b.sql"].Data = []byte("CREATE TABLE b (x TEXT);\n")
	if err := db.Migrate(t.Context(), steps, "m"); err != nil {
		t.Error(err)
	}
	delete(steps, "m/0002_b.sql")
	err = db.Migrate(t.Context(), steps, "m")
	if err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("older program: got error %v, want one that says the database is newer", err)
	}
}

// Programs of two versions serve side by side if the newer one's migrations let
// the older one: it leaves the schema alone and works with it.
func TestOlderProgramBesideNewerOne(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) (older, newer *sqldb.DB){
		"sqlite": func(t *testing.T) (older, newer *sqldb.DB) { // one after the other
			db := openDatabase(t, t.TempDir())
			t.Cleanup(func() { db.Close() })
			return db, db
		},
		"postgres": func(t *testing.T) (older, newer *sqldb.DB) {
			_, dsn := pgtest.Shared(t).Schema(t)
			return openDSN(t, dsn), openDSN(t, dsn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			older, newer := open(t)
			steps := fstest.MapFS{"m/0001_a.sql": {Data: []byte("CREATE TABLE a (x TEXT NOT NULL);\n")}}
			migrate := func(db *sqldb.DB, versions int) error {
				known := fstest.MapFS{}
				for file, data := range steps {
					if file <= fmt.Sprintf("m/%04d_z", versions) {
						known[file] = data
					}
				}
				return db.Migrate(t.Context(), known, "m")
			}
			use := func(db *sqldb.DB, statement string) {
				t.Helper()
				err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
					_, err := tx.Exec(statement)
					return err
				})
				if err != nil {
					t.Errorf("%s: %v", statement, err)
				}
			}
			if err := migrate(older, 1); err != nil {
				t.Fatal(err)
			}
			steps["m/0002_b.sql"] = &fstest.MapFile{Data: []byte("-- oldest: 1\nALTER TABLE a ADD COLUMN y TEXT NOT NULL DEFAULT '';\n")}
			if err := migrate(newer, 2); err != nil {
				t.Fatal(err)
			}
			use(older, "INSERT INTO a (x) VALUES ('old')")
			use(newer, "INSERT INTO a (x, y) VALUES ('new', 'y')")
			if err := migrate(older, 1); err != nil {
				t.Errorf("the older program starts again: %v", err)
			}
			use(older, "INSERT INTO a (x) VALUES ('old again')")
			// The next version takes away what the first one needs.
			steps["m/0003_c.sql"] = &fstest.MapFile{Data: []byte("-- oldest: 2\nALTER TABLE a DROP COLUMN x;\n")}
			if err := migrate(newer, 3); err != nil {
				t.Fatal(err)
			}
			if err := migrate(older, 1); err == nil || !strings.Contains(err.Error(), "newer program") {
				t.Errorf("the oldest program on version 3: got error %v", err)
			}
			if err := migrate(older, 2); err != nil {
				t.Errorf("version 2 on version 3: %v", err)
			}
		})
	}
}
