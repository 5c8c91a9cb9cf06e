package metadata

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	rules "github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/spare"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/stall"
	"github.com/berth-registry/berth/services/metadata/retention"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options configure a [Catalog].
type Options struct {
	// Pools that blobs may be in, besides the default pool "".
	Pools []registry.Pool
	// AllowSparse accepts manifests whose content is missing.
	AllowSparse bool
	// AllowWrongSizes accepts manifests that tell wrong sizes of their content.
	AllowWrongSizes bool
	// Lease is how long content that nothing refers to may be used after an
	// upload, a mount or an answer that it is there. 0 means 10 minutes.
	Lease time.Duration
	// GC says when content that nothing needs is removed, and PoolGC so for pools
	// that differ.
	GC     GC
	PoolGC map[registry.Pool]GC
	// Reserve is how many bytes must be left where a database of this machine is for
	// pushes to be taken. 0: none.
	Reserve int64
	// Scrub says when stored bytes are compared with their digests.
	Scrub Scrub
	// MaxStaleness is how old an answer may be where other processes change the
	// database, too. 0 means not at all: each read is a query. A process sees its
	// own changes at once.
	MaxStaleness time.Duration
	// Access says who may do what. nil: everybody may do everything.
	Access *rules.Policy
	// Conditions compiles those of rules that are reviewed. nil: they may have none.
	Conditions rules.Compiler
	// Cache says how much content of upstreams is kept.
	Cache Cache
	// Limits are what nobody may do.
	Limits Limits
	// Follow is how long it takes at most until a process learns of what another one
	// made read-only. 0 means 2 seconds.
	Follow time.Duration
	// Retention are the policies by which tags and untagged manifests stay. nil: no
	// tag goes.
	Retention *retention.Policies
	// PoolRetention are the policies of pools that have their own: for their
	// repositories Retention does not count.
	PoolRetention map[registry.Pool]*retention.Policies
	// RetentionEvery is the time between two runs over all repositories. 0 means
	// one run, when the catalog is opened.
	RetentionEvery time.Duration
	// AuditKeep is for how long audit events are kept. 0 or less: for ever.
	AuditKeep time.Duration
	// Outbox says who is told what happens.
	Outbox Outbox
	// Search reads the configs of images, so that they can be found by what those say.
	// Without it images are found by names and manifests only.
	Search bool
	// Now returns the time. nil means time.Now.
	Now func() time.Time
	// Metrics is where the catalog counts. nil: nobody wants to know.
	Metrics *metrics.Set
}

// Catalog implements [registry.Catalog] on a database that it owns.
type Catalog struct {
	db     *sqldb.DB
	opt    Options
	access access // rights, but for tests
	rights *rights
	// policies are what may change while the catalog is open; retentionWake tells whoever
	// waits for the next run of retention.
	policies      atomic.Pointer[policies]
	retentionWake chan struct{}
	// conditions compiles those of rules that are reviewed; nil: they may have none.
	conditions rules.Compiler
	rows       rows
	log        *slog.Logger
	meters     *meters
	usage      *usage

	// quotaWake holds an element if quotas are to be begun or ended; quotaDelay is quotaSettle.
	quotaWake  chan struct{}
	quotaDelay time.Duration

	maintenance maintenance
	uses        uses
	auditKeep   atomic.Int64 // a duration
	feed        *feed
	outbox      *outbox

	evicted map[registry.Pool]*evicted

	journal *journal // nil if there is no place for one

	reaper  registry.Reaper
	garbage chan struct{}      // holds an element if the garbage queue has grown
	stop    context.CancelFunc // ends the workers
	stopped chan struct{}      // closed when the worker of the garbage queue has ended

	clock     jumps
	swept     bool          // since the catalog was opened; the collector's own
	collected chan struct{} // closed when the collector has ended

	work sync.WaitGroup // other work in the background

	space    *spare.Meter              // of the database; nil: somebody else's concern
	pressure atomic.Pointer[pressures] // how scarce storage is. nil: plenty

	scrubWake chan struct{} // holds an element if somebody asked to look at something
	scrubbed  chan struct{} // closed when scrubbing has ended
}

var _ registry.Catalog = (*Catalog)(nil)

