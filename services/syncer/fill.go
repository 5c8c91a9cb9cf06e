package syncer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

const (
	// leaseTime is how long the right to fetch a blob holds without being renewed.
	leaseTime = time.Minute
	// stallTime is how long an upstream may send no byte before it is asked again.
	stallTime = 60 * time.Second
	// giveUpTime is how long a fetch that has begun goes on without a byte.
	giveUpTime = 2 * time.Minute
	// firstPause and maxPause lie between two attempts without a byte.
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	// chunk is how many bytes are read from an upstream at once.
	chunk = 256 << 10

	// maxFills is how many blobs are fetched at a time. Each has a file and, in the
	// end, all its bytes.
	maxFills = 500

	stagedExt = ".part"
)

// fill is the one fetch of a blob. Its bytes go to a staged file, from which any
// number of readers follow. When all have come they are compared with the digest,
// handed to the blobstore and linked; only then is the blob local.
type fill struct {
	s       *Service
	digest  registry.Digest
	targets []target
	file    *os.File
	since   time.Time
	hash    hash.Hash // of the first have bytes
	resumed bool      // after a restart, for who has asked before
	last    time.Time // when the last byte came, or our turn

	preempted bool // we have waited for our turn
	recovered bool // what an earlier attempt has brought was read

	mu       sync.Mutex // guards all below
	repos    map[registry.Name]bool
	have     int64
	size     int64 // -1: not known
	hidden   bool  // what we have came for others, and our upstream has not said yet that it has it
	verified bool
	stored   registry.Stored // once it is in the blobstore
	ended    bool            // nothing more comes
	err      error           // why it failed
	trouble  string          // the last error, for people
	changed  chan struct{}   // closed when any of these changes, see grow
	told     int64           // of have: what readers were woken for
	woken    time.Time       // when they were
	waking   bool            // a timer will wake them
	refs     int             // readers, and the fill itself
	clients  int             // of refs: those that a client waits for
	pinned   bool            // a schedule wants it for something that is pinned
	speed    speed
}

var errBusy = registry.ErrUnavailable.With("too many blobs are being fetched")

func stagedName(d registry.Digest) string {
	return strings.ReplaceAll(string(d), ":", "-") + stagedExt
}

// follow returns the fill of a blob, which it starts if there is none, for repo. The
// caller has a reference of its own.
func (s *Service) follow(ctx context.Context, d registry.Digest, repo registry.Name, targets []target, size int64, whose follower) (f *fill, joined bool, err error) {
	f, joined, err = s.startFill(d, repo, targets, size, s.now(), false, whose)
	if err == nil && joined {
		if err = s.enter(ctx, f, repo, targets); err != nil {
			f.release(whose)
		}
	}
	return f, joined, err
}

// startFill returns the fill of a blob, which it starts if there is none. The caller
// has a reference of its own. If others have started it the blob is not for repo
// yet, see enter.
func (s *Service) startFill(d registry.Digest, repo registry.Name, targets []target, size int64, since time.Time, resumed bool, whose follower) (f *fill, joined bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, false, errClosing
	}
	if f, ok := s.fills[d]; ok {
		f.hold(whose)
		return f, true, nil
	}
	if len(s.fills) >= s.most {
		return nil, false, errBusy
	}
	file, err := os.OpenFile(filepath.Join(s.staging, stagedName(d)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("opening a staged file: %w", err)
	}
	f = &fill{
		s: s, digest: d, targets: targets, file: file, since: since, hash: d.Algorithm().Hash(),
		repos: map[registry.Name]bool{repo: true}, size: size, resumed: resumed, changed: make(chan struct{}), refs: 1,
	}
	f.hold(whose)
	s.fills[d] = f
	s.work.Go(func() { f.run(s.ctx) })
	return f, false, nil
}

// update changes what readers see.
func (f *fill) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	f.wake()
}

// wake lets readers look again. The caller has mu.
func (f *fill) wake() {
	close(f.changed)
	f.changed = make(chan struct{})
	f.told, f.woken = f.have, time.Now()
}

const (
	// gatherBytes is how many bytes may have come before readers hear of them, and
	// gatherEach how long these may wait for others, for each reader, up to gatherMost.
	// Those of a slow line come in pieces of a kilobyte or two: to wake a hundred readers
	// for each would cost more than to send them.
	gatherBytes = 1 << 20
	gatherEach  = 100 * time.Microsecond
	gatherMost  = 20 * time.Millisecond
)

// grow notes that n bytes more lie in the staged file. Readers hear of it at once if
// they have not heard of others a moment ago, and soon in any case.
func (f *fill) grow(n int64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.have += n
	f.speed.add(now, n)
	wait := min(time.Duration(f.refs)*gatherEach, gatherMost) - time.Since(f.woken)
	switch {
	case wait <= 0 || f.have-f.told >= gatherBytes:
		f.wake()
	case !f.waking:
		f.waking = true
		time.AfterFunc(wait, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.waking = false
			if f.told != f.have {
				f.wake()
			}
		})
	}
}

// follower says who has a reference to a fill.
type follower bool

const (
	client follower = true // it goes first, see priority
	copier follower = false
)

