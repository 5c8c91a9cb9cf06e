package allinone

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// TestForwardCuts passes pushes on over connections that break after random bytes in
// both directions, while the syncer ends and is started again. Every tag must have been
// there what it was here, in that order, each once; every blob must be right.
//
// FORWARD_PUSHES is the number of pushes (40), FORWARD_SEED the seed.
func TestForwardCuts(t *testing.T) {
	pushes := envInt(t, "FORWARD_PUSHES", 40)
	seed := uint64(envInt(t, "FORWARD_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d pushes, FORWARD_SEED=%d", pushes, seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	limits := make(chan int64, 4096)
	link.breaks(func() int64 {
		select {
		case n := <-limits:
			return n
		default:
			return 1 << 40
		}
	})
	for range cap(limits) {
		// Some break within a request's header, some within a layer.
		limits <- []int64{rnd.Int64N(600), rnd.Int64N(20_000), rnd.Int64N(400_000)}[rnd.IntN(3)]
	}
	e := newEnd(t, link, "", false)
	want := map[string][]registry.Digest{}
	layers := map[registry.Digest]int{}
	restarts := 0
	for i := range pushes {
		repo := fmt.Sprintf("team/app%d", rnd.IntN(3))
		tag := []string{"latest", "v1"}[rnd.IntN(2)]
		layer := make([]byte, rnd.IntN(200_000))
		for j := range layer {
			layer[j] = byte(rnd.Uint32())
		}
		d := e.push(repo, tag, layer)
		want[repo+":"+tag] = append(want[repo+":"+tag], d)
		layers[registry.SHA256.FromBytes(layer)] = len(layer)
		if err := e.mirror.get().Reforward(t.Context(), link.name()); err != nil {
			t.Fatal(err)
		}
		if i%8 == 7 {
			e.stop()
			e.start(link.rule(""))
			restarts++
		}
	}
	settle(t, e, link, func() { e.stop(); e.start(link.rule("")); restarts++ }, 10)
	for name, digests := range want {
		repo, tag, _ := cutLast(name)
		if diff := cmp.Diff(digests, hq.history(registry.Name(repo), registry.Tag(tag))); diff != "" {
			t.Errorf("what %s was there differs (-want +got):\n%s", name, diff)
		}
	}
	for _, f := range e.forwards(false) {
		if f.State != registry.ForwardDelivered {
			t.Errorf("%+v", f)
		}
	}
	t.Logf("%d connections broke, the syncer was started %d times again", link.cuts.Load(), restarts)
	if int(link.cuts.Load()) < pushes/2 {
		t.Errorf("void: only %d connections broke", link.cuts.Load())
	}
}

func cutLast(name string) (repo, tag string, ok bool) {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == ':' {
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

// settle waits until nothing is left to pass on, and calls again now and then.
func settle(t *testing.T, e *edge, link *line, again func(), times int) {
	t.Helper()
	for n := 0; len(e.forwards(true)) > 0; n++ {
		if n > 20_000 {
			t.Fatalf("still to be passed on: %+v", e.forwards(true)[0])
		}
		if n%40 == 39 && n/40 < times {
			again()
		}
		if err := e.mirror.get().Reforward(t.Context(), link.name()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestForwardCrash: a push whose end nobody told the syncer is passed on if it was
// stored, and forgotten if it was not.
func TestForwardCrash(t *testing.T) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	e := newEnd(t, link, "", false)
	e.mirror.lost = true // what Settle would say does not arrive
	stored := e.push("a/b", "v1", []byte("stored"))
	if _, err := e.mirror.get().Announce(t.Context(), operator, "a/b", registry.AnnouncedPush{Tags: []registry.Tag{"v2"}, Digest: registry.SHA256.FromString("never")}); err != nil {
		t.Fatal(err)
	}
	if n := len(e.forwards(true)); n != 2 {
		t.Fatalf("%d pushes are announced", n)
	}
	e.stop()
	e.age(2 * time.Minute)
	e.start(link.rule(""))
	e.settled(link.name())
	if got := hq.history("a/b", "v1"); !slices.Equal(got, []registry.Digest{stored}) {
		t.Errorf("what was stored was passed on as %v", got)
	}
	all := e.forwards(false)
	if len(all) != 2 || all[0].State != registry.ForwardDelivered || all[1].State != registry.ForwardDropped {
		t.Errorf("%+v", all)
	}
}

// TestForwardConflict: a tag that others have moved is kept, or overwritten, as the rule
// says; one that was ours before is ours.
func TestForwardConflict(t *testing.T) {
	for _, policy := range []string{"keep", "overwrite"} {
		t.Run(policy, func(t *testing.T) {
			hq := newEdge(t, false)
			hq.mirror.now = nothing{}
			link := newLine(t, hq.url)
			e := newEnd(t, link, `,"forward":{"conflict":"`+policy+`"}`, false)
			one := e.push("a/b", "v1", []byte("one"))
			e.settled(link.name())
			two := e.push("a/b", "v1", []byte("two"))
			e.settled(link.name())
			theirs := hq.push("a/b", "v1", []byte("theirs"))
			three := e.push("a/b", "v1", []byte("three"))
			waitEnd(t, e, three)
			want, state := []registry.Digest{one, two, theirs}, registry.ForwardKept
			if policy == "overwrite" {
				want, state = append(want, three), registry.ForwardDelivered
			}
			if diff := cmp.Diff(want, hq.history("a/b", "v1")); diff != "" {
				t.Errorf("what the tag was there (-want +got):\n%s", diff)
			}
			if all := e.forwards(false); len(all) != 1 || all[0].State != state || (all[0].Error == "") != (policy == "overwrite") {
				t.Errorf("%+v", all)
			}
		})
	}
}

// waitEnd waits until what becomes of a push is known.
func waitEnd(t *testing.T, e *edge, d registry.Digest) {
	t.Helper()
	for range 6000 {
		for _, f := range e.forwards(false) {
			if f.Digest == d && f.State != registry.ForwardWaiting && f.State != registry.ForwardAnnounced {
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("%+v", e.forwards(false))
}

// TestForwardCircle: two registries that mirror each other and forward to each other
// come to rest: a push reaches the other one once, and pushes of one tag into both at
// the same moment do not chase each other.
func TestForwardCircle(t *testing.T) {
	a, b := newEdge(t, false), newEdge(t, true)
	toA, toB := newLine(t, a.url), newLine(t, b.url)
	const more = `,"onDemand":true,"manifestCheckInterval":"1ms"`
	a.start(toB.rule(more))
	b.start(toA.rule(more))
	// Nobody asks for another attempt: that is also one for what was refused.
	both := func() {
		t.Helper()
		for quiet := 0; quiet < 3; quiet++ { // what has come to rest on one side may wake the other
			for n := 0; len(a.forwards(true))+len(b.forwards(true)) > 0; n++ {
				if n > 6000 {
					t.Fatalf("still to be passed on: %+v %+v", a.forwards(true), b.forwards(true))
				}
				quiet = 0
				time.Sleep(10 * time.Millisecond)
			}
		}
	}
	d := a.push("team/app", "v1", []byte("one"))
	both()
	for name, e := range map[string]*edge{"a": a, "b": b} {
		if got := e.history("team/app", "v1"); !slices.Equal(got, []registry.Digest{d}) {
			t.Errorf("%s: the tag was %v, want %s", name, got, d)
		}
		e.do(http.MethodGet, "/v2/team/app/manifests/v1", "", nil, http.StatusOK)
	}
	puts := a.puts.Load() + b.puts.Load()
	if puts != 2 {
		t.Errorf("%d manifests were put, want that of the client and one", puts)
	}
	toA.down.Store(true)
	toB.down.Store(true)
	x, y := a.push("team/app", "v1", []byte("x")), b.push("team/app", "v1", []byte("y"))
	toA.down.Store(false)
	toB.down.Store(false)
	both()
	if n := a.puts.Load() + b.puts.Load() - puts; n > 8 {
		t.Errorf("%d manifests were put for two pushes: they go in circles", n)
	}
	for name, e := range map[string]*edge{"a": a, "b": b} {
		m, err := e.catalog.Manifest(context.Background(), operator, "team/app", registry.ManifestQuery{Ref: registry.Reference{Tag: "v1"}})
		if err != nil || m.Digest != x && m.Digest != y {
			t.Errorf("%s: the tag is %s, %v", name, m.Digest, err)
		}
	}
}
