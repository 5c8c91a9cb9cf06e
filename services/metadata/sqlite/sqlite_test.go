package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"modernc.org/sqlite"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

func mustOpen(t *testing.T, root string) *sqldb.DB {
	t.Helper()
	db, err := Open(t.Context(), root, func(err error) { t.Errorf("fatal: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestPragmas(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "a ?#%20 root"))
	defer db.Close()
	writer := map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "cache_size": "-4096", "wal_autocheckpoint": "0"}
	for pragma, want := range writer {
		err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			var got string
			if err := tx.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil {
				return err
			}
			if got != want {
				return fmt.Errorf("%s of the writer is %s, want %s", pragma, got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "query_only": "1", "cache_size": "-1024"} {
		var got string
		if err := db.QueryRow(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s of readers is %s (%v), want %s", pragma, got, err, want)
		}
	}
	if !sqlite.FdatasyncEnabled() {
		t.Error("commits use fsync, want fdatasync")
	}
}

func TestS137FilesAreForTheOwnerOnly(t *testing.T) {
	root := t.TempDir()
	db := mustOpen(t, root)
	defer db.Close()
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec("CREATE TABLE a (x TEXT)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"metadata.db", "metadata.db-wal", "metadata.db-shm", "metadata.lock"} {
		fi, err := os.Stat(filepath.Join(root, ".berth", name))
		if err != nil {
			t.Error(err)
		} else if fi.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, want 0600", name, fi.Mode())
		}
	}
}

// TestS133LinksAreNotFollowed: what a link leads to is not ours to change.
func TestS133LinksAreNotFollowed(t *testing.T) {
	for _, name := range []string{"", "metadata.db", "metadata.db-wal", "metadata.lock"} {
		root, outside := t.TempDir(), t.TempDir()
		at := filepath.Join(root, ".berth", name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(outside, name), at); err != nil {
			t.Fatal(err)
		}
		if db, err := Open(t.Context(), root, nil); err == nil {
			db.Close()
			t.Errorf("opened with a link at .berth/%s", name)
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
			t.Errorf("a link at .berth/%s: %v, %v in the directory that it leads to", name, left, err)
		}
	}
}

func TestG12SecondOpenIsRefused(t *testing.T) {
	root := t.TempDir()
	db := mustOpen(t, root)
	_, err := Open(t.Context(), root, nil)
	if err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second Open: got error %v, want one about another process", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, root).Close(); err != nil {
		t.Errorf("Open after Close: %v", err)
	}
}

func TestG12MissingDatabase(t *testing.T) {
	root := t.TempDir()
	shard := filepath.Join(root, ".berth", "blobs", "sha256", "ab")
	if err := os.MkdirAll(shard, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, root).Close(); err != nil { // directories are no blobs
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(shard, "ab12"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, root).Close(); err != nil { // it has a database
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(root, ".berth", "metadata.db")); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), root, nil)
	if !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "backup") {
		t.Errorf("Open: got error %v, want ErrMissing with a hint", err)
	}
	if _, err := os.Stat(filepath.Join(root, ".berth", "metadata.db")); err == nil {
		t.Error("Open made a database all the same")
	}
	if err := os.WriteFile(filepath.Join(root, ".berth", "metadata.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), root, nil); !errors.Is(err, ErrMissing) {
		t.Errorf("Open of a file of no bytes: got error %v, want ErrMissing", err)
	}
}

// The log is copied into the database without SQLite's own checkpoints, which
// don't tell of a failed fsync.
func TestCheckpoint(t *testing.T) {
	root := t.TempDir()
	db := mustOpen(t, root)
	defer db.Close()
	const rows, size = 30, 1 << 20
	for i := range rows + 1 {
		err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if i == 0 {
				_, err := tx.Exec("CREATE TABLE a (x BYTEA)")
				return err
			}
			_, err := tx.Exec("INSERT INTO a VALUES ($1)", make([]byte, size))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, bounds := range map[string][2]int64{
		"metadata.db":     {rows*size - checkpointAt*4096 - 2*size, 2 * rows * size},
		"metadata.db-wal": {1, checkpointAt*4096 + 2*size},
	} {
		fi, err := os.Stat(filepath.Join(root, ".berth", name))
		if err != nil {
			t.Fatal(err)
		}
		if n := fi.Size(); n < bounds[0] || n > bounds[1] {
			t.Errorf("%s has %d bytes, want %d to %d", name, n, bounds[0], bounds[1])
		}
	}
}

// A disk that is full, here a database that may not grow, undoes the operations
// that met it, says so, and passes.
func TestFullDatabase(t *testing.T) {
	db := mustOpen(t, t.TempDir())
	defer db.Close()
	write := func(query string, args ...any) error {
		return db.Write(t.Context(), func(tx *sqldb.Tx) error {
			_, err := tx.Exec(query, args...)
			return err
		})
	}
	var pages int
	for _, q := range []string{"CREATE TABLE a (x BYTEA)", "INSERT INTO a VALUES (zeroblob(100))"} {
		if err := write(q); err != nil {
			t.Fatal(err)
		}
	}
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow("PRAGMA max_page_count = 10").Scan(&pages)
	})
	if err != nil {
		t.Fatal(err)
	}
	// Many at once, so that some share a transaction.
	var wg sync.WaitGroup
	failed := make(chan error, 64)
	for i := range cap(failed) {
		wg.Go(func() { failed <- write("INSERT INTO a VALUES ($1)", make([]byte, 1+i%2*8000)) })
	}
	wg.Wait()
	kept := 1
	for range cap(failed) {
		if err := <-failed; err == nil {
			kept++
		} else if !errors.Is(err, registry.ErrStorageFull) {
			t.Errorf("got error %v, want ErrStorageFull", err)
		}
	}
	var rows int
	if err := db.QueryRow(t.Context(), "SELECT COUNT(*) FROM a").Scan(&rows); err != nil || rows != kept {
		t.Errorf("the table has %d rows (%v), and %d operations succeeded", rows, err, kept)
	}
	if kept > 60 {
		t.Errorf("%d operations succeeded: the database was not full", kept)
	}
	err = db.Write(t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow("PRAGMA max_page_count = 1000").Scan(&pages)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := write("INSERT INTO a VALUES ($1)", make([]byte, 8000)); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

func TestErrors(t *testing.T) {
	plain := errors.New("plain")
	if translate(plain) != plain || isFatal(plain) || isFatal(nil) {
		t.Error("an error that is not of SQLite was changed or is fatal")
	}
	db := mustOpen(t, t.TempDir())
	defer db.Close()
	err := db.Write(context.Background(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec("INSERT INTO nowhere VALUES (1)")
		return err
	})
	if code(err) != 1 {
		t.Errorf("got error %v with code %d, want SQLITE_ERROR (1)", err, code(err))
	}
	// What a connection gets that can't open the file, as without a descriptor (G23).
	missing, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "none", "x.db")+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer missing.Close()
	if err := translate(missing.PingContext(t.Context())); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a file that can't be opened: got %v, want %v", err, registry.ErrUnavailable)
	}
}
