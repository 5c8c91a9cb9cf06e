package syncer_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
)

// pair opens two syncers that share a database, a catalog and a blobstore.
func pair(t *testing.T, catalog *memory.Catalog, rule func() *syncer.Rule) (both [2]*syncer.Service) {
	t.Helper()
	db, err := sqlite.OpenSyncer(t.Context(), config.Storage{Pool: config.Pool{RootDirectory: t.TempDir()}}, func(err error) { t.Error(err) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	blobs := memory.NewBlobs()
	skew.Store(0)
	for i := range both {
		both[i], err = syncer.New(t.Context(), db, blobs, catalog, syncer.Options{
			Rules: []*syncer.Rule{rule()}, Staging: filepath.Join(t.TempDir(), "staging"), Holder: "holder " + itoa(i), Shared: true,
			Log: slog.New(slog.DiscardHandler), Now: clock,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := both[i].Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return both
}

// TestRightIsKept: a right that is held for days is not taken for what is left of a
// fetch.
func TestRightIsKept(t *testing.T) {
	up := newHostile(t)
	both := pair(t, memory.NewCatalog(memory.CatalogOptions{}), func() *syncer.Rule { return at(t, up.URL) })
	_, done, ok, err := both[0].MayForward(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer done()
	skew.Store(int64(25 * time.Hour))
	both[0].Tidy(t.Context())
	if n, err := both[0].Rights(t.Context(), "holder 0"); err != nil || n != 1 {
		t.Errorf("%d rights are left: %v", n, err)
	}
}

// TestRightIsLost: who could not renew a right in time, and finds that another has it,
// stops.
func TestRightIsLost(t *testing.T) {
	up := newHostile(t)
	both := pair(t, memory.NewCatalog(memory.CatalogOptions{}), func() *syncer.Rule { return at(t, up.URL) })
	both[0].SetRenew(20 * time.Millisecond)
	held, done, ok, err := both[0].MayForward(t.Context())
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer done()
	for range 1000 { // until the clock jumps between two renewals
		skew.Add(int64(2 * time.Minute))
		_, done, ok, err := both[1].MayForward(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			continue
		}
		defer done()
		select {
		case <-held.Done():
		case <-time.After(time.Minute):
			t.Error("two have the right")
		}
		return
	}
	t.Error("the right could not be taken away")
}

// TestOwedByOthers: what another syncer has promised to pass on is not replaced by what
// is upstream, and who has the right to pass on sees it.
func TestOwedByOthers(t *testing.T) {
	up := newHostile(t)
	up.image(t, "a", "v1", random(10))
	catalog := memory.NewCatalog(memory.CatalogOptions{})
	both := pair(t, catalog, func() *syncer.Rule {
		r := at(t, up.URL)
		r.Push = registry.PushForward
		return r
	})
	ctx := t.Context()
	local := pushTag(t, &world{catalog: catalog}, "a", "v1", "ours")
	for i, s := range both {
		receipt, err := s.Announce(ctx, nobody, "a", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: local})
		if err != nil {
			t.Fatal(err)
		}
		res, err := both[1-i].Resolve(ctx, nobody, "a", tag("v1"), local)
		if err != nil || res.Digest != local {
			t.Errorf("the tag is %+v, %v", res, err)
		}
		if m, err := catalog.Manifest(ctx, nobody, "a", registry.ManifestQuery{Ref: tag("v1")}); err != nil || m.Digest != local {
			t.Fatalf("the tag has moved back: %s, %v", m.Digest, err)
		}
		before := up.asked("HEAD /v2/a/manifests/")
		if err := s.Settle(ctx, receipt, true); err != nil {
			t.Fatal(err)
		}
		waitFor(t, fmt.Sprintf("a push that syncer %d has taken is passed on", i), func() bool { return up.asked("HEAD /v2/a/manifests/") > before })
	}
}

// TestRefusedPush: a push of which nobody has said that it was refused is not passed on,
// although its manifest is here under another tag. It is looked for without another push.
func TestRefusedPush(t *testing.T) {
	up := newHostile(t)
	r := at(t, up.URL)
	r.Push = registry.PushForward
	w := open(t, r)
	ctx := t.Context()
	pushTag(t, w, "a", "v1", "first")
	second := pushTag(t, w, "a", "v2", "second")
	for i := range 2 { // who passes on has found nothing to do behind the first one
		if _, err := w.Announce(ctx, nobody, "a", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: second}); err != nil {
			t.Fatal(err)
		}
		w.later.Add(int64(2 * time.Minute))
		state := registry.ForwardAnnounced
		waitFor(t, "it is known what became of the push", func() bool {
			all, err := w.Forwards(ctx, registry.ForwardQuery{Limit: 10})
			if err != nil || len(all) == 0 {
				t.Fatal(all, err)
			}
			state = all[len(all)-1].State
			return state != registry.ForwardAnnounced || up.asked("") > 0
		})
		if state != registry.ForwardDropped {
			t.Fatalf("push %d of a tag that was never here is %s", i, state)
		}
	}
}

// TestS004CopiesOfOthers: what has been staged of a blob for others is not linked for a
// copy from an upstream that only lists it.
func TestS004CopiesOfOthers(t *testing.T) {
	layer := random(1000)
	blob := registry.SHA256.FromBytes(layer)
	for _, n := range []int{len(layer), len(layer) / 2} {
		up := newHostile(t)
		up.image(t, "public/x", "v1", layer)
		up.set(func() { delete(up.blobs, blob) })
		w := open(t, at(t, up.URL, syncer.Content{Prefix: "public/x"}))
		if err := os.WriteFile(w.staged(blob), layer[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := w.Copy(t.Context()); err == nil {
			t.Error("a copy of what is not there")
		}
		if b, err := w.catalog.Blob(t.Context(), nobody, "public/x", blob); !errors.Is(err, registry.ErrBlobUnknown) && !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("%d bytes: %+v, %v", n, b, err)
		}
	}
}
