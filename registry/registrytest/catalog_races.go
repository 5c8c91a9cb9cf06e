package registrytest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func raceTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"PushesAtOnce", testPushesAtOnce},
		{"SamePushAtOnce", testSamePushAtOnce},
		{"DeleteWhilePushing", testDeleteWhilePushing},
	}
}

// push pushes an image without checking anything on the way.
func (c *catalog) push(t *testing.T, repo registry.Name, seed string, tags ...registry.Tag) error {
	config, layer := []byte("config of "+seed), []byte("layer of "+seed)
	for _, data := range [][]byte{config, layer} {
		if _, err := c.Link(t.Context(), alice, repo, c.copyOf(repo, data)); err != nil {
			return fmt.Errorf("linking: %w", err)
		}
	}
	data := imageOf(config, layer)
	_, err := c.PutManifest(t.Context(), alice, repo, registry.ManifestPut{
		Digest: sha256of(data), MediaType: registry.TypeManifest, Bytes: data, Tags: tags,
	})
	return err
}

func pushed(seed string) registry.Digest {
	return sha256of(imageOf([]byte("config of "+seed), []byte("layer of "+seed)))
}

func testPushesAtOnce(t *testing.T, b CatalogBackend) {
	const each = 5
	c := b.open(t, CatalogOptions{})
	errs := race(func(i int) error {
		for j := range each {
			seed := fmt.Sprintf("%02d-%d", i, j)
			if err := c.push(t, "a", seed, "latest", registry.Tag(seed)); err != nil {
				return err
			}
			// What was answered is seen by all.
			m, err := c.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: registry.Tag(seed)}})
			if err != nil || m.Digest != pushed(seed) {
				return fmt.Errorf("reading what was just pushed: %s, %w", m.Digest, err)
			}
		}
		return nil
	})
	must(t, "pushing", errors.Join(errs...))

	want := []registry.Tag{"latest"}
	all := make(map[registry.Digest]bool)
	for i := range racers {
		for j := range each {
			seed := fmt.Sprintf("%02d-%d", i, j)
			want = append(want, registry.Tag(seed))
			all[pushed(seed)] = true
			c.checkTag(t, "a", registry.Tag(seed), pushed(seed))
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, c.tags(t, "a", 7)); diff != "" {
		t.Errorf("Tags: -want +got\n%s", diff)
	}
	h := c.history(t, "a", "latest", 1000)
	for _, d := range h {
		delete(all, d)
	}
	if len(h) != racers*each || len(all) != 0 {
		t.Errorf("TagHistory of latest has %d entries and lacks %d, want all %d", len(h), len(all), racers*each)
	}
	c.checkTag(t, "a", "latest", h[0])
}

func testSamePushAtOnce(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	must(t, "pushing", errors.Join(race(func(int) error { return c.push(t, "a", "1", "t") })...))
	c.checkTag(t, "a", "t", pushed("1"))
	if got := c.history(t, "a", "t", 100); len(got) != 1 {
		t.Errorf("TagHistory after one push done many times: %v", got)
	}
	winner(t, "deleting", race(func(int) error { return c.deleteManifest(t, pushed("1")) }), registry.ErrManifestUnknown)
	c.checkTag(t, "a", "t", "")
}

// testDeleteWhilePushing lets content go while manifests that need it come.
// Whatever comes first, no manifest may be left without its content.
func testDeleteWhilePushing(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config := []byte("config")
	c.link(t, "a", []byte("so that the repository stays"))
	for round := range 10 {
		c.link(t, "a", config)
		m := image(config)
		m["annotations"] = map[string]string{"round": fmt.Sprint(round)}
		data := m.bytes()
		d := sha256of(data)
		var putErr, unlinkErr error
		race(func(i int) error {
			switch i {
			case 0:
				putErr = c.putIf(t, data, registry.Condition{}, "t")
			case 1:
				unlinkErr = c.Unlink(t.Context(), alice, "a", sha256of(config))
			}
			return nil
		})
		_, blobErr := c.Blob(t.Context(), alice, "a", sha256of(config))
		switch {
		case putErr == nil:
			wantErr(t, "Unlink after PutManifest", unlinkErr, registry.ErrInUse)
			must(t, "Blob of a manifest's config", blobErr)
			must(t, "DeleteManifest", c.deleteManifest(t, d))
		case unlinkErr == nil:
			wantErr(t, "PutManifest after Unlink", putErr, registry.ErrManifestBlobUnknown)
			wantErr(t, "Blob after Unlink", blobErr, registry.ErrBlobUnknown)
			c.checkNoManifest(t, "a", d)
		default:
			t.Errorf("PutManifest: %v, and Unlink: %v", putErr, unlinkErr)
		}
	}
}
