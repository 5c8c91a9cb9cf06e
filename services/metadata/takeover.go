package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// TakeoverActor is whom histories of tags name for what was taken over. No user
// has a name with a space.
const TakeoverActor = "taken over"

// LayoutBlobs is a blobstore that can read somebody else's image layouts.
type LayoutBlobs interface {
	registry.BlobReader
	registry.LayoutReader
}

// LayoutOwner is a blobstore that can make them its own, too.
type LayoutOwner interface {
	registry.BlobReader
	registry.Layouts
}

// How long requests wait for what they need to be taken over.
const (
	takeoverPatience = 30 * time.Second // for one repository
	listPatience     = 5 * time.Second  // for the names of all of them
)

// What fails in the background is tried again after a pause, which doubles.
const (
	takeoverPause    = time.Second
	takeoverPauseMax = time.Minute
	takeoverRounds   = 20
)

// takeovers is how many repositories are taken over at a time because somebody
// asked for them.
const takeovers = 2

// takeover brings the repositories of another registry into the catalog: all of
// them in the background, one when somebody asks for it.
type takeover struct {
	c     *Catalog
	blobs LayoutBlobs
	log   *slog.Logger

	ctx  context.Context // ends when the catalog is closed
	stop context.CancelFunc
	work sync.WaitGroup

	// idle is set once there is nothing that could be taken over any more.
	idle  atomic.Bool
	ended chan struct{} // closed when the work in the background has ended
	found chan struct{} // closed when all names are known
	slots chan struct{} // held by who takes over for a request
	pause time.Duration // before what failed is tried again
	// patience is how long who wants all names waits for them.
	patience time.Duration

	owner LayoutOwner   // blobs, if the files can become our own; else nil
	asked chan struct{} // holds an element if somebody asked for that
	fence time.Duration // see [Finish]

	mu      sync.Mutex                   // guards the fields below
	walked  bool                         // found is closed
	waiting map[registry.Name]awaited    // what is to be taken over
	done    map[registry.Name]struct{}   // what need not be looked at again
	running map[registry.Name]*takingOne // what is being taken over
}

// awaited is a repository that is to be taken over.
type awaited struct {
	never bool   // it was never taken over
	stamp string // of its index when it was found
}

// takingOne is a repository that is being taken over.
type takingOne struct {
	done chan struct{} // closed at the end
	err  error         // set before
}

// newTakeover returns a takeover that has not begun.
func newTakeover(ctx context.Context, c *Catalog, blobs LayoutBlobs) *takeover {
	t := &takeover{
		c: c, blobs: blobs, log: c.log,
		found:    make(chan struct{}),
		ended:    make(chan struct{}),
		asked:    make(chan struct{}, 1),
		slots:    make(chan struct{}, takeovers),
		pause:    takeoverPause,
		patience: listPatience,
		waiting:  make(map[registry.Name]awaited),
		done:     make(map[registry.Name]struct{}),
		running:  make(map[registry.Name]*takingOne),
	}
	t.owner, _ = blobs.(LayoutOwner)
	t.ctx, t.stop = context.WithCancel(context.WithoutCancel(ctx))
	return t
}

// observe tells how far the work is.
func (t *takeover) observe(m *metrics.Set) {
	m.Func(metrics.GaugeKind, "berth_takeover_waiting_repositories", "Repositories of another registry that are known and not taken over yet.", func() float64 {
		t.mu.Lock()
		defer t.mu.Unlock()
		return float64(len(t.waiting))
	})
}

// start begins with the work in the background.
func (t *takeover) start() {
	t.work.Go(func() {
		defer close(t.ended)
		err := t.all()
		if err != nil && t.ctx.Err() == nil {
			t.log.Error("taking over repositories: it goes on at the next start", "error", err)
		}
	})
	if t.owner != nil {
		t.work.Go(t.keepFinish)
	}
}

// close ends the work and waits for it.
func (t *takeover) close() {
	t.stop()
	t.work.Wait()
}

