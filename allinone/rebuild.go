package allinone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata"
)

// rebuild is the command that makes a lost database again.
func rebuild(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "rebuild", Args: "FILE",
		Summary: "make a lost metadata database again, from the journal in the store: exit code 0, or 1 if something could not be made again",
		Example: program + " rebuild config.json && " + program + " fsck config.json",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			asJSON := flags.Bool("json", false, "print each finding, and what was made, as a line of JSON")
			args, err := cli.ParseArgs(flags, args, 1)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return daemon.Exit{Code: cli.ExitUsage, Err: errors.New("rebuild: a config file is needed")}
			}
			r, err := runRebuild(ctx, args[0], parts, printer(out, *asJSON))
			switch {
			case err != nil:
				return daemon.Exit{Code: exitNotDone, Err: fmt.Errorf("rebuild: %w", err)}
			case r.Problems > 0:
				err = daemon.Exit{Code: exitFindings, Err: fmt.Errorf("rebuild: the database was made again, but for %d findings: check it with fsck", r.Problems)}
			}
			if *asJSON {
				encoded := json.NewEncoder(out).Encode(map[string]any{
					"asOf": r.Last.UTC(), "snapshot": r.Snapshot.UTC(), "changes": r.Events, "relocated": r.Relocated, "unknown": r.Unknown, "findings": r.Problems,
				})
				if err == nil {
					err = encoded
				}
				return err
			}
			fmt.Fprintf(out, "the database is as of %s: a snapshot of %s and %d changes behind it; what happened later is not known\n",
				r.Last.UTC().Format(time.RFC3339), r.Snapshot.UTC().Format(time.RFC3339), r.Events)
			fmt.Fprintf(out, "%d blobs use another copy than before; %d copies belong to nothing that is known and will be collected\n", r.Relocated, r.Unknown)
			return err
		},
	}
}

// runRebuild makes the database of a config file again. It is made aside, and is
// there as a whole or not at all.
func runRebuild(ctx context.Context, file string, parts Parts, report func(registry.Finding) error) (r *metadata.Rebuilt, err error) {
	cfg, _, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	if err := storeExists(cfg); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if err := notServed(ctx, cfg); err != nil {
		return nil, err
	}
	blobs, err := openBlobs(ctx, cfg, parts, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	var printing error
	aside, err := newAside(ctx, cfg, parts, log, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, aside.remove()) }()
	r, err = metadata.Rebuild(ctx, aside.db, blobs, func(f registry.Finding) { printing = errors.Join(printing, report(f)) })
	if err = errors.Join(err, printing); err != nil {
		return nil, err
	}
	return r, aside.place(ctx)
}

// notServed returns an error if another process serves the store.
func notServed(ctx context.Context, cfg *config.Config) error {
	if !onDisk(cfg) {
		return nil
	}
	c, err := rpc.DialControl(ctx, cfg.Storage.RootDirectory)
	if errors.Is(err, rpc.ErrNoControl) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(errors.New("another process serves the store: stop it first"), c.Close())
}

// openBlobs opens the blobstore of a config file, or connects to it.
func openBlobs(ctx context.Context, cfg *config.Config, parts Parts, log *slog.Logger) (Blobs, error) {
	if len(cfg.Services.Blobstore.Address) == 0 {
		return parts.Blobs(ctx, cfg, daemon.Process{Log: log})
	}
	security, err := rpc.Secure(cfg.Services, log)
	if err != nil {
		return nil, err
	}
	return dialBlobs(cfg.Services.Blobstore.Address, rpc.DialOptions{Security: security})
}

// aside is a SQLite database that becomes, or fills, that of a config file.
type aside struct {
	cfg    *config.Config
	parts  Parts
	log    *slog.Logger
	dir    string // its root
	db     *sqldb.DB
	broken error
}

// newAside makes an empty one. elsewhere: it is never placed.
func newAside(ctx context.Context, cfg *config.Config, parts Parts, log *slog.Logger, elsewhere bool) (*aside, error) {
	a := &aside{cfg: cfg, parts: parts, log: log}
	var err error
	if cfg.Storage.Metadata.Driver == config.SQLite && !elsewhere {
		if err := a.mayPlace(); err != nil {
			return nil, err
		}
		a.dir = filepath.Join(cfg.Storage.RootDirectory, ".berth", "aside")
		if err = os.MkdirAll(filepath.Dir(a.dir), 0o700); err == nil {
			err = os.RemoveAll(a.dir) // of a run that was killed
		}
	} else {
		a.dir, err = os.MkdirTemp("", "berth-aside-")
	}
	if err != nil {
		return nil, err
	}
	at := cfg.Storage
	at.RootDirectory, at.Metadata = a.dir, config.Metadata{Driver: config.SQLite}
	a.db, err = parts.Database(ctx, at, func(err error) { a.broken = err }, log)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(a.dir))
	}
	return a, nil
}

func (a *aside) file() string {
	return filepath.Join(a.cfg.Storage.RootDirectory, ".berth", "metadata.db")
}

// mayPlace returns an error if there is a database already.
func (a *aside) mayPlace() error {
	info, err := os.Stat(a.file())
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0:
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("there is a database already: %s; move it away first if it is of no use", a.file())
}

// closeDB ends the use of the database aside.
func (a *aside) closeDB() error {
	if a.db == nil {
		return nil
	}
	err := errors.Join(a.db.Close(), a.broken)
	a.db = nil
	return err
}

// asideSource is what the marks of unfinished rebuilds say.
const asideSource = "a catalog that was made again"

// place lets the database be that of the config file.
func (a *aside) place(ctx context.Context) error {
	if a.cfg.Storage.Metadata.Driver != config.SQLite {
		return a.fill(ctx)
	}
	if err := a.closeDB(); err != nil {
		return err
	}
	if err := a.mayPlace(); err != nil {
		return err
	}
	made := filepath.Join(a.dir, ".berth", "metadata.db")
	if _, err := os.Stat(made + "-wal"); err == nil {
		return errors.New("the new database was not closed cleanly")
	}
	for _, rest := range []string{"-wal", "-shm"} { // of the lost one: they would be taken for the new one's
		if err := os.Remove(a.file() + rest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(made, a.file()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(a.file()))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// fill copies it into a database of a server.
func (a *aside) fill(ctx context.Context) (err error) {
	to, err := a.parts.Database(ctx, a.cfg.Storage, func(err error) { a.broken = err }, a.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	// What an interrupted run has left may be of another moment.
	if _, err := metadata.AbandonMove(ctx, to, asideSource, true); err != nil {
		return err
	}
	return (&metadata.Move{From: a.db, To: to, Source: asideSource}).Run(ctx)
}

// remove removes what is left.
func (a *aside) remove() error { return errors.Join(a.closeDB(), os.RemoveAll(a.dir)) }

// take fills the database aside with what a catalog exports, and ends its use.
func (a *aside) take(ctx context.Context, from registry.Exporter) error {
	parts := make(chan []byte)
	exported := make(chan error, 1)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(parts)
		exported <- from.Export(inner, func(part []byte) error {
			select {
			case parts <- bytes.Clone(part):
				return nil
			case <-inner.Done():
				return inner.Err()
			}
		})
	}()
	err := metadata.Import(ctx, a.db, func() ([]byte, error) {
		if part, ok := <-parts; ok {
			return part, nil
		}
		return nil, io.EOF // too early a one is an error of the import
	})
	cancel()
	for range parts { // until the export has ended
	}
	if failed := <-exported; err != nil && failed != nil && !errors.Is(failed, context.Canceled) {
		err = failed // which is why the import lacks something
	}
	return errors.Join(err, a.closeDB())
}
