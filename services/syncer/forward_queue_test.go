package syncer_test

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestAnnouncedPushIsLeftAlone: a push that was announced is looked for only when it has
// had its time to be stored. It may be announced after a look has begun, or by a syncer
// whose clock is a little ahead: to look for it then would take it for one that was
// refused, and it would not be passed on. A clock that was set back holds nothing up.
func TestAnnouncedPushIsLeftAlone(t *testing.T) {
	r := at(t, newHostile(t).URL)
	r.Push = registry.PushForward
	w := open(t, r)
	ctx := t.Context()
	if err := w.Pause(ctx, w.Names()[0], true); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Announce(ctx, nobody, "a", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: registry.SHA256.FromString("x")}); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		age  time.Duration
		want bool
	}{{-2 * time.Minute, true}, {-2 * time.Second, false}, {0, false}, {50 * time.Second, false}, {2 * time.Minute, true}} {
		w.later.Store(int64(test.age))
		if got, err := w.NextForward(ctx); err != nil || got != test.want {
			t.Errorf("%v after it was announced: looked for %v, %v; want %v", test.age, got, err, test.want)
		}
	}
}

// TestBusyRepositoryIsNotRead: while something of a repository is passed on, what waits
// behind it costs next to nothing, however much it is; what waits for others goes on.
func TestBusyRepositoryIsNotRead(t *testing.T) {
	w := open(t, forwarding(t, &breaking{make(chan io.ReadCloser, 100)}))
	ctx := t.Context()
	if err := w.Pause(ctx, w.Names()[0], true); err != nil {
		t.Fatal(err)
	}
	const most = 1000
	var tags []registry.Tag
	for i := range most {
		tags = append(tags, registry.Tag(fmt.Sprint("v", i)))
	}
	for some := range slices.Chunk(tags, registry.MaxTagsPerPut) {
		w.announced(t, "a", registry.SHA256.FromString("x"), some...)
	}
	next := func(want bool, busy ...registry.Name) {
		t.Helper()
		if got, err := w.NextForward(ctx, busy...); err != nil || got != want {
			t.Errorf("busy %v: something is next: %v, %v", busy, got, err)
		}
	}
	next(true)
	next(true, "b", "c")
	if n := testing.AllocsPerRun(5, func() { next(false, "b", "a", "c") }); n > most {
		t.Errorf("%.0f allocations for %d pushes that wait", n, most)
	}
	w.announced(t, "d", registry.SHA256.FromString("y"), "v1")
	next(true, "a")
}

// TestBehindOneGivenUp: what is behind a push that has failed waits until that is tried
// again, and not at all once it was given up.
func TestBehindOneGivenUp(t *testing.T) {
	w := open(t, forwarding(t, &breaking{make(chan io.ReadCloser, 100)}))
	ctx := t.Context()
	if err := w.Pause(ctx, w.Names()[0], true); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "two"} {
		w.announced(t, "a", registry.SHA256.FromString(text), "v1")
	}
	if ok, err := w.NextAfter(ctx, func(int64) error { return nil }); err != nil || ok {
		t.Errorf("one that has failed: something is next: %v, %v", ok, err)
	}
	if ok, err := w.NextAfter(ctx, func(number int64) error { return w.DropForward(ctx, number) }); err != nil || !ok {
		t.Errorf("one that was given up: something is next: %v, %v", ok, err)
	}
}

// TestPausedAfterALook: what was pushed after its rule was paused is not passed on,
// though a look for it had begun before.
func TestPausedAfterALook(t *testing.T) {
	w := open(t, forwarding(t, &breaking{make(chan io.ReadCloser, 100)}))
	ctx := t.Context()
	if err := w.Pause(ctx, w.Names()[0], true); err != nil {
		t.Fatal(err)
	}
	w.announced(t, "a", registry.SHA256.FromString("one"), "v1")
	if began, err := w.BeginNext(ctx); began || err != nil {
		t.Errorf("what was pushed to a paused rule is passed on: %v, %v", began, err)
	}
}
