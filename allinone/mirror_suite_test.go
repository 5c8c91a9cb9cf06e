package allinone

import (
	"fmt"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/registrytest"
)

// TestMirror: a syncer over the network does what the port says, with another Berth as
// its upstream, in the same process and behind gRPC.
func TestMirror(t *testing.T) {
	for _, topology := range []string{"linked", "split"} {
		t.Run(topology, func(t *testing.T) {
			registrytest.Mirror(t, registrytest.MirrorBackend{New: func(t *testing.T, push registry.PushRule) registrytest.Mirrored {
				hq := newEdge(t, false)
				hq.mirror.now = nothing{}
				link := newLine(t, hq.url)
				e := newEdge(t, topology == "split")
				e.start(fmt.Sprintf(`{"urls":[%q],"onDemand":true,"localPushes":%q,"content":[{"prefix":"hub/**"}]}`, link.url(), push))
				return registrytest.Mirrored{
					Mirror: e.mirror.get(), Rule: link.name(), Catalog: e.catalog, Blobs: e.blobs, Upstream: hq.catalog, UpstreamBlobs: hq.blobs,
					Down: link.setDown, Background: true,
				}
			}})
		})
	}
}
