package gateway

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// tally counts the calls of a catalog that serving a registry takes.
type tally struct {
	registry.Catalog
	calls atomic.Int64
}

func (c *tally) Admit(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Pool, error) {
	c.calls.Add(1)
	return c.Catalog.Admit(ctx, a, repo)
}

func (c *tally) Tags(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	c.calls.Add(1)
	return c.Catalog.Tags(ctx, a, repo, p)
}

func (c *tally) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	c.calls.Add(1)
	return c.Catalog.Manifest(ctx, a, repo, q)
}

func (c *tally) PutManifest(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut) (registry.ManifestInfo, error) {
	c.calls.Add(1)
	return c.Catalog.PutManifest(ctx, a, repo, m)
}

func (c *tally) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	c.calls.Add(1)
	return c.Catalog.Blob(ctx, a, repo, d)
}

func (c *tally) Link(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	c.calls.Add(1)
	return c.Catalog.Link(ctx, a, repo, s)
}

func (c *tally) UploadKeys(ctx context.Context) ([]registry.Key, error) {
	c.calls.Add(1)
	return c.Catalog.UploadKeys(ctx)
}

// TestTwoGatewaysCostOneCatalog sends the same requests to one gateway and to two
// in turn: a second one makes the catalog work no more than a twentieth harder.
func TestTwoGatewaysCostOneCatalog(t *testing.T) {
	const images = 50
	count := func(gateways int) (perRequest float64) {
		w := newWorld()
		c := &tally{Catalog: w.deps.Catalog}
		w.deps.Catalog = c
		var urls []string
		for range gateways {
			urls = append(urls, w.serve(t))
		}
		requests := 0
		next := func() string {
			requests++
			return urls[requests%len(urls)]
		}
		for i := range images {
			layer := fmt.Sprintf("layer %d", i)
			d := registry.SHA256.FromString(layer)
			do(t, "HEAD", next()+"/v2/a/blobs/"+d.String(), nil).want(t, 404)
			loc := do(t, "POST", next()+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
			loc = do(t, "PATCH", next()+loc, strings.NewReader(layer)).want(t, 202).header.Get("Location")
			do(t, "PUT", next()+loc+"&digest="+d.String(), nil).want(t, 201)
			pushBlob(t, next(), "a", "{}")
			tag := fmt.Sprintf("t%d", i%8)
			manifest := strings.Replace(emptyImage, `"layers":[]`, fmt.Sprintf(`"layers":[{"mediaType":"application/x","digest":%q,"size":%d}]`, d, len(layer)), 1)
			do(t, "PUT", next()+"/v2/a/manifests/"+tag, strings.NewReader(manifest), "Content-Type: "+registry.TypeManifest).want(t, 201)
			for range 4 {
				do(t, "HEAD", next()+"/v2/a/manifests/"+tag, nil).want(t, 200)
				do(t, "GET", next()+"/v2/a/manifests/"+tag, nil).want(t, 200)
				do(t, "GET", next()+"/v2/a/blobs/"+d.String(), nil).want(t, 200)
			}
			do(t, "GET", next()+"/v2/a/tags/list", nil).want(t, 200)
		}
		return float64(c.calls.Load()) / float64(requests)
	}
	one, two := count(1), count(2)
	t.Logf("calls of the catalog for a request: %.3f with one gateway, %.3f with two", one, two)
	if two > 1.05*one || one < 0.5 {
		t.Errorf("two gateways make %.3f calls a request, one %.3f", two, one)
	}
}
