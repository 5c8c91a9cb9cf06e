package allinone

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestForwardGivenUp: to give up a push that is being passed on ends that: it does not
// arrive later, what is behind it goes on, and what becomes of it says whether it may have
// arrived, which it can't before its manifest is sent.
func TestForwardGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		split  bool
		method string
		arrive bool
	}{
		"a layer, linked":    {false, http.MethodPatch, false},
		"a layer, split":     {true, http.MethodPatch, false},
		"a manifest, linked": {false, http.MethodPut, true},
		"a manifest, split":  {true, http.MethodPut, true},
	} {
		t.Run(name, func(t *testing.T) { testForwardGivenUp(t, c.split, c.method, c.arrive) })
	}
}

func testForwardGivenUp(t *testing.T, split bool, method string, arrive bool) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	to, err := url.Parse(hq.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	var hung, left atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == method && (method == http.MethodPatch || strings.HasSuffix(r.URL.Path, "/manifests/v1")) && !hung.Swap(true) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			left.Store(true)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	link := newLine(t, front.URL)
	e := newEnd(t, link, "", split)
	e.push("team/app", "v1", []byte("one"))
	waitFor(t, hung.Load)
	behind := e.push("team/app", "v2", []byte("two")) // of one repository one is sent at a time
	m := e.mirror.get()
	began := time.Now()
	if err := m.DropForward(t.Context(), e.forwards(true)[0].Number); err != nil {
		t.Fatal(err)
	}
	f := e.forwards(false)[0]
	if f.State != registry.ForwardDropped || strings.Contains(f.Error, "may have arrived") != arrive {
		t.Errorf("it ended as %+v", f)
	}
	waitFor(t, left.Load)
	if took := time.Since(began); took > 15*time.Second { // half of what a host that is silent gets
		t.Errorf("the attempt went on for %v", took)
	}
	waitFor(t, func() bool { return len(e.forwards(true)) == 0 }) // nobody has to ask for it
	if one, two := hq.history("team/app", "v1"), hq.history("team/app", "v2"); len(one) != 0 || len(two) != 1 || two[0] != behind {
		t.Errorf("the tags were %v and %v there, want %s for the second", one, two, behind)
	}
}
