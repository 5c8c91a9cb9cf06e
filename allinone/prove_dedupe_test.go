package allinone

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestS154DeletesLeaveOthersAlone deletes in one repository, DELETES times and in
// every way, what another one has, too, and collects: bytes are stored once, and the
// other repository stays whole. In zot deleting the first of several equal blobs in
// a bucket destroyed all of them.
func TestS154DeletesLeaveOthersAlone(t *testing.T) {
	deletes, seed := envInt(t, "DELETES", 60), uint64(envInt(t, "GC_SEED", int(time.Now().UnixNano()>>20)))
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Logf("DELETES=%d GC_SEED=%d", deletes, seed)
			storage, _ := e.new(t)
			s := openSoak(t, storeFile(t, storage), 1)
			one, two := newSoaker(s, s.replicas[0], 0, seed), newSoaker(s, s.replicas[0], 1, seed)
			s.workers = []*soaker{one, two}
			r := rand.New(rand.NewPCG(seed, 9))
			ctx := t.Context()
			stays := two.repos[0]
			for n := range 5 {
				if err := two.push(ctx, stays, registry.Tag(fmt.Sprint("v", n))); err != nil {
					t.Fatal(err)
				}
			}
			whole := func() {
				t.Helper()
				for tag := range stays.tags {
					if err := two.pull(ctx, stays, tag); err != nil {
						t.Fatal(err)
					}
				}
			}
			for n := range deletes {
				from := one.repos[r.IntN(2)]
				err := one.push(ctx, from, registry.Tag(fmt.Sprint("v", r.IntN(5))))
				switch {
				case err != nil:
				case n%4 == 0:
					err = one.deleteTag(ctx, from)
				case n%4 == 1:
					err = one.deleteManifest(ctx, from)
				case n%4 == 2:
					err = one.unlink(ctx, from)
				default:
					err = one.deleteRepository(ctx, from)
				}
				if err != nil {
					t.Fatal(err)
				}
				if n%10 == 9 {
					s.later.Add(int64(soakUndo))
					if _, err := one.catalog.Collect(ctx, prover); err != nil {
						t.Fatal(err)
					}
					whole()
				}
			}
			s.settle(t)
			whole()
			s.check(t)
		})
	}
}
