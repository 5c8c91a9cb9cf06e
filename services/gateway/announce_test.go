package gateway

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// counted counts the pushes and removals that a mirror is told of.
type counted struct {
	registry.Mirror
	n atomic.Int64
}

func (c *counted) Announce(ctx context.Context, a registry.Actor, repo registry.Name, p registry.AnnouncedPush) (string, error) {
	c.n.Add(1)
	return c.Mirror.Announce(ctx, a, repo, p)
}

// TestRefusedPushIsNotAnnounced: whoever may not push, or delete, has nothing written to
// what is passed on to other registries, where a tag would count as owed meanwhile.
func TestRefusedPushIsNotAnnounced(t *testing.T) {
	policy, err := access.Compile(&registry.AccessRules{Repositories: map[string]registry.RepositoryRules{"**": {
		DefaultPolicy: []string{"read"}, Policies: []registry.AccessPolicy{{Users: []string{"alice"}, Actions: []string{"read", "create", "update", "delete"}}},
	}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	bytes, here := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{Access: policy})
	m, err := memory.NewMirror(memory.MirrorOptions{
		Blobs: bytes, Catalog: here, Upstream: memory.NewCatalog(memory.CatalogOptions{}), UpstreamBlobs: memory.NewBlobs(),
		Rule: registry.MirrorRule{Name: "up", Scope: []string{"**"}, Push: registry.PushForward},
	})
	if err != nil {
		t.Fatal(err)
	}
	told := &counted{Mirror: m}
	w.deps.Blobs, w.deps.Catalog, w.deps.Mirror = bytes, here, told
	w.deps.Auth = auth.New(auth.Options{Closed: true, Ruled: true, Methods: auth.Methods{Basic: []auth.Method{passwords{"alice", "eve"}}}})
	at := w.serve(t)
	const index = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	for _, test := range []struct {
		user, method string
		status       int
		told         int64
	}{
		{"eve", "PUT", 403, 0}, {"alice", "PUT", 201, 1}, {"eve", "DELETE", 403, 1}, {"alice", "DELETE", 202, 2},
	} {
		var body *strings.Reader
		headers := basic(test.user, test.user)
		if test.method == "PUT" {
			body, headers = strings.NewReader(index), append(headers, "Content-Type: "+registry.TypeIndex)
		} else {
			body = strings.NewReader("")
		}
		do(t, test.method, at+"/v2/a/manifests/v1", body, headers...).want(t, test.status)
		if got := told.n.Load(); got != test.told {
			t.Errorf("%s by %s: the mirror was told of %d pushes, want %d", test.method, test.user, got, test.told)
		}
	}
}
