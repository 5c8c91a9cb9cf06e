package syncer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Blobs is what the syncer needs of a blobstore.
type Blobs interface {
	registry.BlobReader
	registry.Uploads
}

// Catalog is what the syncer needs of a catalog.
type Catalog interface {
	registry.Repositories
	registry.Tags
	registry.Manifests
	registry.Links
	PutCached(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut, o registry.Origin) (registry.ManifestInfo, error)
	LinkCached(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error)
	PushedTo(ctx context.Context, a registry.Actor, repo registry.Name) (bool, error)
	Pins(ctx context.Context, a registry.Actor) ([]registry.Pin, error)
	CachedManifests(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Digest]) (registry.List[registry.CachedManifest], error)
	UntagCached(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, d registry.Digest) error
	RecordAudit(ctx context.Context, events []registry.AuditEvent) error
	Damages(ctx context.Context, a registry.Actor, after *registry.Damage, limit int) ([]registry.Damage, error)
}

// Options configure a [Service].
type Options struct {
	Rules []*Rule
	// Staging is the directory for what is being fetched. It is made if need be.
	Staging string
	// Holder names this process among those that share the database.
	Holder string
	// Shared says that other processes use the same database.
	Shared bool
	// Address is where others that share the database reach this process, "" if they
	// can't. Dial connects to one of them; nil: nobody is asked for bytes.
	Address string
	Dial    func(address string) (Peer, error)
	// Now is the clock of freshness; nil is time.Now.
	Now     func() time.Time
	Metrics *metrics.Set // nil: nobody wants to know
	Log     *slog.Logger
}

// Service implements [registry.Mirror].
type Service struct {
	set      atomic.Pointer[ruleSet]
	blobs    Blobs
	catalog  Catalog
	store    store
	staging  string
	shared   bool
	holder   string
	address  string
	dial     func(address string) (Peer, error)
	now      func() time.Time
	log      *slog.Logger
	meters   *meters
	stall    time.Duration // stallTime
	renew    time.Duration // how often a right is renewed
	patience time.Duration // confirmTime
	most     int           // maxFills
	census   atomic.Pointer[census]
	id       string // what other installations know us by

	ctx  context.Context // ends when the service closes
	stop context.CancelFunc
	work sync.WaitGroup

	counting sync.RWMutex // is taken before mu; rows of forwards and owed change together while it is held for reading

	mu        sync.Mutex // guards all below
	closed    bool
	fills     map[registry.Digest]*fill
	claimed   map[registry.Name]bool // true: pushed to; false: somebody said that this does not count
	ours      map[registry.Name]bool // that tags were fetched into, and were not claimed then
	tags      flights[tagKey, registry.Digest]
	referring flights[refKey, struct{}]
	missing   missing
	refs      map[refKey]time.Time       // when referrers were last asked for
	held      map[tagKey]registry.Digest // what tags were not moved to, as far as that was told
	owed      map[tagKey]int             // pushes of a tag that are to be passed on
	attempts  map[int64]*attempting      // of pushes that are being passed on, by number
}

// ruleState is what changes of a rule. It stays when another rule of its name takes its
// place.
type ruleState struct {
	mu      sync.Mutex
	row     ruleRow
	running bool
	kick    chan struct{}
	line    line
	waits   atomic.Pointer[string] // why scheduled copies wait, nil if they do not
	hits    atomic.Int64
	misses  atomic.Int64
	pruned  atomic.Int64
	saved   atomic.Int64  // bytes that clients got without being fetched for them
	forward chan struct{} // something is to be passed on
	told    chan struct{} // something is to be copied
	tryNow  atomic.Bool   // what has failed, too
	bytes   atomic.Int64
	paused  atomic.Bool
	lastErr atomic.Pointer[string]
}

// installation is who the syncer acts for when it stores what it fetched.
var installation = registry.Actor{ID: "berth-sync", System: true}