// all looks for repositories, then takes them over one by one. It works half of
// the time. What fails is tried again a few times: the blobstore may be another
// process, which is being started.
func (t *takeover) all() error {
	names, err := t.find()
	if err != nil || len(names) == 0 {
		return err
	}
	// Of several processes each begins somewhere else.
	rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	t.log.Info("taking over repositories in the background", "repositories", len(names))
	found, pause := len(names), t.pause
	for range takeoverRounds {
		if names, err = t.each(names); err != nil || len(names) == 0 {
			break
		}
		if err = t.sleep(pause); err != nil {
			break
		}
		pause = min(2*pause, takeoverPauseMax)
	}
	if err == nil {
		t.log.Info("repositories were taken over; berth status tells of those with problems", "repositories", found-len(names), "failed", len(names))
	}
	return err
}

// find does what walk does, until it succeeds.
func (t *takeover) find() ([]registry.Name, error) {
	for pause := t.pause; ; pause = min(2*pause, takeoverPauseMax) {
		names, err := t.walk()
		if err == nil || t.ctx.Err() != nil {
			return names, err
		}
		t.log.Warn("looking for repositories to take over: it is tried again", "error", err)
		if err := t.sleep(pause); err != nil {
			return nil, err
		}
	}
}

// sleep waits for d, or returns why there is no time.
func (t *takeover) sleep(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-t.ctx.Done():
		return t.ctx.Err()
	}
}

// each takes repositories over, and returns those that failed.
func (t *takeover) each(names []registry.Name) (failed []registry.Name, err error) {
	said := time.Now()
	for i, repo := range names {
		began := time.Now()
		if err := t.wait(t.ctx, t.begin(repo)); err != nil {
			if t.ctx.Err() != nil {
				return failed, err
			}
			failed = append(failed, repo)
			t.log.Error("taking over a repository", "repository", repo, "error", err)
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			t.log.Info("taking over repositories", "done", i+1, "of", len(names))
		}
		if err := t.sleep(min(time.Since(began), time.Second)); err != nil {
			return failed, err
		}
	}
	return failed, nil
}

