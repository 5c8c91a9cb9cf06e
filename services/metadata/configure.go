package metadata

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	rules "github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/retention"
)

// OpenDB opens the database that a config file describes. It calls fatal, once,
// when what the database holds is no longer known; the process should end then.
type OpenDB func(ctx context.Context, cfg config.Storage, fatal func(error), log *slog.Logger) (*sqldb.DB, error)

// Service is a [Catalog] with the database it was opened on. It takes over the
// repositories of another registry that its blobstore finds.
type Service struct {
	*Catalog
	DB       *sqldb.DB
	takeover *takeover // nil if the blobstore has no such repositories
}

// FinishFence sets how long [Finish] waits before it removes anything, for tests that
// know that nobody was told of a file. It is to be called before anything is asked for.
func (s *Service) FinishFence(d time.Duration) { s.takeover.fence = d }

// Close ends the catalog's work and closes its database.
func (s *Service) Close() error {
	if s.takeover != nil {
		s.takeover.close()
	}
	return errors.Join(s.Catalog.Close(), s.DB.Close())
}

// Drivers are what a program has in it.
type Drivers struct {
	// Databases by the name in storage.metadata.driver.
	Databases map[string]OpenDB
	// Conditions compiles the conditions of access rules. nil if the program can't.
	Conditions rules.Compiler
	// NATS connects to a NATS server that events go to. nil if the program can't.
	NATS func(config.Sink, outbound.Rules, daemon.Process) (Sink, error)
}

