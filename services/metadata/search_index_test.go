package metadata_test

import (
	"bytes"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// storeConfig stores an image's config for an architecture.
func storeConfig(t *testing.T, blobs *memory.Blobs, arch string) registry.Stored {
	t.Helper()
	data := []byte(`{"created":"2024-01-01T00:00:00Z","os":"linux","architecture":"` + arch + `"}`)
	u, err := blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := blobs.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func linkTo(t *testing.T, c registry.Catalog, repo registry.Name, s registry.Stored) {
	t.Helper()
	if _, err := c.Link(t.Context(), alice, repo, s); err != nil {
		t.Fatal(err)
	}
}

// ofArch counts the images for an architecture.
func ofArch(t *testing.T, c registry.Catalog, arch string) int {
	t.Helper()
	found, err := c.SearchImages(t.Context(), alice, registry.ImageQuery{Filter: registry.SearchFilter{Arch: []string{arch}}, Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	return found.Total
}

// A store that had no search, or whose reader of the feed was lost, is read from the
// beginning, beside what comes new.
func TestSearchReadsWhatWasThere(t *testing.T) { onEach(t, testSearchReadsWhatWasThere) }

func testSearchReadsWhatWasThere(t *testing.T, at newPlace) {
	blobs := memory.NewBlobs()
	s := openStore(t, at(t), metadata.Options{}, blobs)
	config := storeConfig(t, blobs, "amd64")
	linkTo(t, s, "a", config)
	const old = 450 // more than are read at a time
	for n := range old {
		layer := blob(string(tagNumber(n)))
		linkTo(t, s, "a", layer)
		put(t, s, "a", image(config, []registry.Stored{layer}, tagNumber(n)))
	}
	if n := ofArch(t, s, "amd64"); n != 0 {
		t.Fatalf("%d images are found without an index", n)
	}
	s.options.Search = true
	s = s.crash(t)
	arm := storeConfig(t, blobs, "arm64")
	linkTo(t, s, "a", arm)
	put(t, s, "a", image(arm, nil, "new"))
	within(t, "reading old images", func() bool { return ofArch(t, s, "amd64") == old })
	within(t, "reading a new image", func() bool { return ofArch(t, s, "arm64") == 1 })

	// Somebody has lost the tables, and the place in the feed.
	s.mustExec(t, "DELETE FROM images")
	s.mustExec(t, "DELETE FROM feed_readers WHERE name = 'search'")
	s = s.crash(t)
	within(t, "reading all again", func() bool { return ofArch(t, s, "amd64")+ofArch(t, s, "arm64") == old+1 })

	if err := s.DeleteRepository(t.Context(), alice, "a"); err != nil {
		t.Fatal(err)
	}
	if n := ofArch(t, s, "amd64"); n != 0 {
		t.Errorf("%d images of a deleted repository are found", n)
	}
	within(t, "forgetting a repository", func() bool {
		var n int
		if err := s.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM images").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 0
	})
}

// The config of a mirrored image may come after it, and so may an index's manifests.
func TestSearchWaitsForContent(t *testing.T) { onEach(t, testSearchWaitsForContent) }

func testSearchWaitsForContent(t *testing.T, at newPlace) {
	blobs := memory.NewBlobs()
	s := openStore(t, at(t), metadata.Options{Search: true, AllowSparse: true}, blobs)
	config := storeConfig(t, blobs, "riscv64")
	child := image(config, nil)
	put(t, s, "a", index([]registry.ManifestPut{child}, "all"))
	put(t, s, "a", image(config, nil, "one"))
	within(t, "reading manifests", func() bool {
		var n int
		if err := s.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM images").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 2
	})
	if n := ofArch(t, s, "riscv64"); n != 0 {
		t.Fatalf("%d images are found by a config that is not here", n)
	}
	linkTo(t, s, "a", config)
	within(t, "reading a config that came late", func() bool { return ofArch(t, s, "riscv64") == 2 })
}

// A config that comes to one repository is read for its images, however many others wait
// for the same.
func TestSearchWaitsInManyRepositories(t *testing.T) { onEach(t, testSearchWaitsInManyRepositories) }

func testSearchWaitsInManyRepositories(t *testing.T, at newPlace) {
	blobs := memory.NewBlobs()
	s := openStore(t, at(t), metadata.Options{Search: true, AllowSparse: true}, blobs)
	config := storeConfig(t, blobs, "riscv64")
	const repos = 205 // more than are read at a time
	var last registry.Name
	for n := range repos {
		last = registry.Name("r" + string(tagNumber(n)))
		put(t, s, last, image(config, nil, "one"))
	}
	within(t, "reading manifests", func() bool {
		var n int
		if err := s.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM images").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == repos
	})
	linkTo(t, s, last, config)
	within(t, "reading a config that came late", func() bool { return ofArch(t, s, "riscv64") == 1 })
}
