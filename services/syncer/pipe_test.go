package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/syncer"
)

// staged returns the file of a blob that is being fetched.
func (w *world) staged(d registry.Digest) string {
	return filepath.Join(w.root, "staging", strings.ReplaceAll(string(d), ":", "-")+".part")
}

// half begins to fetch a blob and waits until half of it has come; up sends no more.
func (w *world) half(t *testing.T, up *hostile, repo registry.Name, b []byte) registry.Content {
	t.Helper()
	up.set(func() { up.hold = make(chan struct{}) })
	c, err := w.Open(t.Context(), nobody, repo, registry.SHA256.FromBytes(b), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	w.fetches(t, "half of it has come", func(fills []registry.Fill) bool {
		if len(fills) != 1 {
			t.Fatal(fills)
		}
		return fills[0].Have == int64(len(b)/2)
	})
	return c
}

// TestP95Empty: an upstream that answers with nothing has not sent an empty blob.
func TestP95Empty(t *testing.T) {
	up := newHostile(t)
	layer := random(1000)
	up.image(t, "a", "v1", layer, nil)
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	if c, err := w.Open(ctx, nobody, "a", registry.SHA256.FromBytes(nil), registry.Whole); err != nil || c.Size() != 0 {
		t.Errorf("a blob that is empty: %v, %v", c, err)
	} else if got, err := drainBody(t, c); err != nil || len(got) > 0 {
		t.Errorf("a blob that is empty: %d bytes, %v", len(got), err)
	}
	up.set(func() {
		up.answer = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Length", "0")
			return strings.Contains(r.URL.Path, "/blobs/")
		}
	})
	if c, err := w.Open(ctx, nobody, "a", registry.SHA256.FromBytes(layer), registry.Whole); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("%v, %v", c, err)
	}
}

// raced is a catalog in which something happens before a blob is looked for.
type raced struct {
	*memory.Catalog
	before func(registry.Name)
}

func (r *raced) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	r.before(repo)
	return r.Catalog.Blob(ctx, a, repo, d)
}

// TestS004ForeignFill: a blob that is being fetched from one upstream is not for
// readers of another that does not have it, whoever comes first.
func TestS004ForeignFill(t *testing.T) {
	private, public := newHostile(t), newHostile(t)
	layer := random(1 << 20)
	private.image(t, "private/x", "v1", layer)
	private.set(func() { private.hold = make(chan struct{}) })
	blob := registry.SHA256.FromBytes(layer)
	cat := &raced{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
	w := &world{blobs: memory.NewBlobs(), catalog: cat.Catalog, root: t.TempDir(), later: &skew, front: func(*memory.Catalog) syncer.Catalog { return cat }}
	skew.Store(0)
	var inside registry.Content
	cat.before = func(repo registry.Name) {
		if repo != "public/x" || inside != nil {
			return
		}
		var err error
		if inside, err = w.Open(t.Context(), nobody, "private/x", blob, registry.Whole); err != nil {
			t.Error(err)
		}
	}
	w.start(t, at(t, private.URL, syncer.Content{Prefix: "private/**"}), at(t, public.URL, syncer.Content{Prefix: "public/**"}))
	c, err := w.Open(t.Context(), nobody, "public/x", blob, registry.Whole)
	if !errors.Is(err, registry.ErrBlobUnknown) {
		t.Errorf("%v, %v", c, err)
	}
	private.set(func() { close(private.hold) })
	if got, err := drainBody(t, inside); err != nil || !bytes.Equal(got, layer) {
		t.Errorf("who may have it: %d bytes, %v", len(got), err)
	}
	w.linked(t, "private/x", blob)
	if _, err := w.catalog.Blob(t.Context(), nobody, "public/x", blob); err == nil {
		t.Error("it was linked for the others, too")
	}
}

// TestResumedIsWhole: a blob of which all had come when the process ended is not
// asked for again, and what goes on after a restart has no reader.
func TestResumedIsWhole(t *testing.T) {
	up := newHostile(t)
	layer := random(1 << 20)
	up.image(t, "a", "v1", layer)
	blob := registry.SHA256.FromBytes(layer)
	w := open(t, at(t, up.URL))
	defer w.half(t, up, "a", layer).Close()
	w.close()
	w.start(t, at(t, up.URL))
	fills, err := w.Fills(t.Context())
	if err != nil || len(fills) != 1 || fills[0].Readers != 0 {
		t.Errorf("after a restart: %+v, %v", fills, err)
	}
	w.close()
	if err := os.WriteFile(w.staged(blob), layer, 0o600); err != nil {
		t.Fatal(err)
	}
	before := up.asked("")
	w.start(t, at(t, up.URL))
	w.linked(t, "a", blob)
	if n := up.asked("") - before; n != 0 {
		t.Errorf("%d requests for what is here", n)
	}
}

// TestUnfinished: what came of a blob does not stay for ever when nobody asks for it
// again.
func TestUnfinished(t *testing.T) {
	up := newHostile(t)
	layer := random(1 << 20)
	up.image(t, "a", "v1", layer)
	blob := registry.SHA256.FromBytes(layer)
	w := open(t, at(t, up.URL))
	c := w.half(t, up, "a", layer)
	up.set(func() {
		up.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }
	})
	up.CloseClientConnections()
	w.fetches(t, "the upstream has failed", func(fills []registry.Fill) bool {
		if len(fills) != 1 {
			t.Fatal(fills)
		}
		return strings.Contains(fills[0].Error, "500")
	})
	w.later.Store(int64(10 * time.Minute)) // longer than anybody tries
	if _, err := drainBody(t, c); !errors.Is(err, registry.ErrUnavailable) {
		t.Fatal(err)
	}
	w.Tidy(t.Context())
	if _, err := os.Stat(w.staged(blob)); err != nil {
		t.Errorf("void: it is not kept for the next attempt: %v", err)
	}
	w.later.Store(int64(25 * time.Hour))
	w.Tidy(t.Context())
	if _, err := os.Stat(w.staged(blob)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a day later: %v", err)
	}
}

