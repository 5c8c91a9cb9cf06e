package syncer_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// TestHeal: a blob that was mirrored and is damaged is fetched again; one of a
// repository that was pushed to is not even asked for.
func TestHeal(t *testing.T) {
	up := newHostile(t)
	layer, own := random(100_000), random(1000)
	up.image(t, "a", "v1", layer)
	up.image(t, "own", "v1", own)
	w := &world{blobs: memory.NewBlobs(), root: t.TempDir(), later: &skew}
	w.catalog = memory.NewCatalog(memory.CatalogOptions{Reaper: w.blobs})
	skew.Store(0)
	w.start(t, at(t, up.URL))
	ctx := t.Context()
	for repo, b := range map[registry.Name][]byte{"a": layer, "own": own} {
		if _, err := w.Resolve(ctx, nobody, repo, tag("v1"), ""); err != nil {
			t.Fatal(err)
		}
		c, err := w.Open(ctx, nobody, repo, registry.SHA256.FromBytes(b), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drainBody(t, c); err != nil {
			t.Fatal(err)
		}
		b := w.linked(t, repo, registry.SHA256.FromBytes(b))
		w.fetches(t, "its fetch has ended", func(fills []registry.Fill) bool { return len(fills) == 0 })
		if err := w.blobs.Remove(ctx, b.Stored); err != nil {
			t.Fatal(err)
		}
		if err := w.catalog.ReportReads(ctx, []registry.ReadReport{{Stored: b.Stored, Damaged: true}}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.catalog.Blob(ctx, nobody, repo, b.Digest); err == nil {
			t.Fatal("void: a damaged blob is served")
		}
	}
	if err := w.Claim(ctx, nobody, "own"); err != nil {
		t.Fatal(err)
	}
	asked := up.asked("GET /v2/own/")
	if err := w.Heal(ctx); err != nil {
		t.Fatal(err)
	}
	b := w.linked(t, "a", registry.SHA256.FromBytes(layer))
	c, err := w.blobs.Open(ctx, b.Stored, registry.Range{Length: -1, Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	left, err := w.catalog.Damages(ctx, nobody, nil, 10)
	if err != nil || len(left) != 1 || left[0].Digest != registry.SHA256.FromBytes(own) {
		t.Errorf("still damaged: %+v, %v", left, err)
	}
	if n := up.asked("GET /v2/own/"); n != asked {
		t.Errorf("%d requests for what was pushed to", n-asked)
	}
}

// TestPresence: of each tag and platform it is known how much is here.
func TestPresence(t *testing.T) {
	up := newHostile(t)
	amdLayer, armLayer := random(1000), random(2000)
	amd, _ := up.image(t, "a", "", amdLayer)
	arm, _ := up.image(t, "a", "", armLayer)
	s390, _ := up.image(t, "a", "", random(10))
	up.mu.Lock()
	entry := func(d registry.Digest, arch string) map[string]any {
		return map[string]any{"mediaType": registry.TypeManifest, "digest": d, "size": len(up.manifests["a/"+string(d)].content),
			"platform": map[string]string{"os": "linux", "architecture": arch}}
	}
	index, _ := up.add(t, "a", "multi", registry.TypeIndex, map[string]any{
		"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": []any{entry(amd, "amd64"), entry(arm, "arm64"), entry(s390, "s390x")},
	})
	up.mu.Unlock()
	single, _ := up.image(t, "a", "single", amdLayer)
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	for _, ref := range []registry.Reference{tag("multi"), tag("single"), {Digest: amd}, {Digest: arm}} {
		if _, err := w.Resolve(ctx, nobody, "a", ref, ""); err != nil {
			t.Fatal(err)
		}
	}
	config := []byte(`{"architecture":"amd64","os":"linux","tag":""}`)
	for _, b := range [][]byte{config, amdLayer} {
		c, err := w.Open(ctx, nobody, "a", registry.SHA256.FromBytes(b), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drainBody(t, c); err != nil {
			t.Fatal(err)
		}
		w.linked(t, "a", registry.SHA256.FromBytes(b))
	}
	n := int64(len(config))
	single1 := int64(len(`{"architecture":"amd64","os":"linux","tag":"single"}`))
	want := []registry.TagPresence{
		{Tag: "multi", Digest: index, State: registry.Partial, Have: 1000 + 2*n, Size: 3000 + 2*n, Platforms: []registry.PlatformPresence{
			{Platform: "linux/amd64", Digest: amd, State: registry.Complete, Have: 1000 + n, Size: 1000 + n},
			{Platform: "linux/arm64", Digest: arm, State: registry.Partial, Have: n, Size: 2000 + n},
			{Platform: "linux/s390x", Digest: s390, State: registry.Missing},
		}},
		{Tag: "single", Digest: single, State: registry.Partial, Have: 1000, Size: 1000 + single1, Platforms: []registry.PlatformPresence{
			{Digest: single, State: registry.Partial, Have: 1000, Size: 1000 + single1},
		}},
	}
	var got []registry.TagPresence
	for p := (registry.Page[registry.Tag]{Limit: 1}); ; {
		list, err := w.Presence(ctx, "a", p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, list.Items...)
		if !list.More {
			break
		}
		p.After = list.Items[len(list.Items)-1].Tag
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
