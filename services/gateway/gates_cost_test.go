package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/gateway/gate"
)

// opened counts how often content is read.
type opened struct {
	registry.Blobs
	n atomic.Int64
}

func (o *opened) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	o.n.Add(1)
	return o.Blobs.Open(ctx, s, r)
}

// TestGateLooksOnce: what is in an attestation is looked at once for all pulls, under
// whatever manifests, and not at all if there is more than may be.
func TestGateLooksOnce(t *testing.T) {
	x := newGated(t)
	blobs := &opened{Blobs: x.deps.Blobs}
	c := config.Defaults()
	c.Extensions = &config.Extensions{Trust: &config.Trust{Cosign: true}, Gates: []config.Gate{{Repositories: []string{"a"}, SignedBy: "cosign"}}}
	ga, err := gate.New(c, gate.Deps{Catalog: x.deps.Catalog, Blobs: blobs, Scans: x.scans})
	if err != nil {
		t.Fatal(err)
	}
	x.g.SetGate(ga)
	const image, text = "application/vnd.oci.image.config.v1+json", "application/vnd.in-toto+json"
	manifest := func(note string, layers ...string) string {
		var list []string
		for _, l := range layers {
			list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, text, pushBlob(t, x.url, "a", l), len(l)))
		}
		m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":2},"layers":[%s],"annotations":{"n":%q}}`,
			registry.TypeManifest, image, pushBlob(t, x.url, "a", "{}"), strings.Join(list, ","), note)
		do(t, "PUT", x.url+"/v2/a/manifests/"+note, strings.NewReader(m), "Content-Type: "+registry.TypeManifest).want(t, 201)
		return "a/manifests/" + note
	}
	one, two := manifest("one", `{"a":1}`, `{"b":2}`), manifest("two", `{"b":2}`, `{"a":1}`)
	before := blobs.n.Load()
	for range 5 {
		for _, ref := range []string{one, two} {
			x.get(t, ref).want(t, 200)
		}
	}
	if n := blobs.n.Load() - before; n != 2 {
		t.Errorf("%d looks into two blobs", n)
	}
	archive := manifest("archive", `{"a":1}`, tarOfText(t))
	before = blobs.n.Load()
	for range 5 {
		x.get(t, archive).want(t, 403)
	}
	if n := blobs.n.Load() - before; n != 1 {
		t.Errorf("%d looks into a blob that is no text", n)
	}
	var large []string
	for i := range 5 {
		large = append(large, fmt.Sprintf(`{"n":%d,"x":%q}`, i, strings.Repeat("x", 3_900_000)))
	}
	much := manifest("much", large...)
	before = blobs.n.Load()
	x.get(t, much).want(t, 403)
	if n := blobs.n.Load() - before; n != 0 {
		t.Errorf("%d looks into more than may be", n)
	}
}
