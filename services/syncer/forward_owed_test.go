package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/syncer"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// deaf is a transport whose uploads go on until release is closed, whoever wants them to
// end.
type deaf struct {
	breaking
	release chan struct{}
}

func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := d.breaking.RoundTrip(r)
	if err != nil {
		<-d.release
	}
	return res, err
}

// forwarding is a rule that passes pushes on by a transport.
func forwarding(t *testing.T, transport http.RoundTripper) *syncer.Rule {
	t.Helper()
	const url = "http://registry.example.com"
	r := at(t, url)
	h, err := upstream.New(upstream.Options{URL: url, Transport: transport, Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	r.Hosts, r.Push, r.OnDemand = []*upstream.Host{h}, registry.PushForward, false
	return r
}

func (w *world) owes(t *testing.T, repo registry.Name, tag registry.Tag) bool {
	t.Helper()
	owed, err := w.Owes(t.Context(), repo, tag)
	if err != nil {
		t.Fatal(err)
	}
	return owed
}

// announced announces a push that is stored.
func (w *world) announced(t *testing.T, repo registry.Name, d registry.Digest, tags ...registry.Tag) {
	t.Helper()
	receipt, err := w.Announce(t.Context(), nobody, repo, registry.AnnouncedPush{Tags: tags, Digest: d})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Settle(t.Context(), receipt, true); err != nil {
		t.Fatal(err)
	}
}

// TestGivenUpByWhoLeaves: a push that was given up is owed no longer, so that its tag is
// fetched again, although whoever gave it up has left before its attempt has ended.
func TestGivenUpByWhoLeaves(t *testing.T) {
	transport := &deaf{breaking{make(chan io.ReadCloser, 100)}, make(chan struct{})}
	w := open(t, forwarding(t, transport))
	t.Cleanup(func() { close(transport.release) }) // before w is closed
	w.announced(t, "a", w.pushImage(t, "a", "v1", "layer"), "v1")
	select {
	case <-transport.bodies:
	case <-time.After(time.Minute):
		t.Fatal("nothing is uploaded")
	}
	if !w.owes(t, "a", "v1") {
		t.Fatal("void: nothing is owed")
	}
	ctx, leave := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- w.DropForward(ctx, 1) }()
	waitFor(t, "it is given up", func() bool {
		all, err := w.Forwards(t.Context(), registry.ForwardQuery{Limit: 10, Open: true})
		if err != nil {
			t.Fatal(err)
		}
		return len(all) == 0
	})
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("void: the attempt has ended: %v", err)
	}
	if w.owes(t, "a", "v1") {
		t.Error("it is owed")
	}
}

