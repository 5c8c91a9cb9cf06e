package metadata_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// What a deleted repository has is not read, whether that was deleted before there was
// a search or a moment after it was pushed; and it is read when it is brought back.
func TestSearchOfADeletedRepository(t *testing.T) { onEach(t, testSearchOfADeletedRepository) }

func testSearchOfADeletedRepository(t *testing.T, at newPlace) {
	blobs := memory.NewBlobs()
	s := openStore(t, at(t), metadata.Options{}, blobs)
	config := storeConfig(t, blobs, "arm64")
	remove := func(repo registry.Name) {
		t.Helper()
		linkTo(t, s, repo, config)
		put(t, s, repo, image(config, nil, "v1"))
		if err := s.DeleteRepository(t.Context(), alice, repo); err != nil {
			t.Fatal(err)
		}
	}
	remove("gone")
	s.options.Search = true
	s = s.crash(t)
	for range 3 {
		remove("again")
	}
	linkTo(t, s, "here", config)
	put(t, s, "here", image(config, nil, "v1"))
	within(t, "reading all", func() bool { return ofArch(t, s, "arm64") == 1 })
	// Images are read before the place in the feed moves, so all before it are.
	within(t, "forgetting deleted repositories", func() bool {
		var n int
		if err := s.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM images").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	if err := s.Undelete(t.Context(), alice, "gone", registry.Reference{}); err != nil {
		t.Fatal(err)
	}
	within(t, "reading what was brought back", func() bool { return ofArch(t, s, "arm64") == 2 })
}