// OpenConfigured opens the catalog that a config file describes. It follows the
// file's access rules as they change.
func OpenConfigured(ctx context.Context, file *config.Config, has Drivers, reaper registry.Reaper, fatal func(error), p daemon.Process) (*Service, error) {
	cfg, drivers := file.Storage, has.Databases
	policy, err := rules.Compile(file.HTTP.AccessControl, has.Conditions)
	if err != nil {
		return nil, fmt.Errorf("http.accessControl.%w", err)
	}
	db, err := OpenDatabase(ctx, cfg, drivers, fatal, p.Log)
	if err != nil {
		return nil, err
	}
	o, err := policyOptions(file)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	o.Access, o.Conditions = policy, has.Conditions
	o.MaxStaleness, o.Metrics, o.AuditKeep = cfg.Metadata.MaxStaleness, p.Metrics, file.Log.AuditRetention
	o.Search = file.Extensions.Searched()
	o.Reserve = int64(cfg.Reserve) / 2
	for name := range cfg.SubPaths {
		o.Pools = append(o.Pools, registry.Pool(name))
	}
	if o.Outbox.Sinks, err = sinksOf(file, has, p); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c, err := Open(ctx, db, reaper, o, p.Log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	s := &Service{Catalog: c, DB: db}
	c.follow(p, has)
	if blobs, ok := reaper.(LayoutBlobs); ok {
		s.takeover = newTakeover(ctx, c, blobs)
		s.takeover.observe(p.Metrics)
		s.takeover.start()
	}
	return s, nil
}

// sinksOf returns who is told what happens.
func sinksOf(file *config.Config, has Drivers, p daemon.Process) (all []Sink, err error) {
	if file.Extensions == nil || !file.Extensions.Events.Enabled() {
		return nil, nil
	}
	allowed, err := file.Outbound.Rules()
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for i, c := range file.Extensions.Events.Sinks {
		open := HTTPSink
		if c.Type == "nats" {
			open = has.NATS
		}
		if open == nil {
			return nil, fmt.Errorf("extensions.events.sinks[%d].type: this program has no NATS client: berth and berth-metadata have", i)
		}
		s, err := open(c, allowed, p)
		if err != nil {
			return nil, fmt.Errorf("extensions.events.sinks[%d]: %w", i, err)
		}
		if names[s.Name()] {
			return nil, fmt.Errorf("extensions.events.sinks[%d]: there are two of this type, address and channel", i)
		}
		names[s.Name()] = true
		all = append(all, s)
	}
	return all, nil
}

// cacheOf returns what a config file says of cached content.
func cacheOf(cfg config.Storage) Cache {
	o := Cache{Bytes: cfg.Cache.Bytes, Pins: slices.Clone(cfg.Cache.Pins), PoolBytes: make(map[registry.Pool]int64, len(cfg.SubPaths))}
	for name, sub := range cfg.SubPaths {
		o.PoolBytes[registry.Pool(name)] = sub.Cache.Bytes
		o.Pins = append(o.Pins, sub.Cache.Pins...)
	}
	return o
}

// scrubOf returns what a config file says of scrubbing.
func scrubOf(cfg *config.Config) Scrub {
	s := Scrub{AlwaysVerify: cfg.Storage.VerifyReads == config.VerifyAlways}
	if e := cfg.Extensions; e != nil && e.Scrub != nil && e.Scrub.Enabled() {
		s.On, s.Interval, s.Rate = true, e.Scrub.Interval, int64(e.Scrub.Rate)*1_000_000
	}
	return s
}

// limitsOf returns the limits that a config file sets.
func limitsOf(cfg config.Storage) (l Limits, err error) {
	l.MaxRepos = cfg.MaxRepos
	if l.ReadOnly, err = glob.CompileAll(cfg.ReadOnly); err != nil {
		return l, fmt.Errorf("storage.readOnly: %w", err)
	}
	for _, q := range cfg.Quotas {
		set, err := glob.CompileAll(q.Repositories)
		if err != nil {
			return l, fmt.Errorf("storage.quotas: %w", err)
		}
		l.Quotas = append(l.Quotas, Quota{Repositories: set, Bytes: q.Bytes})
	}
	for _, m := range cfg.ImmutableTags {
		var i ImmutableTags
		if i.Repositories, err = glob.CompileAll(m.Repositories); err == nil {
			i.Tags, err = glob.CompileAll(m.Tags)
		}
		if err != nil {
			return l, fmt.Errorf("storage.immutableTags: %w", err)
		}
		l.Immutable = append(l.Immutable, i)
	}
	return l, nil
}

// retain sets what the config file says of retention. As in zot a pool of subPaths
// has policies of its own: those of storage.retention are not for its repositories.
func (o *Options) retain(cfg config.Storage) (err error) {
	if o.Retention, err = retention.Compile(cfg.Retention, cfg.GCDelay); err != nil {
		return fmt.Errorf("storage.retention: %w", err)
	}
	o.PoolRetention = make(map[registry.Pool]*retention.Policies, len(cfg.SubPaths))
	for name, sub := range cfg.SubPaths {
		if o.PoolRetention[registry.Pool(name)], err = retention.Compile(sub.Retention, sub.GCDelay); err != nil {
			return fmt.Errorf("storage.subPaths.%s.retention: %w", name, err)
		}
	}
	return nil
}

// collect sets what the config file says of garbage collection. The lease is
// never shorter than an upload may take to be used.
func (o *Options) collect(cfg config.Storage) error {
	of := func(p config.Pool) (GC, error) {
		dry := p.Retention != nil && p.Retention.DryRun // removes nothing at all
		g := GC{Off: !p.GC || dry, Lease: max(p.GCDelay, defaultLease), Undo: max(p.GCDelay, cfg.UndoWindow, time.Nanosecond), Interval: cmp.Or(p.GCInterval, onlyAtStart)}
		var err error
		g.From, g.To, err = p.Window()
		return g, err
	}
	var err error
	if o.GC, err = of(cfg.Pool); err != nil {
		return err
	}
	o.PoolGC = make(map[registry.Pool]GC, len(cfg.SubPaths))
	for name, sub := range cfg.SubPaths {
		if o.PoolGC[registry.Pool(name)], err = of(sub.Pool); err != nil {
			return err
		}
	}
	return nil
}

// OpenDatabase opens the database that the storage section of a config file
// describes, with what [OpenConfigured] wants as drivers.
func OpenDatabase(ctx context.Context, cfg config.Storage, drivers map[string]OpenDB, fatal func(error), log *slog.Logger) (*sqldb.DB, error) {
	open := drivers[cfg.Metadata.Driver]
	if open == nil {
		return nil, fmt.Errorf("storage.metadata.driver: this program has no driver %q, only %s: berth and berth-metadata have all",
			cfg.Metadata.Driver, strings.Join(slices.Sorted(maps.Keys(drivers)), ", "))
	}
	return open(ctx, cfg, fatal, log)
}
