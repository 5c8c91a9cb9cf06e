package metadata_test

import (
	"testing"
	"time"

	"github.com/berth-registry/berth/services/metadata"
)

// Where garbage collection begins while the catalog serves, what somebody was told of
// before, or is told of from then on, can be used for a lease all the same.
func TestI2CollectionThatBegins(t *testing.T) { onEach(t, testI2CollectionThatBegins) }

func testI2CollectionThatBegins(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{GC: metadata.GC{Off: true, Undo: undo}})
	loose := k.link(t, "a", "loose")
	m := k.push(t, "a", "untagged")
	read := func() {
		t.Helper()
		if _, err := k.Blob(t.Context(), alice, "a", loose.Digest); err != nil {
			t.Fatalf("Blob: %v", err)
		}
		if !k.has(t, "a", m.Digest) {
			t.Fatal("the manifest has gone")
		}
	}
	k.clock.move(100 * lease)
	read()
	read() // which may be from a cache
	o := k.options
	o.GC.Off = false
	if err := k.SetPolicies(o); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		k.collect(t, lease-time.Second)
		read()
	}
	k.settle(t)
	if got := k.copies(t); len(got) > 0 {
		t.Errorf("stored: %q, want nothing", got)
	}
}