// TestOwedIsCountedMeanwhile: to have everything tried again while pushes come makes
// nobody forget that they are owed: what is upstream would take their place.
func TestOwedIsCountedMeanwhile(t *testing.T) {
	w := open(t, forwarding(t, &breaking{make(chan io.ReadCloser, 100)}))
	rule := w.Names()[0]
	if err := w.Pause(t.Context(), rule, true); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if err := w.Reforward(t.Context(), rule); err != nil {
				stopped <- err
				return
			}
		}
	}()
	for i := range 200 {
		name := registry.Tag(fmt.Sprint("v", i))
		w.announced(t, "a", registry.SHA256.FromString(string(name)), name)
		if !w.owes(t, "a", name) {
			t.Errorf("push %d is not owed", i)
			break
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// TestStoredLate: a push or a removal that takes longer to be stored than it is waited for
// is passed on all the same when it is known that it was, unless the tag was pushed since.
func TestStoredLate(t *testing.T) {
	up := newHostile(t)
	up.set(func() {
		up.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	})
	r := at(t, up.URL)
	r.Push, r.OnDemand, r.Deletes = registry.PushForward, false, true
	w := open(t, r)
	ctx := t.Context()
	state := func(number int64) registry.ForwardState {
		t.Helper()
		all, err := w.Forwards(ctx, registry.ForwardQuery{Limit: 1, After: number - 1})
		if err != nil || len(all) != 1 || all[0].Number != number {
			t.Fatal(all, err)
		}
		return all[0].State
	}
	there := pushTag(t, w, "d", "v1", "removed late")
	late := registry.SHA256.FromString(text("late"))
	pushes := []struct {
		repo registry.Name
		push registry.AnnouncedPush
		then func()
		want registry.ForwardState
	}{
		{"a", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: late}, func() { pushTag(t, w, "a", "v1", "late") }, registry.ForwardWaiting},
		{"b", registry.AnnouncedPush{Digest: late}, func() { pushTag(t, w, "b", "other", "late") }, registry.ForwardWaiting},
		{"c", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: late}, func() {
			w.announced(t, "c", pushTag(t, w, "c", "v1", "newer"), "v1")
		}, registry.ForwardDropped},
		{"d", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: there, Deletion: true}, func() {
			if err := w.catalog.DeleteTag(ctx, nobody, "d", "v1", registry.Condition{}); err != nil {
				t.Fatal(err)
			}
		}, registry.ForwardWaiting},
	}
	receipts := make([]string, len(pushes))
	for i, p := range pushes {
		var err error
		if receipts[i], err = w.Announce(ctx, nobody, p.repo, p.push); err != nil || receipts[i] == "" {
			t.Fatal(receipts[i], err)
		}
	}
	w.later.Store(int64(2 * time.Minute))
	for i := range pushes {
		waitFor(t, "nobody waits for it any more", func() bool { return state(int64(i+1)) == registry.ForwardDropped })
	}
	for i, p := range pushes {
		p.then()
		if err := w.Settle(ctx, receipts[i], true); err != nil {
			t.Fatal(err)
		}
		if got := state(int64(i + 1)); got != p.want {
			t.Errorf("%s: what was stored late is %s, want %s", p.repo, got, p.want)
		}
	}
	if !w.owes(t, "a", "v1") {
		t.Error("it is not owed")
	}
}

// afterLook does something once when it was looked for what a tag was.
type afterLook struct {
	*memory.Catalog
	then func()
}

func (c afterLook) TagHistory(ctx context.Context, a registry.Actor, repo registry.Name, tag registry.Tag, limit int) ([]registry.TagChange, error) {
	all, err := c.Catalog.TagHistory(ctx, a, repo, tag, limit)
	c.then()
	return all, err
}

// TestStoredAfterALook: a push that is stored when it was just looked for in vain is passed
// on.
func TestStoredAfterALook(t *testing.T) {
	up := newHostile(t)
	up.set(func() {
		up.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true }
	})
	r := at(t, up.URL)
	r.Push, r.OnDemand = registry.PushForward, false
	w := &world{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{}), root: t.TempDir(), later: &skew}
	skew.Store(0)
	var once sync.Once
	var receipt string
	w.front = func(c *memory.Catalog) syncer.Catalog {
		return afterLook{c, func() {
			once.Do(func() {
				pushTag(t, w, "a", "v1", "late")
				if err := w.Settle(t.Context(), receipt, true); err != nil {
					t.Error(err)
				}
			})
		}}
	}
	w.start(t, r)
	pushTag(t, w, "a", "v0", "before")
	var err error
	if receipt, err = w.Announce(t.Context(), nobody, "a", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: registry.SHA256.FromString(text("late"))}); err != nil {
		t.Fatal(err)
	}
	w.later.Store(int64(2 * time.Minute))
	waitFor(t, "it is tried to pass it on, or given up", func() bool {
		all, err := w.Forwards(t.Context(), registry.ForwardQuery{Limit: 1})
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		if all[0].State == registry.ForwardDropped {
			t.Fatalf("it is given up: %s", all[0].Error)
		}
		return up.asked("") > 0
	})
}
