package syncer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/syncer"
)

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func tag(t registry.Tag) registry.Reference { return registry.Reference{Tag: t} }

// TestP92ColdBlob: a manifest comes byte for byte without its blobs, and a blob while it is
// being fetched: to who reads from its start, to a Range ahead, and to all others
// with one request upstream.
func TestP92ColdBlob(t *testing.T) {
	up := newHostile(t)
	layer := random(1 << 20)
	d, content := up.image(t, "team/app", "v1", layer)
	w := open(t, at(t, up.URL))
	ctx := t.Context()

	res, err := w.Resolve(ctx, nobody, "team/app", tag("v1"), "")
	if err != nil || res.Digest != d {
		t.Fatalf("Resolve: %v, %v", res, err)
	}
	m, err := w.catalog.Manifest(ctx, nobody, "team/app", registry.ManifestQuery{Ref: tag("v1")})
	if err != nil || !bytes.Equal(m.Bytes, content) {
		t.Fatalf("the catalog has %q, %v", m.Bytes, err)
	}
	if n := up.asked("GET /v2/team/app/blobs/"); n != 0 {
		t.Errorf("%d blobs were fetched that nobody asked for", n)
	}

	up.set(func() { up.hold = make(chan struct{}) })
	blob := registry.SHA256.FromBytes(layer)
	whole, err := w.Open(ctx, nobody, "team/app", blob, registry.Whole)
	if err != nil || whole.Size() != int64(len(layer)) {
		t.Fatal(whole, err)
	}
	first := make([]byte, len(layer)/2)
	if _, err := io.ReadFull(whole, first); err != nil || !bytes.Equal(first, layer[:len(first)]) {
		t.Fatalf("the first half did not come while the second was held back: %v", err)
	}
	if _, err := w.catalog.Blob(ctx, nobody, "team/app", blob); err == nil {
		t.Error("a blob is known before all of it is here")
	}
	tail, err := w.Open(ctx, nobody, "team/app", blob, registry.Range{Offset: int64(len(layer)) - 100, Length: 100})
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	leaver, err := w.Open(gone, nobody, "team/app", blob, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	cancel() // who leaves stops nothing
	if _, err := drainBody(t, leaver); !errors.Is(err, context.Canceled) {
		t.Errorf("reading with a context that has ended: %v", err)
	}
	up.set(func() { close(up.hold) })
	rest, err := drainBody(t, whole)
	if err != nil || !bytes.Equal(append(first, rest...), layer) {
		t.Errorf("%d bytes after the first %d: %v", len(rest), len(first), err)
	}
	if got, err := drainBody(t, tail); err != nil || !bytes.Equal(got, layer[len(layer)-100:]) {
		t.Errorf("the Range: %d bytes, %v", len(got), err)
	}
	b := w.linked(t, "team/app", blob)
	c, err := w.blobs.Open(ctx, b.Stored, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer) {
		t.Errorf("the store has %d bytes, %v", len(got), err)
	}
	if n := up.asked("GET /v2/team/app/blobs/"); n != 1 {
		t.Errorf("%d requests upstream for one blob", n)
	}
}

// TestP93OneFetch: 100 clients ask for a cold blob, and the upstream is asked once.
func TestP93OneFetch(t *testing.T) {
	up := newHostile(t)
	layer := random(3 << 20)
	up.image(t, "a", "v1", layer)
	w := open(t, at(t, up.URL))
	blob := registry.SHA256.FromBytes(layer)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			r := registry.Whole
			if i%3 == 1 {
				r = registry.Range{Offset: int64(i) * 1000, Length: 50_000}
			}
			c, err := w.Open(t.Context(), nobody, "a", blob, r)
			if err != nil {
				t.Error(err)
				return
			}
			offset, length, _ := r.Resolve(int64(len(layer)))
			if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer[offset:offset+length]) {
				t.Errorf("client %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	all.Wait()
	w.linked(t, "a", blob)
	if n := up.asked("GET /v2/a/blobs/"); n != 1 {
		t.Errorf("%d requests upstream", n)
	}
}

// looking is a catalog that tells when somebody looks for a blob.
type looking struct {
	*memory.Catalog
	at func(registry.Name, registry.Digest)
}

func (c looking) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	b, err := c.Catalog.Blob(ctx, a, repo, d)
	c.at(repo, d)
	return b, err
}

// TestS004OneUpstreamsBlob: what is being fetched from one upstream is not for the
// readers of another that does not have it, whenever they come, and whether they pull
// or copy.
func TestS004OneUpstreamsBlob(t *testing.T) {
	for _, copies := range []bool{false, true} {
		ours, theirs := newHostile(t), newHostile(t)
		layer := random(1 << 20)
		ours.image(t, "ours/app", "v1", layer)
		theirs.image(t, "theirs/app", "v1", layer)
		secret := registry.SHA256.FromBytes(layer)
		theirs.set(func() { delete(theirs.blobs, secret) }) // the manifest only names it
		ours.set(func() { ours.hold = make(chan struct{}) })
		w := &world{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{}), root: t.TempDir(), later: &skew}
		skew.Store(0)
		var once sync.Once
		started := make(chan struct{})
		w.front = func(c *memory.Catalog) syncer.Catalog {
			return looking{c, func(repo registry.Name, d registry.Digest) {
				if repo != "theirs/app" || d != secret {
					return
				}
				once.Do(func() { // a pull of ours begins while theirs looks around
					<-started
					c, err := w.Open(t.Context(), nobody, "ours/app", secret, registry.Whole)
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(func() { c.Close() })
				})
			}}
		}
		their := at(t, theirs.URL, syncer.Content{Prefix: "theirs/**"})
		if copies {
			their.OnDemand, their.Interval = false, time.Hour
		}
		w.start(t, their, at(t, ours.URL, syncer.Content{Prefix: "ours/**"}))
		close(started)
		if copies {
			w.fetches(t, "the copy has failed or joined", func(fills []registry.Fill) bool {
				rules, err := w.MirrorRules(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return rules[0].LastError != "" || len(fills) > 0 && fills[0].Readers > 1
			})
		} else if c, err := w.Open(t.Context(), nobody, "theirs/app", secret, registry.Whole); err == nil {
			c.Close()
			t.Error("a pull from another upstream reads the blob")
		}
		ours.set(func() { close(ours.hold) })
		w.linked(t, "ours/app", secret)
		if copies {
			finished(t, w, 0)
		}
		if _, err := w.catalog.Blob(t.Context(), nobody, "theirs/app", secret); err == nil {
			t.Errorf("the repository of another upstream has the blob (copied: %v)", copies)
		}
		w.close()
	}
}

// A pull is served by its own upstream if it has joined the fetch of another, that has
// no such blob.
func TestAnothersFetchFails(t *testing.T) {
	ours, theirs := newHostile(t), newHostile(t)
	layer := random(1 << 20)
	ours.image(t, "ours/app", "v1", layer)
	blob := registry.SHA256.FromBytes(layer)
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") && r.Method == http.MethodGet {
			once.Do(func() { close(asked) })
			<-answer
		}
		theirs.ServeHTTP(w, r)
	}))
	t.Cleanup(slow.Close)
	w := open(t, at(t, ours.URL, syncer.Content{Prefix: "ours/**"}), at(t, slow.URL, syncer.Content{Prefix: "theirs/**"}))
	var wait sync.WaitGroup
	wait.Go(func() {
		if c, err := w.Open(t.Context(), nobody, "theirs/app", blob, registry.Whole); err == nil {
			c.Close()
			t.Error("a blob that there is not was opened")
		}
	})
	<-asked
	wait.Go(func() {
		c, err := w.Open(t.Context(), nobody, "ours/app", blob, registry.Whole)
		if err != nil {
			t.Errorf("a pull from an upstream that has the blob: %v", err)
			return
		}
		if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	w.fetches(t, "both wait for the blob", func(fills []registry.Fill) bool { return len(fills) > 0 && fills[0].Readers > 1 })
	close(answer)
	wait.Wait()
}

// TestResume: connections that break are resumed at the byte, by this process and by
// the next one.
func TestResume(t *testing.T) {
	up := newHostile(t)
	layer := random(11 << 20)
	up.image(t, "a", "v1", layer)
	blob := registry.SHA256.FromBytes(layer)
	var sent, cuts atomic.Int64
	stop := make(chan struct{})
	up.set(func() {
		up.cut = func(_ registry.Digest, left int) int {
			n := min(left, 200_000)
			sent.Add(int64(n))
			if cuts.Add(1) == 8 {
				close(stop)
			}
			return n
		}
	})
	w := open(t, at(t, up.URL))
	c, err := w.Open(t.Context(), nobody, "a", blob, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	<-stop
	w.close()
	if _, err := drainBody(t, c); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a reader when the process stops: %v", err)
	}
	w.start(t, at(t, up.URL))
	w.linked(t, "a", blob)
	if n := sent.Load(); n > int64(len(layer))*102/100 {
		t.Errorf("%d bytes were sent for %d", n, len(layer))
	}
	if n := cuts.Load(); n < 20 {
		t.Errorf("void: %d connections only", n)
	}
}

// TestResumeCopy: what has come of a blob for a schedule is gone on with after a restart,
// too, though no client can ask for it.
func TestResumeCopy(t *testing.T) {
	up := newHostile(t)
	layer := random(1 << 20)
	up.image(t, "a", "v1", layer)
	var sent atomic.Int64
	var restarted atomic.Bool
	up.set(func() {
		up.cut = func(d registry.Digest, left int) int {
			switch {
			case d != registry.SHA256.FromBytes(layer):
				return left
			case !restarted.Load():
				left = max(0, left-len(layer)/2)
			}
			sent.Add(int64(left))
			return left
		}
	})
	rule := func() *syncer.Rule {
		r := at(t, up.URL, syncer.Content{Prefix: "a"})
		r.OnDemand, r.Interval = false, time.Hour
		return r
	}
	w := open(t, rule())
	w.fetches(t, "half of it has come", func(fills []registry.Fill) bool {
		return len(fills) == 1 && fills[0].Size == int64(len(layer)) && fills[0].Have == fills[0].Size/2
	})
	w.close()
	restarted.Store(true)
	w.start(t, rule())
	finished(t, w, 0)
	w.linked(t, "a", registry.SHA256.FromBytes(layer))
	if n := sent.Load(); n != int64(len(layer)) {
		t.Errorf("%d bytes were sent for %d", n, len(layer))
	}
}
