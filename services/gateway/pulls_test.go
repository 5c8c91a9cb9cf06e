package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// ledger is a catalog that notes what is reported.
type ledger struct {
	mu    sync.Mutex
	err   error
	calls int
	count map[string]int64
	last  map[string]registry.Pull
}

func (l *ledger) CountPulls(_ context.Context, all []registry.Pull) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if l.err != nil {
		return l.err
	}
	if len(all) > registry.MaxPulls {
		return errors.New("too many")
	}
	for _, p := range all {
		k := fmt.Sprintf("%s:%s@%s", p.Repository, p.Tag, p.Digest)
		l.count[k] += p.Count
		l.last[k] = p
	}
	return nil
}

func (l *ledger) PullsOf(context.Context, registry.Actor, registry.Name, registry.Digest, registry.Page[registry.Tag]) (registry.List[registry.Pull], error) {
	return registry.List[registry.Pull]{}, nil
}

func newLedger() *ledger { return &ledger{count: map[string]int64{}, last: map[string]registry.Pull{}} }

func testPulls(l *ledger) *pulls { return newPulls(l, metrics.New(), slog.New(slog.DiscardHandler)) }

// Pulls of one manifest by one name are one entry, which is reported at most ten
// seconds later, without anything to do in between.
func TestPullsAreMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		p := testPulls(l)
		tag := registry.Reference{Tag: "v1"}
		for i := range 100 {
			p.add("a", tag, "sha256:1", registry.Actor{ID: fmt.Sprint("user", i)}, time.UnixMicro(int64(i)))
		}
		p.add("a", registry.Reference{Digest: "sha256:1"}, "sha256:1", registry.Actor{}, time.UnixMicro(7))
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if diff := cmp.Diff(map[string]int64{"a:v1@sha256:1": 100, "a:@sha256:1": 1}, l.count); diff != "" || l.calls != 1 {
			t.Errorf("%d calls (-want +got):\n%s", l.calls, diff)
		}
		want := registry.Pull{Repository: "a", Tag: "v1", Digest: "sha256:1", Actor: "user99", At: 99, Count: 100}
		if diff := cmp.Diff(want, l.last["a:v1@sha256:1"]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		time.Sleep(time.Hour)
		if l.calls != 1 {
			t.Errorf("%d calls while nobody pulls", l.calls)
		}
	})
}

// While the catalog is away pulls wait; what it refuses is given up.
func TestPullsWaitForTheCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.err = registry.ErrUnavailable
		p := testPulls(l)
		ref := registry.Reference{Tag: "v1"}
		p.add("a", ref, "sha256:1", registry.Actor{}, time.UnixMicro(1))
		time.Sleep(12 * time.Second)
		p.add("a", ref, "sha256:1", registry.Actor{ID: "late"}, time.UnixMicro(2))
		l.mu.Lock()
		l.err = nil
		l.mu.Unlock()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got := l.last["a:v1@sha256:1"]; got.Count != 2 || got.Actor != "late" {
			t.Errorf("got %+v, want both", got)
		}
		l.mu.Lock()
		l.err = registry.ErrInternal
		l.mu.Unlock()
		p.add("a", ref, "sha256:1", registry.Actor{}, time.UnixMicro(3))
		time.Sleep(time.Hour)
		synctest.Wait()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.calls > 5 || p.dropped.Value() != 1 {
			t.Errorf("%d calls, %d dropped", l.calls, p.dropped.Value())
		}
	})
}

// Whatever clients pull, memory is bounded, and what is lost is counted.
func TestPullsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		p := testPulls(l)
		for i := range pullsRoom + 10 {
			p.add("a", registry.Reference{Tag: registry.Tag(fmt.Sprint(i))}, "sha256:1", registry.Actor{}, time.UnixMicro(1))
		}
		if p.dropped.Value() != 10 || len(p.waiting) != pullsRoom {
			t.Errorf("%d wait, %d dropped", len(p.waiting), p.dropped.Value())
		}
		p.close(t.Context())
		if len(l.count) != pullsRoom {
			t.Errorf("%d were reported at the end, want %d", len(l.count), pullsRoom)
		}
		p.add("b", registry.Reference{}, "sha256:1", registry.Actor{}, time.UnixMicro(1))
		time.Sleep(time.Hour)
		synctest.Wait()
		if len(l.count) != pullsRoom {
			t.Error("something is counted after the end")
		}
	})
}

// At the end a catalog that is away is not waited for.
func TestPullsAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLedger()
		l.err = registry.ErrUnavailable
		p := testPulls(l)
		p.add("a", registry.Reference{}, "sha256:1", registry.Actor{}, time.UnixMicro(1))
		p.close(t.Context())
		if l.calls != 1 || p.dropped.Value() != 1 {
			t.Errorf("%d calls, %d dropped", l.calls, p.dropped.Value())
		}
	})
}

// Which requests are pulls: those that get a manifest, or hear that theirs is
// still the right one.
func TestWhatIsAPull(t *testing.T) {
	w := newWorld()
	g := w.gateway(t)
	s := httptest.NewServer(g)
	defer s.Close()
	base := s.URL
	d := pushImage(t, base, "a", "v1")
	etag := `"` + d.String() + `"`
	for _, request := range []struct {
		method, ref, ifNone string
		status              int
	}{
		{"GET", "v1", "", 200}, {"GET", "v1", etag, 304}, {"GET", d.String(), "", 200},
		{"HEAD", "v1", "", 200}, {"HEAD", d.String(), etag, 304}, {"GET", "v2", "", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), request.method, base+"/v2/a/manifests/"+request.ref, nil)
		if err != nil {
			t.Fatal(err)
		}
		if request.ifNone != "" {
			r.Header.Set("If-None-Match", request.ifNone)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != request.status {
			t.Errorf("%v: got %d", request, resp.StatusCode)
		}
	}
	g.Close()
	list, err := w.deps.Catalog.PullsOf(t.Context(), registry.Actor{}, "a", d, registry.Page[registry.Tag]{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	got := map[registry.Tag]int64{}
	for _, p := range list.Items {
		got[p.Tag] = p.Count
		if age := time.Since(time.UnixMicro(p.At)); age < 0 || age > time.Hour {
			t.Errorf("%+v was not just now", p)
		}
	}
	if diff := cmp.Diff(map[registry.Tag]int64{"v1": 2, "": 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
