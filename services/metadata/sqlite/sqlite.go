package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/berth-registry/berth/registry/sqldb"
)

// readers is how many connections read. Each has a page cache of its own.
const readers = 4

// ErrMissing is the error of [Open] when there are blobs but no database.
var ErrMissing = errors.New("the metadata database is missing")

// Open opens the database of the store at root, and makes one if the store is
// empty. Blobs without a database are [ErrMissing]: starting with empty metadata
// would make every image disappear. A database that another process has open is
// an error.
//
// fatal is called, once, when an fsync of the database failed; it should end the
// process, because what the disk holds is no longer known.
func Open(ctx context.Context, root string, fatal func(error)) (*sqldb.DB, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("opening the metadata database: %w", err)
	}
	dir := filepath.Join(root, ".berth")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the metadata database: %w", err)
	}
	if err := refuseLinks(dir, "", "metadata.db", "metadata.db-wal", "metadata.db-shm", "metadata.db-journal"); err != nil {
		return nil, fmt.Errorf("opening the metadata database: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "metadata.lock"))
	if err != nil {
		return nil, fmt.Errorf("opening the metadata database in %s: %w", dir, err)
	}
	file := filepath.Join(dir, "metadata.db")
	if err := prepareFile(dir, file); err != nil {
		unlock()
		return nil, fmt.Errorf("opening the metadata database in %s: %w", dir, err)
	}
	// A commit may take half the time with fdatasync, and is as durable. Where
	// the system has none, fsync it is.
	sqlite.Fdatasync(true)
	o := sqldb.Options{Dialect: dialect(), Fatal: fatal, Release: unlock}
	o.Dialect.Free = func() (int64, error) { return free(dir) }
	db, err := Engine{Pool: pool, SyncDir: syncDir, Renew: renew}.Open(ctx, file, o)
	if err != nil {
		unlock()
		return nil, fmt.Errorf("opening the metadata database in %s: %w", dir, err)
	}
	return db, nil
}

// Engine is how SQLite is reached. Programs have one, in [Open]; proofs that put
// another disk below SQLite have others.
type Engine struct {
	// Pool opens a database file: so many connections, each with these pragmas.
	Pool func(file string, conns int, pragmas []string) (*sql.DB, error)
	// SyncDir makes the names in a directory durable.
	SyncDir func(dir string) error
	// Renew writes a file anew as it is, and syncs it. [fs.ErrNotExist]: there is none.
	Renew func(file string) error
}

// Open opens the database in file, which exists. It sets the pools of o.
func (e Engine) Open(ctx context.Context, file string, o sqldb.Options) (*sqldb.DB, error) {
	if err := e.renew(file); err != nil {
		return nil, fmt.Errorf("writing what an earlier process left: %w", err)
	}
	write, err := e.Pool(file, 1, writerPragmas)
	if err != nil {
		return nil, err
	}
	// The first connection turns WAL on; those that read rely on it. In a new
	// database it does so with a journal of the old kind, which SQLite removes and
	// does not sync: should it come back after loss of power it would undo that, and
	// with it all that is in the WAL.
	if err := errors.Join(write.PingContext(ctx), e.SyncDir(filepath.Dir(file))); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read, err := e.Pool(file, readers, readerPragmas)
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	o.Write, o.Read = write, read
	return sqldb.Open(ctx, o)
}

var (
	writerPragmas = []string{
		"busy_timeout(5000)",
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"wal_autocheckpoint(0)", // see checkpoint
		"foreign_keys(1)",
		"temp_store(MEMORY)",
		"cache_size(-4096)",
		"journal_size_limit(16777216)", // a burst's WAL does not stay
	}
	readerPragmas = []string{
		"busy_timeout(5000)",
		"query_only(1)",
		"temp_store(MEMORY)",
		"cache_size(-1024)",
	}
)

func pool(file string, conns int, pragmas []string) (*sql.DB, error) {
	u := url.URL{Scheme: "file", Path: file, RawQuery: url.Values{"_pragma": pragmas}.Encode()}
	c, err := sqlite.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(c)
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// refuseLinks returns an error if one of the names in dir is a symbolic link: it
// could lead to files that are not this store's.
func refuseLinks(dir string, names ...string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Errorf("%s is a symbolic link, which is not followed", path)
		}
	}
	return nil
}

// prepareFile makes the database's file if the store is empty. A file of no
// bytes, as a crash or a failed copy leaves it, is none. SQLite gives the
// files beside it the same mode, and syncs their directory entries, but not the
// entry of the database itself.
func prepareFile(dir, file string) error {
	info, err := os.Stat(file)
	if err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, name := range []string{"blobs", "journal"} {
		what := filepath.Join(dir, name)
		found, err := holdsFile(what)
		if err != nil {
			return err
		}
		if found {
			return fmt.Errorf("%w: %s does not exist or is empty, but there are files in %s; make it again with berth rebuild FILE, put it back from a backup, "+
				"or move %s away to begin with an empty store", ErrMissing, file, what, dir)
		}
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return errors.Join(syncDir(dir), syncDir(filepath.Dir(dir)))
}

// holdsFile reports whether there is a file anywhere below dir. It stops at the
// first; a blobstore that just started has made nothing but directories.
func holdsFile(dir string) (bool, error) {
	found := false
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.IsDir() {
			found = true
			return fs.SkipAll
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return found, err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
