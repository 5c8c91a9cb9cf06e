package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer"
)

// TestP91NamesOfClients: what docker, podman and containerd call an image of Docker Hub
// or of another registry, on a mirror of several, is the same repository of the same
// upstream.
func TestP91NamesOfClients(t *testing.T) {
	hub, other := newHostile(t), newHostile(t)
	d, _ := hub.image(t, "library/nginx", "v1")
	e, _ := other.image(t, "org/app", "v1")
	a, b := at(t, hub.URL), at(t, other.URL)
	a.Host, b.Host = "docker.io", "ghcr.io"
	w := open(t, a, b)
	for _, c := range []struct {
		name registry.Name
		want registry.Digest
		up   *hostile
		path string
	}{
		{"library/nginx", d, hub, "/v2/library/nginx/"},           // docker, registry-mirrors
		{"nginx", d, hub, "/v2/library/nginx/"},                   // a person
		{"docker.io/library/nginx", d, hub, "/v2/library/nginx/"}, // podman, by prefix
		{"docker.io/nginx", d, hub, "/v2/library/nginx/"},
		{"index.docker.io/library/nginx", d, hub, "/v2/library/nginx/"},
		{"ghcr.io/org/app", e, other, "/v2/org/app/"},
		{"org/app", e, other, "/v2/org/app/"}, // Docker Hub has none
	} {
		before := c.up.asked("GET " + c.path)
		res, err := w.Resolve(t.Context(), nobody, c.name, tag("v1"), "")
		if err != nil || res.Digest != c.want {
			t.Errorf("%s: %+v, %v; want %s", c.name, res, err, c.want)
		}
		if c.up.asked("GET "+c.path) == before {
			t.Errorf("%s: %s was not asked for", c.name, c.path)
		}
	}
	if n := hub.asked("GET /v2/docker.io/") + other.asked("GET /v2/ghcr.io/") + hub.asked("GET /v2/nginx/"); n != 0 {
		t.Errorf("%d requests for names that the upstream does not know", n)
	}
}

// TestP94ClientLeaves: the fetch of a blob goes on when the only client that wants it
// leaves, however it leaves.
func TestP94ClientLeaves(t *testing.T) {
	for how, leave := range map[string]func(registry.Content, context.CancelFunc){
		"its context ends": func(_ registry.Content, cancel context.CancelFunc) { cancel() },
		"it closes":        func(c registry.Content, _ context.CancelFunc) { c.Close() },
	} {
		up := newHostile(t)
		layer := random(1 << 20)
		up.image(t, "a", "v1", layer)
		up.set(func() { up.hold = make(chan struct{}) })
		w := open(t, at(t, up.URL))
		ctx, cancel := context.WithCancel(t.Context())
		c, err := w.Open(ctx, nobody, "a", registry.SHA256.FromBytes(layer), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		leave(c, cancel)
		c.Close()
		cancel()
		w.fetches(t, how+", and nobody reads the blob", func(fills []registry.Fill) bool {
			if len(fills) != 1 {
				t.Fatalf("%s: %+v", how, fills)
			}
			return fills[0].Readers == 0
		})
		up.set(func() { close(up.hold) })
		w.linked(t, "a", registry.SHA256.FromBytes(layer))
		if n := up.asked("GET /v2/a/blobs/"); n != 1 {
			t.Errorf("%s: %d requests", how, n)
		}
	}
}

// TestP96Missing: for what is not here an upstream that is down is told of at once, so
// that a client goes on to its next registry, and what is here by digest needs nobody.
func TestP96Missing(t *testing.T) {
	up := newHostile(t)
	layer := random(1000)
	d, _ := up.image(t, "a", "v1", layer)
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1"), ""); err != nil {
		t.Fatal(err)
	}
	up.Server.Close()
	for range 10 {
		if _, err := w.Resolve(ctx, nobody, "a", tag("v2"), ""); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("a tag: %v", err)
		}
		if _, err := w.Resolve(ctx, nobody, "a", registry.Reference{Digest: registry.SHA256.FromString("x")}, ""); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("a digest: %v", err)
		}
		if _, err := w.Stat(ctx, nobody, "a", registry.SHA256.FromBytes(layer)); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("a blob: %v", err)
		}
		if res, err := w.Resolve(ctx, nobody, "a", registry.Reference{Digest: d}, d); err != nil || res != (registry.Resolution{Digest: d}) {
			t.Errorf("what is here, by digest: %+v, %v", res, err)
		}
	}
}

// TestP97TagsAreAskedForWithHead: whether a tag has moved is asked with HEAD, which
// registries count as no pull; what has moved is fetched once, and only then.
func TestP97TagsAreAskedForWithHead(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", []byte("1"))
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	check := func(what string, local, want registry.Digest, gets, heads int) {
		t.Helper()
		g, h := up.asked("GET "), up.asked("HEAD ")
		if res, err := w.Resolve(ctx, nobody, "a", tag("v1"), local); err != nil || res != (registry.Resolution{Digest: want}) {
			t.Fatalf("%s: %+v, %v", what, res, err)
		}
		if g, h = up.asked("GET ")-g, up.asked("HEAD ")-h; g != gets || h != heads {
			t.Errorf("%s: %d GET and %d HEAD, want %d and %d", what, g, h, gets, heads)
		}
	}
	check("the first time", "", d, 1, 0)
	check("within a minute", d, d, 0, 0)
	w.later.Add(int64(2 * time.Minute))
	check("after it", d, d, 0, 1)
	e, _ := up.image(t, "a", "v1", []byte("2"))
	w.later.Add(int64(2 * time.Minute))
	check("when it has moved", d, e, 1, 1)
	up.set(func() { up.manifests["a/v1"] = up.manifests["a/"+string(d)] })
	w.later.Add(int64(2 * time.Minute))
	check("when it has moved back to what is here", e, d, 0, 1)
}