// hold takes a reference. Who finds a fill among those of the service takes it before
// it lets go of the service's lock: a fill is a client's from then on.
func (f *fill) hold(whose follower) {
	f.mu.Lock()
	f.refs++
	if whose == client {
		f.clients++
	}
	f.mu.Unlock()
	if whose == client {
		f.wakeLines()
	}
}

// release gives a reference back.
func (f *fill) release(whose follower) {
	f.mu.Lock()
	f.refs--
	if whose == client {
		f.clients--
	}
	last := f.refs == 0
	f.mu.Unlock()
	if whose == client {
		f.wakeLines()
	}
	if last {
		f.file.Close()
	}
}

// pin notes that the fill is for something that is pinned.
func (f *fill) pin() {
	f.mu.Lock()
	f.pinned = true
	f.mu.Unlock()
	f.wakeLines()
}

// wakeLines tells those who wait for their turn that a priority is another one.
func (f *fill) wakeLines() {
	for _, t := range f.targets {
		t.rule.state.line.wake()
	}
}

func (f *fill) priority() priority {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.clients > 0:
		return forClient
	case f.pinned:
		return forPins
	}
	return forSchedule
}

// repo returns the repository that the fill began for.
func (f *fill) repo() registry.Name { return f.targets[0].repo }

// run is the life of a fill.
func (f *fill) run(ctx context.Context) {
	s := f.s
	defer f.release(copier)
	ctx, cancel := context.WithTimeout(ctx, f.targets[0].rule.Timeout)
	defer cancel()
	s.meters.filling.Add(1)
	defer s.meters.filling.Add(-1)
	err := f.fetch(ctx)
	if err == nil {
		f.update(func() { f.verified = true })
		err = f.keep(ctx)
	}
	stopping := s.ctx.Err() != nil
	// What has come stays for the next attempt, unless it is of no use.
	if err == nil || !stopping && (errors.Is(err, errWrong) || errors.Is(err, errNoRoom) || f.have == 0) {
		clean, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		gone := os.Remove(f.file.Name())
		if errors.Is(gone, os.ErrNotExist) { // the blobstore has it
			gone = nil
		}
		if err := errors.Join(gone, s.store.endFill(clean, f.digest, s.holder)); err != nil {
			s.log.Warn("the end of a fetch could not be noted", "digest", f.digest, "error", err)
		}
		done()
	}
	if errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrManifestUnknown) {
		s.lacking(f.repo(), f.digest)
	}
	s.mu.Lock()
	delete(s.fills, f.digest)
	s.mu.Unlock()
	if err != nil {
		f.targets[0].rule.note(err)
		s.meters.failedFills.Inc()
		s.log.Warn("a blob could not be fetched", "digest", f.digest, "repository", f.repo(), "bytes", f.have, "size", f.size, "error", err)
	}
	f.update(func() {
		f.ended = true
		switch {
		case err == nil:
		case f.verified: // all of it can be read, it is only not kept
		case stopping:
			f.err = errClosing
		default:
			f.err = err
		}
	})
}

// errWrong says that what came is not the blob.
var errWrong = upstream.ErrWrong

// errNoRoom says that the staging directory takes no more. What has come is given up:
// others need the room.
var errNoRoom = errors.New("the staged file can't be written")

// fetch brings the bytes into the staged file and compares them with the digest.
func (f *fill) fetch(ctx context.Context) error {
	switch err := f.rightOf(ctx); {
	case errors.Is(err, errFetched):
		return nil
	case err != nil:
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer close(stop)
	renewing.Go(func() {
		tick := time.NewTicker(leaseTime / 3)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if _, err := f.lease(ctx); err != nil && ctx.Err() == nil {
				f.s.log.Warn("the right to fetch a blob could not be renewed", "digest", f.digest, "error", err)
			}
		}
	})
	if err := f.recover(); err != nil {
		return err
	}
	pause := time.Duration(0)
	f.last = f.s.now()
	for !f.complete() {
		before := f.have
		err := f.s.each(f.targets, func(t target, h *upstream.Host) error { return f.receive(ctx, t, h) })
		switch {
		case errors.Is(err, errMounted):
			return nil
		case ctx.Err() != nil:
			return registry.ErrUnavailable.With("the blob did not come in time").Because(context.Cause(ctx))
		case errors.Is(err, errWrong):
			return err
		case err == nil:
			continue
		case f.have > before:
			f.last, pause = f.s.now(), 0
		}
		gone := errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrManifestUnknown)
		if f.have == 0 || gone || errors.Is(err, errNoRoom) || f.s.now().Sub(f.last) > giveUpTime {
			if errors.Is(err, errReserved) && !f.yields(err) {
				continue // a client has come
			}
			return err
		}
		f.update(func() { f.trouble = err.Error() })
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		pause = min(max(2*pause, firstPause), maxPause)
	}
	if f.sum() != f.digest {
		f.s.meters.wrong.Inc()
		return registry.ErrUnavailable.With("the upstream registry %s sends other content than %s", f.targets[0].rule.Host, f.digest).Because(errWrong)
	}
	return nil
}
