package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/metadata"
)

// migrate is the command that moves a stopped store to other engines.
func migrate(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "migrate", Args: "--from FILE --to FILE",
		Summary: "move a stopped store to another database, another blobstore, or both; run it again to go on after an interruption",
		Example: program + " migrate --from edge.json --to cluster.json",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			var o migrateOptions
			flags.StringVar(&o.from, "from", "", "config file of the store as it is")
			flags.StringVar(&o.to, "to", "", "config file of the store as it will be")
			flags.IntVar(&o.workers, "workers", 4, "how many blobs to copy at a time")
			flags.BoolVar(&o.keepDamaged, "keep-damaged", false, "move blobs that have no intact copy by name only, instead of stopping")
			flags.BoolVar(&o.abandon, "abandon", false, "give up an unfinished migration: empty the target's catalog, and leave the source as it is")
			if _, err := cli.ParseArgs(flags, args, 0); err != nil {
				return err
			}
			if o.from == "" || o.to == "" {
				return daemon.Exit{Code: cli.ExitUsage, Err: errors.New("migrate: --from and --to are needed")}
			}
			if err := o.run(ctx, parts, out); err != nil {
				return fmt.Errorf("migrate: %w", err)
			}
			return nil
		},
	}
}

// migrateOptions are what the command line says.
type migrateOptions struct {
	from, to    string
	workers     int
	keepDamaged bool
	abandon     bool
}

func (o migrateOptions) run(ctx context.Context, parts Parts, out io.Writer) (err error) {
	from, _, err := config.Load(o.from)
	if err != nil {
		return err
	}
	to, _, err := config.Load(o.to)
	if err != nil {
		return err
	}
	p, err := planMigration(from.Storage, to.Storage)
	if err != nil {
		return err
	}
	m := &migration{parts: parts, log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	defer func() { err = errors.Join(err, m.close()) }()
	if o.abandon {
		return m.abandon(ctx, p, out)
	}
	move := &metadata.Move{
		Source:      p.source,
		Workers:     o.workers,
		KeepDamaged: o.keepDamaged,
		Found:       func(f registry.Finding) { fmt.Fprintln(out, f) },
		Progress:    progressPrinter(out, time.Now),
	}
	if err := m.open(ctx, p, move); err != nil {
		return err
	}
	resuming, err := move.Resuming(ctx)
	if err != nil {
		return err
	}
	if resuming {
		fmt.Fprintln(out, "going on with the migration that was interrupted")
	} else if err := m.wantEmpty(ctx); err != nil {
		return err
	}
	if err := move.Run(ctx); err != nil {
		return err
	}
	fmt.Fprintf(out, "done: serve %s from now on; what %s describes was left as it was\n", o.to, o.from)
	return nil
}

// progressEvery is the time between two lines about progress.
const progressEvery = 5 * time.Second

func progressPrinter(out io.Writer, now func() time.Time) func(metadata.MoveProgress) {
	last := now()
	return func(p metadata.MoveProgress) {
		if t := now(); p.Blobs == p.AllBlobs || t.Sub(last) >= progressEvery {
			last = t
			fmt.Fprintf(out, "%d of %d blobs, %.1f of %.1f MB\n", p.Blobs, p.AllBlobs, float64(p.Bytes)/1e6, float64(p.AllBytes)/1e6)
		}
	}
}

// migration holds what is open while a store moves.
type migration struct {
	parts   Parts
	log     *slog.Logger
	targets []registry.Blobs // of the pools that move
	closers []io.Closer
	broken  error // the fatal error of a database
}

// close closes everything, the last that was opened first.
func (m *migration) close() error {
	err := m.broken
	for i := len(m.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, m.closers[i].Close())
	}
	return err
}

// open opens both sides.
func (m *migration) open(ctx context.Context, p *migrationPlan, move *metadata.Move) error {
	fatal := func(err error) { m.broken = err }
	db, err := m.parts.Database(ctx, p.to, fatal, m.log)
	if err != nil {
		return fmt.Errorf("opening the target's catalog: %w", err)
	}
	m.closers = append(m.closers, db)
	move.From, move.To = db, db
	if p.rows {
		if move.From, err = m.parts.Database(ctx, p.from, fatal, m.log); err != nil {
			return fmt.Errorf("opening the source's catalog: %w", err)
		}
		m.closers = append(m.closers, move.From)
	}
	move.Pools = make(map[registry.Pool]func(context.Context, registry.Stored) (registry.Stored, error))
	for name, pools := range p.pools {
		from, err := m.parts.Pool(ctx, pools.from, m.log)
		if err != nil {
			return fmt.Errorf("opening pool %q of the source: %w", name, err)
		}
		m.closers = append(m.closers, from)
		to, err := m.parts.Pool(ctx, pools.to, m.log)
		if err != nil {
			return fmt.Errorf("opening pool %q of the target: %w", name, err)
		}
		m.closers = append(m.closers, to)
		m.targets = append(m.targets, to)
		move.Pools[name] = func(ctx context.Context, s registry.Stored) (registry.Stored, error) {
			return copyBlob(ctx, from, to, s)
		}
	}
	return nil
}

// wantEmpty returns an error if a pool that is to be filled has blobs: they are of
// another store.
func (m *migration) wantEmpty(ctx context.Context) error {
	for _, to := range m.targets {
		found, err := to.Copies(ctx, "", nil, 1)
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return fmt.Errorf("the target's blobstore is not empty: it holds %s, for one", found[0].Digest)
		}
	}
	return nil
}

// copyBlob makes a copy of s, or finds the one that an interrupted run has made.
func copyBlob(ctx context.Context, from, to registry.Blobs, s registry.Stored) (registry.Stored, error) {
	made, err := to.Copies(ctx, "", &registry.Stored{Digest: s.Digest}, 1)
	if err != nil {
		return registry.Stored{}, err
	}
	if len(made) == 1 && made[0].Digest == s.Digest && made[0].Size == s.Size {
		switch err := to.Verify(ctx, made[0], 0); {
		case err == nil:
			return made[0], nil
		case !errors.Is(err, registry.ErrDigestInvalid) && !errors.Is(err, registry.ErrBlobUnknown):
			return registry.Stored{}, err
		}
		if err := to.Remove(ctx, made[0]); err != nil {
			return registry.Stored{}, err
		}
	}
	content, err := from.Open(ctx, s, registry.Whole)
	if err != nil {
		return registry.Stored{}, err
	}
	defer content.Close()
	u, err := to.Start(ctx, "", s.Digest.Algorithm())
	if err != nil {
		return registry.Stored{}, err
	}
	stored, err := to.Commit(ctx, u, content, s.Digest)
	if err != nil {
		// The session would be removed in a day; it takes space until then.
		return registry.Stored{}, errors.Join(err, to.Abort(context.WithoutCancel(ctx), u))
	}
	return stored, nil
}

// abandon gives the target up.
func (m *migration) abandon(ctx context.Context, p *migrationPlan, out io.Writer) error {
	db, err := m.parts.Database(ctx, p.to, func(err error) { m.broken = err }, m.log)
	if err != nil {
		return fmt.Errorf("opening the target's catalog: %w", err)
	}
	m.closers = append(m.closers, db)
	found, err := metadata.AbandonMove(ctx, db, p.source, p.rows)
	if err != nil {
		return err
	}
	if !found {
		return errors.New("there is no unfinished migration to abandon")
	}
	fmt.Fprintln(out, "the migration was given up; copies of blobs that it made are still at the target")
	return nil
}