// TestP99ReferrersOfMirrored: a schedule brings what refers to an image, also what refers
// to that, cosign's tags, and an index of attestations, each once however often it runs:
// no list has anything twice.
func TestP99ReferrersOfMirrored(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", []byte("layer"))
	up.mu.Lock()
	size := func(of registry.Digest) int64 { return int64(len(up.manifests["a/"+string(of)].content)) }
	refer := func(to registry.Digest, kind string) registry.Digest {
		r, b := up.add(t, "a", "", registry.TypeManifest, map[string]any{
			"schemaVersion": 2, "mediaType": registry.TypeManifest, "artifactType": "application/x-" + kind,
			"config": up.blob("application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []registry.Descriptor{up.blob("text/plain", []byte(kind))},
			"subject": registry.Descriptor{MediaType: registry.TypeManifest, Digest: to, Size: size(to)},
		})
		desc := registry.Descriptor{MediaType: registry.TypeManifest, Digest: r, Size: int64(len(b)), ArtifactType: "application/x-" + kind}
		up.referrers[to] = append(up.referrers[to], desc, desc) // an upstream that repeats itself
		return r
	}
	sbom, sig := refer(d, "sbom"), refer(d, "sig")
	ofSBOM := refer(sbom, "sig-of-sbom")
	up.mu.Unlock()
	old := registry.Tag(strings.Replace(string(d), ":", "-", 1) + ".att")
	up.image(t, "a", string(old), []byte("attestation"))
	r := at(t, up.URL, syncer.Content{Prefix: "a"})
	r.Interval = time.Hour
	w := open(t, r)
	ctx := t.Context()
	last := finished(t, w, 0)
	for range 2 {
		last = again(t, w, last)
		for of, want := range map[registry.Digest][]registry.Digest{d: {sbom, sig}, sbom: {ofSBOM}} {
			list, err := w.catalog.Referrers(ctx, nobody, "a", of, "", registry.Page[registry.Digest]{Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			got := map[registry.Digest]int{}
			for _, x := range list.Items {
				got[x.Digest]++
			}
			wanted := map[registry.Digest]int{}
			for _, x := range want {
				wanted[x] = 1
			}
			if diff := cmp.Diff(wanted, got); diff != "" {
				t.Errorf("what refers to %s:\n%s", of, diff)
			}
		}
		w.wantTags(t, "copied", "a", old, "v1")
	}
	for _, x := range []registry.Digest{sbom, sig, ofSBOM} {
		if n := up.asked("GET /v2/a/manifests/" + string(x)); n != 1 {
			t.Errorf("%s was fetched %d times", x, n)
		}
	}
	// A tag that moved nowhere has one entry in its history.
	for _, name := range []registry.Tag{"v1", old} {
		if h, err := w.catalog.TagHistory(ctx, nobody, "a", name, 10); err != nil || len(h) != 1 {
			t.Errorf("history of %s: %+v, %v", name, h, err)
		}
	}
}

// TestP100WrongLengths: what an upstream says of the length and the digest of a blob is
// not what is stored: only the hash of the bytes is.
func TestP100WrongLengths(t *testing.T) {
	layer := random(100_000)
	blob := registry.SHA256.FromBytes(layer)
	for name, c := range map[string]struct {
		send func(w http.ResponseWriter)
		good bool
	}{
		"none": {func(w http.ResponseWriter) { http.NewResponseController(w).Flush(); w.Write(layer) }, true},
		"another digest": {func(w http.ResponseWriter) {
			w.Header().Set("Docker-Content-Digest", string(registry.SHA256.FromString("x")))
			w.Write(layer)
		}, true},
		"too long": {func(w http.ResponseWriter) { w.Header().Set("Content-Length", itoa(len(layer)+10)); w.Write(layer) }, false},
		"too short": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", itoa(len(layer)-10))
			w.Write(layer[:len(layer)-10])
		}, false},
		"more": {func(w http.ResponseWriter) { w.Write(append(layer[:len(layer):len(layer)], 1)) }, false},
		"encoded": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(layer)
		}, false},
	} {
		up := newHostile(t)
		up.image(t, "a", "v1", layer)
		var sent atomic.Int64
		up.set(func() {
			up.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || r.Header.Get("Range") != "" {
					return false
				}
				sent.Add(1)
				c.send(w)
				return true
			}
		})
		w := open(t, at(t, up.URL))
		got, err := []byte(nil), error(nil)
		content, err := w.Open(t.Context(), nobody, "a", blob, registry.Whole)
		if err == nil {
			got, err = drainBody(t, content)
		}
		switch {
		case sent.Load() == 0:
			t.Errorf("%s: void: nothing was asked for", name)
		case err == nil && !bytes.Equal(got, layer):
			t.Errorf("%s: %d other bytes, and no error", name, len(got))
		case c.good && err != nil:
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if b := w.linked(t, "a", blob); b.Size != int64(len(layer)) {
				t.Errorf("%s: %d bytes are stored", name, b.Size)
			}
		} else if _, err := w.catalog.Blob(t.Context(), nobody, "a", blob); err == nil {
			t.Errorf("%s: it is stored all the same", name)
		}
		w.close()
	}
}
