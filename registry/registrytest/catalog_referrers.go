package registrytest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

func referrerTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Referrers", testReferrers},
		{"ReferrersPages", testReferrersPages},
		{"ReferrersAfterDelete", testReferrersAfterDelete},
	}
}

// referrers returns all referrers of d in repository a.
func (c *catalog) referrers(t *testing.T, repo registry.Name, d registry.Digest, artifactType string, limit int) []registry.Descriptor {
	t.Helper()
	return pages(t, limit, func(d registry.Descriptor) registry.Digest { return d.Digest }, func(p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
		return c.Referrers(t.Context(), alice, repo, d, artifactType, p)
	})
}

func testReferrers(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	if got := c.referrers(t, "nowhere", sha256of(nil), "", 10); len(got) != 0 {
		t.Errorf("Referrers in no repository: %v", got)
	}
	config := []byte("{}")
	c.link(t, "a", config)
	c.link(t, "b", config)
	subject := imageOf(config, config)
	d := sha256of(subject)
	if got := c.referrers(t, "a", d, "", 10); len(got) != 0 {
		t.Errorf("Referrers of what nobody knows: %v", got)
	}

	const sbom, sig = "application/spdx+json", "application/vnd.example.sig"
	annotated := referrer(d, sbom, config)
	annotated["annotations"] = map[string]string{"org.example.a": "1", "empty": "", "ü": "<&>"}
	index := object{
		"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": []registry.Descriptor{}, "artifactType": sig,
		"subject": descriptor(registry.TypeManifest, subject),
	}
	manifests := []struct {
		mediaType, artifactType string
		m                       object
	}{
		{registry.TypeManifest, sbom, annotated},
		{registry.TypeManifest, sig, referrer(d, sig, config)},
		{registry.TypeManifest, typeConfig, referrer(d, "", config)}, // its config's media type stands in
		{registry.TypeIndex, sig, index},
	}
	var want []registry.Descriptor
	for _, m := range manifests { // the subject itself comes later
		data := m.m.bytes()
		e := descriptor(m.mediaType, data)
		e.ArtifactType = m.artifactType
		e.Annotations, _ = m.m["annotations"].(map[string]string)
		want = append(want, e)
		c.put(t, "a", m.mediaType, data)
		c.put(t, "a", m.mediaType, data, "again") // once in the list all the same
	}
	slices.SortFunc(want, func(a, b registry.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	check := func(artifactType string) {
		t.Helper()
		some := slices.Clone(want)
		if artifactType != "" {
			some = slices.DeleteFunc(some, func(d registry.Descriptor) bool { return d.ArtifactType != artifactType })
		}
		for _, limit := range []int{1, 2, 10} {
			if diff := cmp.Diff(some, c.referrers(t, "a", d, artifactType, limit), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("Referrers of type %q in pages of %d: -want +got\n%s", artifactType, limit, diff)
			}
		}
	}
	for _, artifactType := range []string{"", sbom, sig, typeConfig, "application/spdx", "none/such"} {
		check(artifactType)
	}
	c.put(t, "a", registry.TypeManifest, subject, "subject")
	check("")
	if got := c.referrers(t, "b", d, "", 10); len(got) != 0 {
		t.Errorf("Referrers in another repository: %v", got)
	}
}

func testReferrersPages(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config := []byte("{}")
	c.link(t, "a", config)
	d := sha256of([]byte("the subject"))
	var want []registry.Digest
	for i := range 12 {
		m := referrer(d, fmt.Sprintf("type/%d", i%2), config)
		m["annotations"] = map[string]string{"i": fmt.Sprint(i)}
		want = append(want, c.put(t, "a", registry.TypeManifest, m.bytes()))
		c.put(t, "a", registry.TypeManifest, referrer(sha256of([]byte(fmt.Sprint(i))), "type/0", config).bytes())
	}
	slices.Sort(want)
	for _, limit := range []int{1, 5, 6, 12, 13, registry.MaxPage} {
		var got []registry.Digest
		for _, e := range c.referrers(t, "a", d, "", limit) {
			got = append(got, e.Digest)
		}
		if !slices.Equal(got, want) {
			t.Errorf("Referrers in pages of %d: got %v, want %v", limit, got, want)
		}
		if got := len(c.referrers(t, "a", d, "type/1", limit)); got != 6 {
			t.Errorf("Referrers of one type in pages of %d: got %d, want 6", limit, got)
		}
	}
	// After a digest that is not there.
	lowest, beyond := "sha256:"+registry.Digest(strings.Repeat("0", 64)), "sha512:"+registry.Digest(strings.Repeat("0", 128))
	for after, from := range map[registry.Digest]int{lowest: 0, next(want[3]): 4, next(want[11]): 12, beyond: 12} {
		got, err := c.Referrers(t.Context(), alice, "a", d, "", registry.Page[registry.Digest]{After: after, Limit: registry.MaxPage})
		must(t, "Referrers", err)
		if len(got.Items) > len(want)-from || len(got.Items) == 0 && from < len(want) || len(got.Items) > 0 && got.Items[0].Digest != want[from] {
			t.Errorf("Referrers after %s: got %d entries, want %d", after, len(got.Items), len(want)-from)
		}
	}
}

// next returns the digest that follows d in byte order.
func next(d registry.Digest) registry.Digest {
	b := []byte(d)
	for i := len(b) - 1; ; i-- {
		if b[i] != 'f' {
			b[i] = "123456789abcdef"[strings.IndexByte("0123456789abcde", b[i])]
			return registry.Digest(b)
		}
		b[i] = '0'
	}
}

func testReferrersAfterDelete(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config := []byte("{}")
	c.link(t, "a", config)
	subject := c.image(t, "a", "1", "subject")
	one := c.put(t, "a", registry.TypeManifest, referrer(subject, "type/1", config).bytes(), "one")
	two := c.put(t, "a", registry.TypeManifest, referrer(subject, "type/2", config).bytes(), "two")
	must(t, "DeleteManifest", c.deleteManifest(t, one))
	list := func() (digests []registry.Digest) {
		for _, e := range c.referrers(t, "a", subject, "", 10) {
			digests = append(digests, e.Digest)
		}
		return digests
	}
	if diff := cmp.Diff([]registry.Digest{two}, list()); diff != "" {
		t.Errorf("Referrers after one was deleted: -want +got\n%s", diff)
	}
	must(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "two", registry.Condition{}))
	if diff := cmp.Diff([]registry.Digest{two}, list()); diff != "" {
		t.Errorf("Referrers after a tag was deleted: -want +got\n%s", diff)
	}
	// A subject may go first: it is listed by no index.
	must(t, "DeleteManifest of the subject", c.deleteManifest(t, subject))
	if diff := cmp.Diff([]registry.Digest{two}, list()); diff != "" {
		t.Errorf("Referrers after the subject was deleted: -want +got\n%s", diff)
	}
	must(t, "DeleteManifest", c.deleteManifest(t, two))
	if got := list(); len(got) != 0 {
		t.Errorf("Referrers after all were deleted: %v", got)
	}
}