// Open brings the schema of db up to date and returns its catalog. reaper
// removes copies that were never used, in the background; with nil they stay
// queued. The catalog doesn't own db: close it after [Catalog.Close].
func Open(ctx context.Context, db *sqldb.DB, reaper registry.Reaper, o Options, log *slog.Logger) (*Catalog, error) {
	db.Observe(o.Metrics)
	if err := db.Migrate(ctx, migrations, "migrations"); err != nil {
		return nil, fmt.Errorf("opening the catalog: %w", err)
	}
	switch source, err := moving(db.QueryRow(ctx, sqlMoving)); {
	case err != nil:
		return nil, fmt.Errorf("opening the catalog: %w", err)
	case source != "":
		return nil, fmt.Errorf("opening the catalog: %w", ErrMoving)
	}
	if err := refuseLost(ctx, db, reaper, log); err != nil {
		return nil, fmt.Errorf("opening the catalog: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Follow == 0 {
		o.Follow = 2 * time.Second
	}
	if o.Lease == 0 {
		o.Lease = defaultLease
	}
	c := &Catalog{
		db:     db,
		opt:    o,
		rights: new(rights),

		conditions:    o.Conditions,
		retentionWake: make(chan struct{}, 1),
		quotaDelay:    quotaSettle,
		quotaWake:     make(chan struct{}, 1),
		rows:          newRows(db.Dialect().Shared != nil, o.MaxStaleness/2, o.Now),
		log:           log,
		reaper:        reaper,
		feed:          newFeed(db.Dialect()),
		garbage:       make(chan struct{}, 1),
		stopped:       make(chan struct{}),

		collected: make(chan struct{}),
		scrubWake: make(chan struct{}, 1),
		scrubbed:  make(chan struct{}),
	}
	c.opt.Outbox.Keep, c.opt.Outbox.Max = cmp.Or(o.Outbox.Keep, 7*24*time.Hour), cmp.Or(o.Outbox.Max, maxWaiting)
	c.outbox = newOutbox(c, o.Metrics)
	if free := db.Dialect().Free; free != nil {
		c.space = spare.NewMeter(free)
	}
	c.access = c.rights
	c.SetAccess(o.Access)
	first, err := o.policiesOf()
	if err != nil {
		return nil, fmt.Errorf("opening the catalog: %w", err)
	}
	c.policies.Store(first)
	for _, p := range c.pools() {
		c.clock.lease = max(c.clock.lease, c.policy(p).Lease)
	}
	c.evicted = make(map[registry.Pool]*evicted)
	for _, p := range c.pools() {
		c.evicted[p] = new(evicted)
	}
	if err := errors.Join(c.readMaintenance(ctx), c.forgetQuotas(ctx), c.adjustPools(ctx)); err != nil {
		return nil, fmt.Errorf("opening the catalog: %w", err)
	}
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.meters = newMeters(o.Metrics)
	c.journal = newJournal(c, o.Metrics)
	c.usage = newUsage(ctx, c, o.Metrics)
	c.measureQueue(ctx, o.Metrics)
	go c.collectGarbage(ctx)
	go c.collectReviews(ctx)
	c.work.Go(func() { c.keepFeed(ctx) })
	c.work.Go(func() { c.keepUses(ctx) })
	c.work.Go(func() { c.keepSearch(ctx) })
	c.auditKeep.Store(int64(o.AuditKeep))
	c.work.Go(func() { c.expireAudit(ctx) })
	if db.Dialect().Shared != nil {
		c.work.Go(func() { c.followMaintenance(ctx) })
	}
	c.work.Go(func() { c.keepQuotas(ctx) })
	c.work.Go(func() { c.keepRetention(ctx) })
	c.work.Go(func() { c.keepCache(ctx) })
	go c.scrubbing(ctx)
	if err := c.outbox.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the catalog: %w", err), c.Close())
	}
	if blobs, ok := reaper.(registry.Checker); ok {
		c.work.Go(func() { c.feelPressure(ctx, blobs) })
	}
	return c, nil
}

// Close ends the work in the background and waits for it.
func (c *Catalog) Close() error {
	c.stop()
	<-c.stopped
	<-c.collected
	c.work.Wait()
	<-c.scrubbed
	c.usage.close()
	return nil
}

// Check reports whether the database answers.
func (c *Catalog) Check(ctx context.Context) (registry.Health, error) {
	if oldest := c.db.Oldest(); oldest >= stall.After {
		return registry.Health{}, registry.ErrUnavailable.Because(fmt.Errorf("a transaction has not ended for %v: the disk does not answer", oldest.Round(time.Second)))
	}
	if err := c.db.Ping(ctx); err != nil {
		return registry.Health{}, fmt.Errorf("checking the database: %w", err)
	}
	if err := c.db.Failed(); err != nil {
		return registry.Health{ReadOnly: "an fsync of the metadata database failed"}, nil
	}
	return registry.Health{}, nil
}

func (c *Catalog) now() int64 { return c.opt.Now().UnixMicro() }

// change returns an empty set of rows that an operation changes.
func (c *Catalog) change() *change { return &change{rows: &c.rows} }

const sqlRepo = `SELECT id FROM repositories WHERE name = $1`

// repoID returns the identity of repo, or [registry.ErrNameUnknown].
func repoID(tx *sqldb.Tx, repo registry.Name) (int64, error) {
	return scanRepo(tx.QueryRow(sqlRepo, string(repo)))
}

// readRepoID is repoID outside of transactions: an identity never changes.
func (c *Catalog) readRepoID(ctx context.Context, repo registry.Name) (int64, error) {
	return scanRepo(c.db.QueryRow(ctx, sqlRepo, string(repo)))
}

func scanRepo(row interface{ Scan(...any) error }) (int64, error) {
	var id int64
	err := row.Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, registry.ErrNameUnknown
	}
	if err != nil {
		return 0, fmt.Errorf("looking up a repository: %w", err)
	}
	return id, nil
}

const sqlMakeRepo = `
	INSERT INTO repositories (name, id, created)
	VALUES ($1, COALESCE($2, (SELECT COALESCE(MAX(n), 0) + 1 FROM (SELECT MAX(id) AS n FROM repositories UNION ALL SELECT last FROM repository_ids WHERE one = 1) ids)), $3) RETURNING id`

// makeRepo returns the identity of repo, which it creates if there is none.
func (c *Catalog) makeRepo(tx *sqldb.Tx, repo registry.Name, a registry.Actor) (int64, error) {
	id, err := repoID(tx, repo)
	if !errors.Is(err, registry.ErrNameUnknown) {
		return id, err
	}
	if err := tx.QueryRow(sqlMakeRepo, string(repo), c.newID(), c.now()).Scan(&id); err != nil {
		return 0, fmt.Errorf("creating a repository: %w", err)
	}
	return id, c.tell(tx, RepositoryMade, id, a, nil)
}

// newID returns the identity of a repository that is about to be made; nil means
// the next number. Where several make one at the same time the next would be the
// same for all of them, so it is milliseconds and 20 random bits. If that is
// taken, too, the operation runs again.
func (c *Catalog) newID() any {
	if c.db.Dialect().Shared == nil {
		return nil
	}
	return c.opt.Now().UnixMilli()<<20 | rand.Int64N(1<<20)
}
