package faults

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

var quiet = slog.New(slog.DiscardHandler)

// open opens the database of dir on a machine, as package sqlite does with its own
// driver.
func open(t *testing.T, m *machine, dir string) (*sqldb.DB, error) {
	t.Helper()
	d := sqlite.Dialect()
	d.Fatal = func(err error) bool {
		return errors.Is(err, sqlite3.IOERR_FSYNC) || errors.Is(err, sqlite3.IOERR_DIR_FSYNC)
	}
	d.Translate = func(err error) error {
		if errors.Is(err, sqlite3.FULL) {
			return registry.ErrStorageFull.Because(err)
		}
		return err
	}
	e := sqlite.Engine{
		Pool: func(file string, conns int, pragmas []string) (*sql.DB, error) {
			u := url.URL{Scheme: "file", Path: file, RawQuery: url.Values{"_pragma": pragmas, "vfs": {m.name}}.Encode()}
			db, err := openPool(u.String())
			if err == nil {
				db.SetMaxOpenConns(conns)
				db.SetMaxIdleConns(conns)
			}
			return db, err
		},
		SyncDir: func(string) error { return m.syncDir() },
		Renew:   m.renew,
	}
	return e.Open(t.Context(), filepath.Join(dir, "metadata.db"), sqldb.Options{Dialect: d, Fatal: func(error) {}})
}

// run lets clients work on a copy of the files in base, on a machine that may
// fail, and returns where the files are.
func run(t *testing.T, base string, fault func(int, string) outcome) (*machine, *clients, string) {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, ".berth")
	if err := os.CopyFS(dir, os.DirFS(base)); err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, dir)
	m.fault = fault
	c := &clients{blobs: memory.NewBlobs(), may: make(map[string][]string)}
	if tag, m := oldImage(); fileExists(t, filepath.Join(base, "old")) {
		c.may[tagName("old", tag)] = []string{string(m.Digest)}
		c.may[manifestName("old", m.Digest)] = []string{"stored"}
	}
	db, err := open(t, m, dir)
	if err != nil {
		c.errs = append(c.errs, err)
		return m, c, root
	}
	defer db.Close() // which may fail, as all else
	catalog, err := metadata.Open(t.Context(), db, c.blobs, metadata.Options{Now: c.now, Retention: policies(t)}, quiet)
	if err != nil {
		c.errs = append(c.errs, err)
		return m, c, root
	}
	defer catalog.Close()
	c.catalog = catalog
	c.work(t)
	return m, c, root
}

// checkLeft opens with the driver of the programs what is left below root. It does
// so before the time in which the clients were: what a link that failed has left
// behind is removed a day later only.
func checkLeft(t *testing.T, c *clients, root string) {
	t.Helper()
	db, err := sqlite.Open(t.Context(), root, func(err error) { t.Error(err) })
	if err != nil {
		t.Errorf("opening what is left: %v", err)
		return
	}
	defer db.Close()
	catalog, err := metadata.Open(t.Context(), db, nil, metadata.Options{}, quiet)
	if err != nil {
		t.Errorf("opening what is left: %v", err)
		return
	}
	defer catalog.Close()
	c.check(t, catalog)
}

// emptyStore returns the directory of a store before its first migration, and
// usedStore that of one after.
func emptyStore(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), ".berth")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "metadata.db"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func usedStore(t *testing.T) string {
	root := t.TempDir()
	db, err := sqlite.Open(t.Context(), root, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := metadata.Open(t.Context(), db, nil, metadata.Options{}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := catalog.UploadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(catalog.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".berth")
	removeTraces(t, dir)
	return dir
}

// removeTraces removes what a process leaves behind that has ended.
func removeTraces(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"metadata.lock", "metadata.db-shm"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// faults are the ways in which a step fails.
var faults = map[string]func(at int) func(int, string) outcome{
	"EIO once":            once(outcome{err: sqlite3.IOERR_WRITE}),
	"EIO ever":            ever(outcome{err: sqlite3.IOERR_WRITE}),
	"short write":         once(outcome{err: sqlite3.IOERR_WRITE, half: true}),
	"ENOSPC once":         once(outcome{err: sqlite3.FULL, half: true}),
	"ENOSPC ever":         ever(outcome{err: sqlite3.FULL, half: true}),
	"machine ends before": once(outcome{crash: true}),
	"machine ends after":  once(outcome{crash: true, after: true}),
}

func once(o outcome) func(int) func(int, string) outcome {
	return func(at int) func(int, string) outcome {
		return func(n int, _ string) outcome {
			if n == at {
				return o
			}
			return outcome{}
		}
	}
}

func ever(o outcome) func(int) func(int, string) outcome {
	return func(at int) func(int, string) outcome {
		return func(n int, _ string) outcome {
			if n >= at {
				return o
			}
			return outcome{}
		}
	}
}

// TestG3G4EveryStepOfTheDatabaseFails lets every call that changes a file of the
// database fail in turn, in each way, and looks at what the end of the process,
// and loss of power with none, some, and all of what was not synced, leave.
// FAULTS_STRIDE takes each so manieth step only.
func TestG3G4EveryStepOfTheDatabaseFails(t *testing.T) {
	cases, stride := 0, 1
	if text := os.Getenv("FAULTS_STRIDE"); text != "" {
		var err error
		if stride, err = strconv.Atoi(text); err != nil || stride < 1 {
			t.Fatalf("FAULTS_STRIDE=%s", text)
		}
	}
	for store, base := range map[string]string{"used": usedStore(t), "empty": emptyStore(t), "old": oldStore(t)} {
		whole, c, root := run(t, base, nil)
		if len(c.errs) > 0 {
			t.Fatalf("%s: without a fault: %v", store, c)
		}
		checkLeft(t, c, root)
		if t.Failed() {
			t.FailNow()
		}
		t.Logf("%s store: %d steps, %d operations", store, whole.steps(), c.acked)
		for name, at := range faults {
			t.Run(store+"/"+strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
				for n := len(name) % stride; n < whole.steps(); n += stride {
					t.Run(fmt.Sprintf("%d_%s", n, strings.ReplaceAll(whole.log[n], " ", "_")), func(t *testing.T) {
						cases++
						m, c, root := run(t, base, at(n))
						for part := range 3 {
							lost := filepath.Join(t.TempDir(), fmt.Sprint(part))
							if err := os.MkdirAll(filepath.Join(lost, ".berth"), 0o700); err != nil {
								t.Fatal(err)
							}
							m.powerLoss(t, filepath.Join(lost, ".berth"), part, 2)
							checkLeft(t, c, lost)
						}
						checkLeft(t, c, root)
					})
				}
			})
		}
	}
	t.Logf("%d cases, each looked at after the end of the process and after three losses of power", cases)
}
