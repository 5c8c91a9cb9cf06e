package syncer_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestPresenceOfManyPaths: an index that has many ways to the same image, through
// indexes that list each other often, is looked at as far as is sensible.
func TestPresenceOfManyPaths(t *testing.T) {
	up := newHostile(t)
	w := open(t, at(t, up.URL))
	var below registry.Digest
	var entry string
	var size int
	const image = `{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`
	put := func(mediaType, text string, tags ...registry.Tag) {
		t.Helper()
		below, size, entry = registry.SHA256.FromString(text), len(text), mediaType
		p := registry.ManifestPut{Digest: below, MediaType: mediaType, Bytes: []byte(text), Tags: tags}
		if _, err := w.catalog.PutManifest(t.Context(), nobody, "a", p); err != nil {
			t.Fatal(err)
		}
	}
	w.pushBlob(t, "a", "{}")
	put(registry.TypeManifest, image)
	for i := range 4 {
		list := strings.Repeat(fmt.Sprintf(`,{"mediaType":%q,"digest":%q,"size":%d}`, entry, below, size), 12)
		put(registry.TypeIndex, `{"schemaVersion":2,"mediaType":"`+registry.TypeIndex+`","manifests":[`+list[1:]+`]}`, registry.Tag("v"+itoa(i)))
	}
	list, err := w.Presence(t.Context(), "a", registry.Page[registry.Tag]{Limit: 10})
	if err != nil || len(list.Items) != 4 {
		t.Fatalf("%d tags, %v", len(list.Items), err)
	}
	for _, x := range list.Items {
		if len(x.Platforms) > 2000 || x.Tag == "v1" && len(x.Platforms) != 144 {
			t.Errorf("%s has %d platforms", x.Tag, len(x.Platforms))
		}
	}
}