// TestG16Stalls: of an upstream that sends nothing any more the next of its rule is
// asked, and who waits is told that it is the upstream's fault.
func TestG16Stalls(t *testing.T) {
	for _, mirrored := range []bool{false, true} {
		first, second := newHostile(t), newHostile(t)
		layer := random(1 << 20)
		first.image(t, "a", "v1", layer)
		second.image(t, "a", "v1", layer)
		stuck := make(chan struct{})
		t.Cleanup(func() { close(stuck) })
		first.set(func() {
			first.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				<-stuck
				return false
			}
		})
		r := at(t, first.URL)
		if mirrored {
			r.Hosts = append(r.Hosts, at(t, second.URL).Hosts...)
		}
		w := open(t, r)
		w.SetStall(300 * time.Millisecond)
		var got []byte
		c, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(layer), registry.Whole)
		if err == nil {
			got, err = drainBody(t, c)
		}
		switch {
		case mirrored && (err != nil || !bytes.Equal(got, layer)):
			t.Errorf("with a mirror: %d bytes, %v", len(got), err)
		case !mirrored && (!errors.Is(err, registry.ErrUnavailable) || errors.Is(err, context.Canceled)):
			t.Errorf("without one: %v", err)
		}
	}
}

// TestNoRanges: a host that knows no ranges and takes longer for what is here than
// anybody waits for a byte is read on.
func TestNoRanges(t *testing.T) {
	up := newHostile(t)
	layer := random(1 << 20)
	up.image(t, "a", "v1", layer)
	w := open(t, at(t, up.URL))
	w.SetStall(time.Second)
	var asked atomic.Int64
	up.set(func() {
		up.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(layer)))
			if asked.Add(1) == 1 {
				w.Write(layer[:len(layer)*9/10])
				panic(http.ErrAbortHandler)
			}
			for part := range slices.Chunk(layer, len(layer)/10) {
				w.Write(part)
				http.NewResponseController(w).Flush()
				time.Sleep(200 * time.Millisecond)
			}
			return true
		}
	})
	c, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(layer), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestP97MissingBlob: a blob that the upstream does not have is not asked for again at
// once, and says nothing of a manifest of that digest.
func TestP97MissingBlob(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", random(10))
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	for range 10 {
		if _, err := w.Open(ctx, nobody, "a", d, registry.Whole); !errors.Is(err, registry.ErrBlobUnknown) {
			t.Fatal(err)
		}
		if _, err := w.Stat(ctx, nobody, "a", d); !errors.Is(err, registry.ErrBlobUnknown) {
			t.Fatal(err)
		}
	}
	if n := up.asked(""); n != 1 {
		t.Errorf("%d requests", n)
	}
	if _, err := w.Resolve(ctx, nobody, "a", registry.Reference{Digest: d}, ""); err != nil {
		t.Errorf("the manifest: %v", err)
	}
}

