package syncer_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestS078WrongContent: what is not what its digest says is stored nowhere, and ends
// with an error for who reads it.
func TestS078WrongContent(t *testing.T) {
	up := newHostile(t)
	layer := random(1 << 20)
	d, _ := up.image(t, "a", "v1", layer)
	blob := registry.SHA256.FromBytes(layer)
	up.set(func() {
		up.blobs[blob] = append(layer[:len(layer)-1:len(layer)-1], layer[len(layer)-1]^1)
		up.manifests["a/"+string(d)] = stored{registry.TypeManifest, []byte(`{"schemaVersion":2}`)}
	})
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	if _, err := w.Resolve(ctx, nobody, "a", registry.Reference{Digest: d}, ""); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a manifest with other content: %v", err)
	}
	c, err := w.Open(ctx, nobody, "a", blob, registry.Whole)
	var got []byte
	if err == nil { // or else all of it has come and gone by now
		got, err = drainBody(t, c)
	}
	if !errors.Is(err, registry.ErrUnavailable) || len(got) >= len(layer) {
		t.Errorf("a blob with other content: %d of %d bytes, %v", len(got), len(layer), err)
	}
	if list, err := w.catalog.Repositories(ctx, nobody, registry.Page[registry.Name]{Limit: 1}); err != nil || len(list.Items) > 0 {
		t.Errorf("something was stored: %v, %v", list, err)
	}
	if list, err := w.blobs.Copies(ctx, "", nil, 1); err != nil || len(list) > 0 {
		t.Errorf("bytes were stored: %v, %v", list, err)
	}
	// When the upstream has mended itself, so has the mirror.
	up.set(func() { up.blobs[blob] = layer })
	c, err = w.Open(ctx, nobody, "a", blob, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer) {
		t.Errorf("after that: %d bytes, %v", len(got), err)
	}
}

// TestP97FailuresAreNotMissing: only a 404 of the upstream is one here.
func TestP97FailuresAreNotMissing(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   error
	}{
		"401": {func(w http.ResponseWriter) { w.WriteHeader(401) }, registry.ErrDenied},
		"403": {func(w http.ResponseWriter) { w.WriteHeader(403) }, registry.ErrDenied},
		"404": {func(w http.ResponseWriter) { w.WriteHeader(404) }, registry.ErrManifestUnknown},
		"429": {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, registry.ErrTooManyRequests},
		"500": {func(w http.ResponseWriter) { w.WriteHeader(500) }, registry.ErrUnavailable},
		"503": {func(w http.ResponseWriter) { w.WriteHeader(503) }, registry.ErrUnavailable},
		"a login page": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>please log in</html>")
		}, registry.ErrUnavailable},
		"broken": {func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }, registry.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			up := newHostile(t)
			up.set(func() {
				up.answer = func(w http.ResponseWriter, _ *http.Request) bool { c.answer(w); return true }
			})
			w := open(t, at(t, up.URL))
			if _, err := w.Resolve(t.Context(), nobody, "a", tag("v1"), ""); !errors.Is(err, c.want) {
				t.Errorf("manifest: %v, want %v", err, c.want)
			}
		})
	}
}

// TestP96UpstreamDown: what is here is served with the upstream down, with a warning
// and, once that is known, without asking it.
func TestP96UpstreamDown(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", random(100))
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1"), ""); err != nil {
		t.Fatal(err)
	}
	before := up.asked("")
	for range 10 {
		if res, err := w.Resolve(ctx, nobody, "a", tag("v1"), d); err != nil || res != (registry.Resolution{Digest: d}) {
			t.Fatal(res, err)
		}
	}
	if n := up.asked("") - before; n != 0 {
		t.Errorf("%d requests for a tag that is fresh", n)
	}
	up.set(func() {
		up.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
	})
	w.later.Store(int64(2 * time.Minute))
	for range 20 {
		res, err := w.Resolve(ctx, nobody, "a", tag("v1"), d)
		if err != nil || res.Digest != d || res.Warning == "" {
			t.Fatalf("the upstream is down: %+v, %v", res, err)
		}
		time.Sleep(time.Millisecond)
	}
	before = up.asked("")
	for range 100 {
		if res, err := w.Resolve(ctx, nobody, "a", tag("v1"), d); err != nil || res.Digest != d {
			t.Fatal(res, err)
		}
	}
	if n := up.asked("") - before; n != 0 {
		t.Errorf("%d requests to an upstream that is known to be down", n)
	}
	// 72 hours later it is back.
	up.set(func() { up.answer = nil })
	w.later.Store(int64(72 * time.Hour))
	d2, _ := up.image(t, "a", "v1", random(100))
	waitFor(t, "the tag is what it is upstream", func() bool {
		if _, err := w.Resolve(ctx, nobody, "a", tag("v1"), d); err != nil {
			t.Fatal(err)
		}
		m, err := w.catalog.Manifest(ctx, nobody, "a", registry.ManifestQuery{Ref: tag("v1")})
		if err != nil {
			t.Fatal(err)
		}
		return m.Digest == d2
	})
}

// TestNegative: what the upstream does not have is not asked for again at once.
func TestNegative(t *testing.T) {
	up := newHostile(t)
	w := open(t, at(t, up.URL))
	for range 20 {
		if _, err := w.Resolve(t.Context(), nobody, "a", tag("v1"), ""); !errors.Is(err, registry.ErrManifestUnknown) {
			t.Fatal(err)
		}
	}
	if n := up.asked(""); n != 1 {
		t.Errorf("%d requests", n)
	}
	up.image(t, "a", "v1")
	w.later.Store(int64(time.Minute))
	if _, err := w.Resolve(t.Context(), nobody, "a", tag("v1"), ""); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}
