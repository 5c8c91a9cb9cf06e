package allinone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/metadata"
)

// Times of the stores that are soaked, by a clock that goes ahead with each
// operation: a lease passes every few hundred of them, however fast the machine is.
const (
	soakLease = 10 * time.Minute
	soakUndo  = 30 * time.Minute
	soakStep  = 6 * time.Second // at most, with each operation
	soakFence = time.Minute

	soakContents = 96
	soakInUse    = 8 // of these most of the time
)

// soak is a store that many use at once while it is collected and scrubbed.
type soak struct {
	at       time.Time    // when it began
	later    atomic.Int64 // nanoseconds by which time has gone ahead
	replicas []*soakReplica
	contents [][]byte // few, so that everybody wants the same
	workers  []*soaker
	jumps    bool         // time does not pass evenly: nobody can tell what leases are over
	late     atomic.Int64 // operations that nobody can judge, because time was over

	// How often each kind of operation was begun, and how many are under way.
	begun, open [soakKinds]atomic.Int64
}

// soakReplica is a process's part of it.
type soakReplica struct {
	blobs   Blobs
	catalog *metadata.Catalog
	count   func() (garbage int64, err error)
	done    registry.Collection
	// Collections that removed something, and how many of these met an open
	// operation of each kind.
	removing int
	met      [soakKinds]int
}

// Kinds of operations, of which each must be met by enough collections.
const (
	soakPush = iota
	soakPull
	soakDelete
	soakRestore
	soakKinds
)

var soakNames = [soakKinds]string{"push", "pull", "delete", "restore"}

func (s *soak) now() time.Time { return s.at.Add(time.Duration(s.later.Load())) }

// openSoak opens a store in as many replicas as are wanted.
func openSoak(t *testing.T, file string, replicas int) *soak {
	t.Helper()
	s := &soak{at: time.Now().Round(0)} // without the monotonic clock
	cfg, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	for range replicas {
		blobs, err := allParts().Blobs(t.Context(), cfg, p)
		if err != nil {
			t.Fatal(err)
		}
		db, err := allParts().Database(t.Context(), cfg.Storage, func(err error) { t.Errorf("fatal: %v", err) }, p.Log)
		if err != nil {
			t.Fatal(errors.Join(err, blobs.Close()))
		}
		catalog, err := metadata.Open(t.Context(), db, blobs, metadata.Options{
			Now: s.now, GC: metadata.GC{Lease: soakLease, Undo: soakUndo}, Scrub: metadata.Scrub{On: true, Interval: time.Hour},
		}, p.Log)
		if err != nil {
			t.Fatal(errors.Join(err, db.Close(), blobs.Close()))
		}
		t.Cleanup(func() {
			if err := errors.Join(catalog.Close(), db.Close(), blobs.Close()); err != nil {
				t.Error(err)
			}
		})
		count := func() (n int64, err error) {
			err = db.QueryRow(t.Context(), `SELECT COUNT(*) FROM garbage WHERE attempts >= 0`).Scan(&n)
			return n, err
		}
		s.replicas = append(s.replicas, &soakReplica{blobs: blobs, catalog: catalog, count: count})
	}
	for i := range soakContents {
		s.contents = append(s.contents, fmt.Appendf(nil, "%d %s", i, make([]byte, 10*i)))
	}
	return s
}

// content returns what somebody pushes now: most of the time one of a few that many
// push at that time, so that others go out of use and come back later.
func (s *soak) content(r *rand.Rand) []byte {
	if r.IntN(5) == 0 {
		return s.contents[r.IntN(soakContents)]
	}
	since := int(time.Duration(s.later.Load()) / (10 * time.Minute))
	return s.contents[(max(since, -since)+r.IntN(soakInUse))%soakContents]
}

// do runs an operation of a kind, and lets time pass.
func (s *soak) do(kind int, r *rand.Rand, op func() error) error {
	s.begun[kind].Add(1)
	s.open[kind].Add(1)
	defer s.open[kind].Add(-1)
	defer s.later.Add(r.Int64N(int64(soakStep)))
	return op()
}

// collect collects with one replica until ctx ends.
func (s *soak) collect(ctx context.Context, r *soakReplica) error {
	for ctx.Err() == nil {
		var before [soakKinds]int64
		for k := range before {
			before[k] = s.begun[k].Load() - s.open[k].Load()
		}
		done, err := r.catalog.Collect(context.WithoutCancel(ctx), prover)
		switch {
		case errors.Is(err, registry.ErrUnavailable): // the other replica does
			continue
		case err != nil:
			return fmt.Errorf("collecting: %w", err)
		}
		r.done.Reviews += done.Reviews
		r.done.Manifests += done.Manifests
		r.done.Links += done.Links
		r.done.Blobs += done.Blobs
		r.done.Repositories += done.Repositories
		if done.Manifests+done.Links+done.Blobs+done.Repositories == 0 {
			time.Sleep(time.Millisecond) // nothing to do: leave the machine to the others
			continue
		}
		r.removing++
		for k := range before {
			if s.begun[k].Load() > before[k] {
				r.met[k]++
			}
		}
	}
	return nil
}