// TestBusy: so many blobs are fetched at a time, and no more; who joins is welcome.
func TestBusy(t *testing.T) {
	up := newHostile(t)
	one, two := random(1<<20), random(1<<20)
	up.image(t, "a", "v1", one, two)
	w := open(t, at(t, up.URL))
	w.SetMost(1)
	c := w.half(t, up, "a", one)
	if _, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(two), registry.Whole); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a second blob: %v", err)
	}
	joined, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(one), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	joined.Close()
	up.set(func() { close(up.hold) })
	if _, err := drainBody(t, c); err != nil {
		t.Fatal(err)
	}
	w.linked(t, "a", registry.SHA256.FromBytes(one))
}

// TestP92SlowReader: who reads slowly does not keep the staged file when its blob is
// stored.
func TestP92SlowReader(t *testing.T) {
	up := newHostile(t)
	layer := random(16 << 20)
	up.image(t, "a", "v1", layer)
	w := open(t, at(t, up.URL))
	c := w.half(t, up, "a", layer)
	up.set(func() { close(up.hold) })
	w.linked(t, "a", registry.SHA256.FromBytes(layer))
	// linked comes a little before the end.
	w.fetches(t, "the fetch has ended", func(fills []registry.Fill) bool { return len(fills) == 0 })
	w.close()
	open := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("needs /proc")
		}
		for _, fd := range fds {
			if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, w.staged(registry.SHA256.FromBytes(layer))) {
				n++
			}
		}
		return n
	}
	if n := open(); n != 1 {
		t.Fatalf("void: the file is open %d times", n)
	}
	some := make([]byte, 100)
	if _, err := c.Read(some); err != nil || !bytes.Equal(some, layer[1:101]) {
		t.Fatal(err)
	}
	if n := open(); n != 0 {
		t.Errorf("the staged file is open while its blob is stored")
	}
	if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer[101:]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestS004StagedOfOthers: what has been staged of a blob for others is not for readers
// of an upstream that does not have it, and they are told so at once.
func TestS004StagedOfOthers(t *testing.T) {
	up := newHostile(t)
	layer := random(1000)
	blob := registry.SHA256.FromBytes(layer)
	for _, n := range []int{len(layer), len(layer) / 2} {
		w := open(t, at(t, up.URL))
		if err := os.WriteFile(w.staged(blob), layer[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		before := up.asked("")
		c, err := w.Open(t.Context(), nobody, "public/x", blob, registry.Whole)
		if !errors.Is(err, registry.ErrBlobUnknown) {
			t.Errorf("%d bytes: %v, %v", n, c, err)
		}
		if n := up.asked("") - before; n != 1 {
			t.Errorf("%d requests", n)
		}
	}
}

// TestMounted: a blob that another repository has is taken from there once the upstream
// has said that it has it. That is no failure: no mirror of it is asked, and people are
// told of none.
func TestMounted(t *testing.T) {
	up, mirror := newHostile(t), newHostile(t)
	layer := random(1000)
	for _, repo := range []string{"a", "b"} {
		up.image(t, repo, "v1", layer)
	}
	mirror.image(t, "b", "v1", layer)
	blob := registry.SHA256.FromBytes(layer)
	r := at(t, up.URL)
	r.Hosts = append(r.Hosts, at(t, mirror.URL).Hosts...)
	w := open(t, r)
	for _, repo := range []registry.Name{"a", "b"} {
		c, err := w.Open(t.Context(), nobody, repo, blob, registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer) {
			t.Errorf("%s: %d bytes, %v", repo, len(got), err)
		}
		w.linked(t, repo, blob)
		w.fetches(t, "nothing is fetched", func(fills []registry.Fill) bool { return len(fills) == 0 })
	}
	if n := mirror.asked(""); n != 0 {
		t.Errorf("%d requests to a mirror", n)
	}
	if rules, err := w.MirrorRules(t.Context()); err != nil || rules[0].LastError != "" {
		t.Errorf("the rule: %+v, %v", rules, err)
	}
}