// walk finds out which repositories are to be taken over.
func (t *takeover) walk() ([]registry.Name, error) {
	var names []registry.Name
	seen := make(map[registry.Name]bool)
	err := t.c.eachLayout(t.ctx, t.blobs, func(repo registry.Name, p registry.Pool) error {
		seen[repo] = true
		old, err := t.c.readAdoption(t.ctx, repo)
		if err != nil {
			return err
		}
		stamp, err := t.blobs.LayoutStamp(t.ctx, p, repo)
		if err != nil || old.settled(stamp) {
			return ignoreGone(err)
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		if _, ok := t.done[repo]; !ok {
			t.waiting[repo] = awaited{never: old.state == adoptionNone, stamp: stamp}
			names = append(names, repo)
		}
		return nil
	})
	if err == nil {
		err = t.c.giveUpGone(t.ctx, seen)
	}
	if err != nil {
		return nil, err // requests go on to look for themselves
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.walked, t.done = true, nil
	close(t.found)
	t.settle()
	return names, nil
}

// ignoreGone returns err unless it says that a layout is not there any more.
func ignoreGone(err error) error {
	if errors.Is(err, registry.ErrNameUnknown) {
		return nil
	}
	return err
}

// settle notes that nothing is left. The caller holds t.mu.
func (t *takeover) settle() {
	if t.walked && len(t.waiting) == 0 && len(t.running) == 0 {
		t.idle.Store(true)
	}
}

// ensure returns when repo is taken over if it is to be. A repository that takes
// long is [registry.ErrUnavailable]; it goes on meanwhile.
func (t *takeover) ensure(ctx context.Context, repo registry.Name) error {
	if t.idle.Load() {
		return nil
	}
	t.mu.Lock()
	_, done := t.done[repo]
	_, waits := t.waiting[repo]
	one, walked := t.running[repo], t.walked
	t.mu.Unlock()
	switch {
	case one != nil:
	case done || walked && !waits:
		return nil
	case !waits:
		_, err := t.blobs.LayoutStamp(ctx, registry.PoolOf(repo, t.c.opt.Pools), repo)
		if errors.Is(err, registry.ErrNameUnknown) {
			return nil // not noted: names that are asked for have no end
		}
		if err != nil && t.served(ctx, repo) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("looking for a repository to take over: %w", err)
		}
		fallthrough
	default:
		select {
		case t.slots <- struct{}{}:
			defer func() { <-t.slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
		one = t.begin(repo)
	}
	patient, cancel := context.WithTimeout(ctx, takeoverPatience)
	defer cancel()
	err := t.wait(patient, one)
	if err != nil && ctx.Err() == nil && patient.Err() != nil {
		return registry.ErrUnavailable.With("this repository is being taken over: try again")
	}
	return err
}

// served reports whether repo can be served while the blobstore does not say whether
// there is more of it: it is in the catalog, and nothing of it was left half way.
func (t *takeover) served(ctx context.Context, repo registry.Name) bool {
	if _, err := t.c.readRepoID(ctx, repo); err != nil {
		return false
	}
	old, err := t.c.readAdoption(ctx, repo)
	return err == nil && old.state != adoptionBegun
}

// begin takes repo over, or joins who does.
func (t *takeover) begin(repo registry.Name) *takingOne {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.running[repo]; one != nil {
		return one
	}
	one := &takingOne{done: make(chan struct{})}
	_, done := t.done[repo]
	_, waits := t.waiting[repo]
	if done || t.walked && !waits || t.ctx.Err() != nil {
		one.err = t.ctx.Err()
		close(one.done)
		return one
	}
	t.running[repo] = one
	t.work.Go(func() {
		_, one.err = t.c.takeOver(t.ctx, t.blobs, repo)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.running, repo)
		if one.err == nil {
			delete(t.waiting, repo)
			if !t.walked {
				t.done[repo] = struct{}{}
			}
		}
		t.settle()
		close(one.done)
	})
	return one
}

// wait returns how it ended, or the error of ctx.
func (t *takeover) wait(ctx context.Context, one *takingOne) error {
	select {
	case <-one.done:
		return one.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// known waits a while until the names of all repositories are known. The answer is
// [registry.ErrUnavailable] when they are not by then.
func (t *takeover) known(ctx context.Context) error {
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	select {
	case <-t.found:
		return nil
	case <-timer.C:
		return registry.ErrUnavailable.With("repositories of another registry are being looked for: try again")
	case <-t.ctx.Done():
		return t.ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// names returns the repositories behind after that nobody could see in the
// catalog yet: all of them, or those that are known after a while.
func (t *takeover) names(ctx context.Context, after registry.Name) []registry.Name {
	if t.idle.Load() {
		return nil
	}
	_ = t.known(ctx) // what is known is better than an error here
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []registry.Name
	for n, w := range t.waiting {
		if w.never && n > after {
			names = append(names, n)
		}
	}
	return names
}

// eachLayout calls f for each layout in the pool that its repository belongs to.
func (c *Catalog) eachLayout(ctx context.Context, blobs registry.LayoutReader, f func(registry.Name, registry.Pool) error) error {
	for _, p := range append([]registry.Pool{""}, c.opt.Pools...) {
		for repo, err := range blobs.Layouts(ctx, p) {
			if err != nil {
				return fmt.Errorf("looking for repositories in pool %q: %w", p, err)
			}
			if registry.PoolOf(repo, c.opt.Pools) != p {
				c.log.Warn("a directory is not where the configuration says that its repository is: it is left alone", "repository", repo, "pool", p)
				continue
			}
			if err := f(repo, p); err != nil {
				return err
			}
		}
	}
	return nil
}
