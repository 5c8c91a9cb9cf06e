package allinone

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// Times of a simulation.
const (
	simTime  = 2 * time.Hour    // for which clients work
	simLate  = 10 * time.Minute // after which nothing happens any more that was not answered
	simSteps = 2 * time.Minute  // between two operations of a client, at most
)

// TestG19Simulation runs gateway, metadata and blobstore, which speak gRPC, in one
// process by a clock that only goes ahead when everybody waits, for hours of its
// time. Clients push, push in chunks, move tags, delete and pull, while the network
// stalls and breaks connections, bodies break off, and services are killed and start
// again on what was on their disks. What was acknowledged must be there, nothing else
// may be shown, and in the end fsck finds nothing.
//
// SIM_SEEDS is the number of seeds (1), SIM_SEED the first: it alone repeats a run.
func TestG19Simulation(t *testing.T) {
	seeds, first := envInt(t, "SIM_SEEDS", 1), envInt(t, "SIM_SEED", int(time.Now().UnixNano()>>20))
	t.Logf("SIM_SEEDS=%d SIM_SEED=%d", seeds, first)
	var sum simTally
	for n := range seeds {
		seed := uint64(first + n)
		t.Run(fmt.Sprint("SIM_SEED=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { sum.add(simulate(t, seed)) })
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d seeds: %+v", seeds, sum)
}

// checkCollected checks that repositories have the blobs that a tag needs, and no
// others. Copies that nobody was told of may stay for a day.
func (s *simSystem) checkCollected(clients []*simClient) {
	for _, c := range clients {
		needed := map[string]map[registry.Digest]bool{c.repo(0): {}, c.repo(1): {}}
		for tag, x := range c.tags {
			repo, _, _ := strings.Cut(tag, "/manifests/")
			if x.image != nil {
				for _, b := range x.image.blobs {
					needed[repo][registry.SHA256.FromBytes(b)] = true
				}
			}
		}
		for repo, want := range needed {
			has := map[registry.Digest]bool{}
			for _, b := range c.contents {
				d := registry.SHA256.FromBytes(b)
				_, err := s.catalog.Blob(s.t.Context(), prover, registry.Name(repo), d)
				switch {
				case err == nil:
					has[d] = true
				case !errors.Is(err, registry.ErrBlobUnknown) && !errors.Is(err, registry.ErrNameUnknown):
					s.t.Error(err)
				}
			}
			if diff := cmp.Diff(want, has); diff != "" {
				s.t.Errorf("SIM_SEED=%d: blobs that %s needs and has: -want +got\n%s", s.net.seed, repo, diff)
			}
		}
	}
}

// simTally counts what happened.
type simTally struct {
	Requests, Answered, Acknowledged, Kills, Broken, Stalled int
	Trace                                                    uint64 // of all answers and their times
}

func (s *simTally) add(o simTally) {
	s.Requests += o.Requests
	s.Answered += o.Answered
	s.Acknowledged += o.Acknowledged
	s.Kills += o.Kills
	s.Broken += o.Broken
	s.Stalled += o.Stalled
	s.Trace ^= o.Trace
}

// simulate runs one seed.
func simulate(t *testing.T, seed uint64) (sum simTally) {
	s := startSimSystem(t, seed)
	defer s.stop()
	s.net.setFaulty(true)
	began := time.Now()
	var clients []*simClient
	var working sync.WaitGroup
	for i := range 4 {
		c := newSimClient(s, i, seed)
		clients = append(clients, c)
		working.Go(func() {
			for time.Since(began) < simTime && !t.Failed() {
				time.Sleep(time.Duration(c.rand.Int64N(int64(simSteps))))
				c.operate()
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 19))
	for {
		time.Sleep(time.Duration(r.Int64N(int64(20 * time.Minute))))
		if time.Since(began) > simTime || t.Failed() {
			break
		}
		name := simServices[r.IntN(len(simServices))]
		disk := s.crash(name)
		time.Sleep(time.Duration(r.Int64N(int64(30 * time.Second))))
		s.start(name, disk)
		sum.Kills++
	}
	working.Wait()
	s.net.setFaulty(false)
	time.Sleep(simLate)
	for _, c := range clients {
		c.pullAll()
	}
	time.Sleep(3 * simUndo)
	s.checkCollected(clients)
	h := fnv.New64a()
	for _, c := range clients {
		c.pullAll()
		sum.Requests += c.requests
		sum.Answered += c.answered
		sum.Acknowledged += c.acknowledged
		fmt.Fprint(h, c.trace.Sum64())
	}
	sum.Broken, sum.Stalled, sum.Trace = s.net.broken, s.net.stalled, h.Sum64()
	for found, err := range s.catalog.(catalogChecker).Fsck(t.Context(), s.blobs, true) {
		t.Errorf("SIM_SEED=%d: fsck: %v, %v", seed, found, err)
	}
	return sum
}
