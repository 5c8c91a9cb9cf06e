package metadata_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

func TestTagHistory(t *testing.T) { onEach(t, testTagHistory) }

func testTagHistory(t *testing.T, at newPlace) {
	now := time.UnixMicro(1_000_000)
	s := openStore(t, at(t), metadata.Options{Now: func() time.Time { return now }}, nil)
	all := numbered(t, s, "a", 3)
	put(t, s, "a", all[0])
	put(t, s, "a", all[0]) // again: no change
	now = time.UnixMicro(2_000_000)
	put(t, s, "a", all[1])
	now = time.UnixMicro(1_500_000) // the clock is set back
	if err := s.DeleteTag(t.Context(), registry.Actor{}, "a", "latest", registry.Condition{}); err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", all[2])
	now = time.UnixMicro(3_000_000)
	if err := s.DeleteManifest(t.Context(), registry.Actor{ID: "bob"}, "a", all[2].Digest); err != nil {
		t.Fatal(err)
	}
	got, err := s.TagHistory(t.Context(), alice, "a", "latest", 10)
	if err != nil {
		t.Fatal(err)
	}
	want := []registry.TagChange{
		{At: 3_000_000, Actor: "bob"},
		{At: 2_000_000, Actor: "alice", Digest: all[2].Digest},
		{At: 2_000_000},
		{At: 2_000_000, Actor: "alice", Digest: all[1].Digest},
		{At: 1_000_000, Actor: "alice", Digest: all[0].Digest},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A mounted manifest becomes a blob like others once somebody uploads it.
func TestMountedManifestIsUploadedLater(t *testing.T) { onEach(t, testMountedManifestIsUploadedLater) }

func testMountedManifestIsUploadedLater(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	m := pushImage(t, s, "a", "x")
	mounted, err := s.Mount(t.Context(), alice, "b", m.Digest, "a")
	want := registry.Stored{Digest: m.Digest, Size: int64(len(m.Bytes))}
	if err != nil || mounted != want {
		t.Fatalf("Mount: got %v (%v), want %v", mounted, err, want)
	}
	b, err := s.Blob(t.Context(), alice, "b", m.Digest)
	if diff := cmp.Diff(registry.Blob{Stored: want, Inline: m.Bytes}, b); err != nil || diff != "" {
		t.Errorf("Blob (-want +got): %v\n%s", err, diff)
	}
	upload := registry.Stored{Digest: m.Digest, Size: want.Size, Locator: "uploaded"}
	if got, err := s.Link(t.Context(), alice, "c", upload); err != nil || got != upload {
		t.Errorf("Link: got %v (%v), want %v", got, err, upload)
	}
	if b, err := s.Blob(t.Context(), alice, "b", m.Digest); err != nil || b.Stored != upload || b.Inline != nil {
		t.Errorf("Blob: got %v (%v), want %v", b, err, upload)
	}
}

func TestUnknownPool(t *testing.T) { onEach(t, testUnknownPool) }

func testUnknownPool(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{Pools: []registry.Pool{"/a"}}, nil)
	x := blob("x")
	for pool, ok := range map[registry.Pool]bool{"": true, "/a": true, "/b": false} {
		x.Pool = pool
		_, err := s.Link(t.Context(), alice, "b", x)
		if ok && err != nil {
			t.Errorf("pool %q: %v", pool, err)
		} else if !ok {
			wantErr(t, "pool "+string(pool), err, registry.ErrUnavailable)
		}
	}
}