// settle lets all time pass and collects until nothing is left to go.
func (s *soak) settle(t *testing.T) {
	t.Helper()
	c := s.replicas[0]
	for range 12 {
		s.later.Add(int64(soakUndo + 2*soakLease))
		for more := true; more; {
			done, err := c.catalog.Collect(t.Context(), prover)
			if err != nil && !errors.Is(err, registry.ErrUnavailable) {
				t.Fatal(err)
			}
			more = err != nil || done.More
		}
	}
	waitFor(t, func() bool {
		n, err := c.count()
		if err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// check compares what is left with what the workers know, and lets fsck look.
func (s *soak) check(t *testing.T) {
	t.Helper()
	c := s.replicas[0]
	needed := map[registry.Digest]bool{}
	var repos []registry.Name
	for _, w := range s.workers {
		for _, r := range w.repos {
			if len(r.tags) > 0 {
				repos = append(repos, r.name)
			}
			for tag := range r.tags {
				if err := w.pull(t.Context(), r, tag); err != nil {
					t.Errorf("after all: %v", err)
				}
				r.needs(r.tags[tag], needed)
			}
		}
	}
	var stored []registry.Digest
	for last := (*registry.Stored)(nil); ; {
		page, err := c.blobs.Copies(t.Context(), "", last, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page {
			stored = append(stored, b.Digest)
			if !needed[b.Digest] {
				t.Errorf("I7: %s is stored and nothing needs it", b.Digest)
			}
		}
		if len(page) < 1000 {
			break
		}
		last = &page[len(page)-1]
	}
	if len(stored) != len(needed) {
		t.Errorf("I7: %d copies are stored, %d blobs are needed", len(stored), len(needed))
	}
	list, err := c.catalog.Repositories(t.Context(), prover, registry.Page[registry.Name]{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(repos)
	if !slices.Equal(list.Items, repos) {
		t.Errorf("repositories: %v, want %v", list.Items, repos)
	}
	for f, err := range c.catalog.Fsck(t.Context(), c.blobs, true) {
		t.Error("fsck:", f, err)
	}
	damaged, err := c.catalog.Damages(t.Context(), prover, nil, 10)
	if err != nil || len(damaged) > 0 {
		t.Errorf("scrub found %v, %v", damaged, err)
	}
}

// TestG17GCAgainstEverything pushes, mounts, moves, deletes, restores and pulls from
// several clients, on few contents, while everything is collected and scrubbed all
// the time (GC_OPS operations on each kind of store, of GC_SEED). What was promised
// must hold (I2, I3, I6), and in the end exactly what is needed is left (I7).
func TestG17GCAgainstEverything(t *testing.T) {
	ops, seed := envInt(t, "GC_OPS", 2000), uint64(envInt(t, "GC_SEED", int(time.Now().UnixNano()>>20)))
	for i, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			storage, _ := e.new(t)
			replicas := 1
			if i == 2 {
				replicas = 2
			}
			s := openSoak(t, storeFile(t, storage), replicas)
			s.run(t, ops, seed)
		})
	}
}

func (s *soak) run(t *testing.T, ops int, seed uint64) {
	const workers = 8
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var collectors sync.WaitGroup
	for _, r := range s.replicas {
		collectors.Go(func() {
			if err := s.collect(ctx, r); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range workers {
		s.workers = append(s.workers, newSoaker(s, s.replicas[i%len(s.replicas)], i, seed))
	}
	var left atomic.Int64
	left.Store(int64(ops))
	var all sync.WaitGroup
	for _, w := range s.workers {
		all.Go(func() {
			for left.Load() > 0 && !t.Failed() {
				before := w.ops
				if err := w.operate(t.Context()); err != nil {
					t.Errorf("GC_OPS=%d GC_SEED=%d: %v", ops, seed, err)
					return
				}
				left.Add(int64(before - w.ops))
			}
		})
	}
	all.Wait()
	stop()
	collectors.Wait()
	if t.Failed() {
		return
	}
	var sum registry.Collection
	removing, met := 0, [soakKinds]int{}
	for _, r := range s.replicas {
		sum.Reviews += r.done.Reviews
		sum.Manifests += r.done.Manifests
		sum.Links += r.done.Links
		sum.Blobs += r.done.Blobs
		sum.Repositories += r.done.Repositories
		removing += r.removing
		for k, n := range r.met {
			met[k] += n
		}
	}
	var done [soakKinds]int64
	for k := range done {
		done[k] = s.begun[k].Load()
	}
	t.Logf("GC_OPS=%d GC_SEED=%d: %s %v, %d of them too late to be judged; %v passed; in that time went %d manifests, %d links, %d blobs, %d repositories in %d reviews; %d collections, met %v",
		ops, seed, soakNames, done, s.late.Load(), time.Duration(s.later.Load()).Round(time.Minute),
		sum.Manifests, sum.Links, sum.Blobs, sum.Repositories, sum.Reviews, removing, met)
	for k, n := range met {
		if 5*n < removing || removing == 0 {
			t.Errorf("void: %d of %d collections met an operation of the kind %s", n, removing, soakNames[k])
		}
	}
	if s.late.Load()*5 > int64(ops) {
		t.Error("void: too many operations came too late")
	}
	s.settle(t)
	s.check(t)
}

// read returns the bytes of a copy.
func (r *soakReplica) read(ctx context.Context, s registry.Stored) (_ []byte, err error) {
	content, err := r.blobs.Open(ctx, s, registry.Whole)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, content.Close()) }()
	return io.ReadAll(content)
}
