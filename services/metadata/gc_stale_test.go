package metadata_test

import (
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// An answer that a gateway gives again for half of maxStaleness is still good for a
// whole lease then.
func TestPromiseThroughAGateway(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		const stale = 20 * time.Minute
		k := newKeeper(t, at(t), metadata.Options{Lease: lease, MaxStaleness: stale})
		s := k.link(t, "a", "x")
		read := func(what string) {
			t.Helper()
			if _, err := k.Blob(t.Context(), alice, "a", s.Digest); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		k.clock.move(lease) // the promise of the link is half over
		read("a lease after the upload")
		// A gateway tells it again, and its client needs the blob a lease later.
		k.collect(t, stale/2+lease-time.Second)
		m := image(k.link(t, "a", "config"), []registry.Stored{s}, "v1")
		put(t, k, "a", m)
		read("at the end")
	})
}