// New opens a syncer over a database of its own, and goes on with what was being
// fetched. Close ends it.
func New(ctx context.Context, db *sqldb.DB, blobs Blobs, catalog Catalog, o Options) (*Service, error) {
	st, err := openStore(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("opening the syncer's database: %w", err)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{
		blobs: blobs, catalog: catalog, store: st,
		stall: stallTime, renew: renewEvery, patience: confirmTime, most: maxFills, staging: o.Staging, holder: o.Holder, shared: o.Shared, address: o.Address, dial: o.Dial, now: o.Now, log: o.Log,
		fills: make(map[registry.Digest]*fill), ours: make(map[registry.Name]bool), refs: make(map[refKey]time.Time), held: make(map[tagKey]registry.Digest),
		attempts: make(map[int64]*attempting),
	}
	if err := os.MkdirAll(o.Staging, 0o700); err != nil {
		return nil, fmt.Errorf("making the staging directory: %w", err)
	}
	if s.claimed, err = st.claims(ctx); err != nil {
		return nil, fmt.Errorf("reading the syncer's database: %w", err)
	}
	set, err := s.prepare(ctx, o.Rules)
	if err != nil {
		return nil, err
	}
	s.set.Store(set)
	if s.id, err = st.identity(ctx); err == nil {
		s.owed, err = st.owed(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the syncer's database: %w", err)
	}
	if err := s.showAddress(ctx); err != nil {
		return nil, fmt.Errorf("telling other syncers of this one: %w", err)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.meters = newMeters(o.Metrics, s)
	if err := s.resume(ctx); err != nil {
		s.stop()
		return nil, err
	}
	for _, r := range set.rules {
		s.start(r, nil)
	}
	s.work.Go(s.janitor)
	s.work.Go(s.healer)
	if s.shared {
		s.work.Go(s.refresher)
	}
	if o.Metrics != nil {
		s.work.Go(s.counter)
	}
	return s, nil
}

// Close gives up what is being fetched, which the next start goes on with, and waits
// for it.
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	for _, r := range s.rules() {
		err = errors.Join(err, s.saveLine(ctx, r))
	}
	return err
}

// Check implements [registry.Checker].
func (s *Service) Check(ctx context.Context) (registry.Health, error) {
	if err := s.store.db.Ping(ctx); err != nil {
		return registry.Health{}, err
	}
	return registry.Health{}, nil
}

// resume goes on with the blobs that this process was fetching when it ended, and
// removes staged bytes that belong to none.
func (s *Service) resume(ctx context.Context) error {
	rows, err := s.store.fills(ctx, s.holder)
	if err != nil {
		return fmt.Errorf("reading what was being fetched: %w", err)
	}
	wanted := make(map[string]bool)
	for _, row := range rows {
		if strings.HasPrefix(string(row.digest), runPrefix) {
			if err := s.store.endFill(ctx, row.digest, s.holder); err != nil {
				return fmt.Errorf("giving up a right: %w", err)
			}
			continue
		}
		targets := s.onDemand(row.repo)
		if len(s.targets(row.repo)) == 0 || s.now().Sub(row.since) > abandoned {
			if err := s.store.endFill(ctx, row.digest, s.holder); err != nil {
				return fmt.Errorf("giving up a fetch: %w", err)
			}
			continue
		}
		wanted[stagedName(row.digest)] = true
		s.mu.Lock()
		busy := len(s.fills) >= s.most
		s.mu.Unlock()
		if busy || len(targets) == 0 { // it waits for who asks for it, or the next copy
			continue
		}
		f, _, err := s.startFill(row.digest, row.repo, targets, row.size, row.since, true, copier)
		if err != nil {
			return err
		}
		f.release(copier)
	}
	entries, err := os.ReadDir(s.staging)
	if err != nil {
		return fmt.Errorf("reading the staging directory: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == stagedExt && !wanted[e.Name()] {
			if err := os.Remove(filepath.Join(s.staging, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("removing staged bytes: %w", err)
			}
		}
	}
	return nil
}

// abandoned is how old a fetch may be to be gone on with after a restart.
const abandoned = 7 * 24 * time.Hour

// janitor forgets what has no meaning any more.
func (s *Service) janitor() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
		s.tidy(s.ctx)
	}
}

// unfinished is how long what has come of a blob is kept for the next attempt, from
// the first one on. It takes room that nobody counts.
const unfinished = 24 * time.Hour

func (s *Service) tidy(ctx context.Context) {
	now := s.now()
	for _, r := range s.rules() {
		if err := s.saveLine(ctx, r); err != nil && ctx.Err() == nil {
			s.log.Warn("bytes could not be counted", "rule", r.Name, "error", err)
		}
	}
	s.mu.Lock()
	for k, at := range s.refs {
		if now.Sub(at) > refsFresh {
			delete(s.refs, k)
		}
	}
	s.missing.drop(now)
	s.mu.Unlock()
	if err := s.store.dropNotices(ctx, now.Add(-noticeKeep)); err != nil && ctx.Err() == nil {
		s.log.Warn("what rules were told of that there are no more could not be forgotten", "error", err)
	}
	rows, err := s.store.fills(ctx, s.holder)
	err = errors.Join(err, s.showAddress(ctx))
	for _, row := range rows {
		if now.Sub(row.since) <= unfinished || strings.HasPrefix(string(row.digest), runPrefix) {
			continue // a right that is held does not end by being old
		}
		err = errors.Join(err, s.giveUp(ctx, row.digest))
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("what has come of blobs that nobody fetches any more could not be removed", "error", err)
	}
}

// giveUp removes what has come of a blob, unless it is being fetched.
func (s *Service) giveUp(ctx context.Context, d registry.Digest) error {
	s.mu.Lock()
	_, busy := s.fills[d]
	var err error
	if !busy { // no fetch begins meanwhile
		err = os.Remove(filepath.Join(s.staging, stagedName(d)))
	}
	s.mu.Unlock()
	if busy {
		return nil
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, s.store.endFill(ctx, d, s.holder))
}

// flights are calls that several may wait for.
type flights[K comparable, V any] struct{ all map[K]*flight[V] }

type flight[V any] struct {
	done chan struct{}
	v    V
	err  error
}

// fly returns the call for k, which it starts in the background if there is none. It
// is nil if the service is closing.
func fly[K comparable, V any](s *Service, f *flights[K, V], k K, call func(context.Context) (V, error)) *flight[V] {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if fl, ok := f.all[k]; ok {
		return fl
	}
	if f.all == nil {
		f.all = make(map[K]*flight[V])
	}
	fl := &flight[V]{done: make(chan struct{})}
	f.all[k] = fl
	s.work.Go(func() {
		fl.v, fl.err = call(s.ctx)
		s.mu.Lock()
		delete(f.all, k)
		s.mu.Unlock()
		close(fl.done)
	})
	return fl
}

var errClosing = registry.ErrUnavailable.With("the syncer is stopping")
