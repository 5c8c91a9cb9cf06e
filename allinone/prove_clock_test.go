package allinone

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestG10ClockJumps lets the clock of the whole store jump (CLOCK_JUMPS times on each
// kind of store, of GC_SEED) by an hour and by 30 days in both directions, to 1970
// and to 2106, while clients push, move, delete and pull and everything is collected
// and scrubbed. Leases may be over early, and things may stay for longer; what a tag
// needs is always there, and what is stored agrees with what is known.
func TestG10ClockJumps(t *testing.T) {
	jumps, seed := envInt(t, "CLOCK_JUMPS", 14), uint64(envInt(t, "GC_SEED", int(time.Now().UnixNano()>>20)))
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Logf("CLOCK_JUMPS=%d GC_SEED=%d", jumps, seed)
			storage, _ := e.new(t)
			s := openSoak(t, storeFile(t, storage), 1)
			s.jumps = true
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var collector, clients sync.WaitGroup
			collector.Go(func() {
				if err := s.collect(ctx, s.replicas[0]); err != nil {
					t.Error(err)
				}
			})
			for i := range 3 {
				w := newSoaker(s, s.replicas[0], i, seed)
				s.workers = append(s.workers, w)
				clients.Go(func() {
					for ctx.Err() == nil {
						if err := w.operate(t.Context()); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			r := rand.New(rand.NewPCG(seed, 99))
			for n := 0; n < jumps && !t.Failed(); n++ {
				s.jump(r)
				before := s.begun[soakPush].Load()
				waitFor(t, func() bool { return t.Failed() || s.begun[soakPush].Load() > before+10 })
			}
			stop()
			clients.Wait()
			collector.Wait()
			for _, w := range s.workers {
				for _, repo := range w.repos {
					for tag := range repo.tags {
						if err := w.pull(t.Context(), repo, tag); err != nil {
							t.Error(err)
						}
					}
				}
			}
			for f, err := range s.replicas[0].catalog.Fsck(t.Context(), s.replicas[0].blobs, true) {
				t.Error("fsck:", f, err)
			}
			damaged, err := s.replicas[0].catalog.Damages(t.Context(), prover, nil, 10)
			if err != nil || len(damaged) > 0 {
				t.Errorf("scrub found %v, %v", damaged, err)
			}
			list, err := s.replicas[0].catalog.Repositories(t.Context(), prover, registry.Page[registry.Name]{Limit: 1000})
			if err != nil || len(list.Items) == 0 {
				t.Errorf("repositories: %v, %v", list.Items, err)
			}
			d := s.replicas[0].done
			t.Logf("%v operations, %d too late to be judged; went %d manifests, %d links, %d blobs", s.begun[soakPush].Load(), s.late.Load(), d.Manifests, d.Links, d.Blobs)
		})
	}
}

// jump sets the clock.
func (s *soak) jump(r *rand.Rand) {
	now := s.now()
	to := []time.Time{
		now.Add(time.Hour), now.Add(-time.Hour), now.Add(30 * 24 * time.Hour), now.Add(-30 * 24 * time.Hour),
		time.Date(1970, 1, 1, 0, 0, 1, 0, time.UTC), time.Date(2106, 2, 7, 6, 28, 16, 0, time.UTC), time.Now(),
	}[r.IntN(7)]
	s.later.Add(int64(to.Sub(now)))
}
