package syncer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
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
