package metadata_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// What a delete or a moved tag can be undone with stays for the whole window, also if
// something that was pushed meanwhile, and never tagged, needed it for a while.
func TestUndoOutlivesWhatNeededTheSame(t *testing.T) { onEach(t, testUndoOutlivesWhatNeededTheSame) }

func testUndoOutlivesWhatNeededTheSame(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	ctx := t.Context()
	config, layer := k.link(t, "a", "config"), k.link(t, "a", "layer")
	deleted := image(config, []registry.Stored{layer}, "v1")
	put(t, k, "a", deleted)
	moved := k.push(t, "a", "moved", "latest")
	k.push(t, "a", "next", "latest")
	if err := k.DeleteManifest(ctx, alice, "a", deleted.Digest); err != nil {
		t.Fatal(err)
	}
	// An image with the same layer, and an index that lists the one that lost its tag.
	put(t, k, "a", image(k.link(t, "a", "other config"), []registry.Stored{layer}))
	put(t, k, "a", index([]registry.ManifestPut{moved}))
	// Somebody pulls both, which must not end the window either.
	for range 5 {
		if _, err := k.Blob(ctx, alice, "a", layer.Digest); err != nil {
			t.Fatal(err)
		}
		k.has(t, "a", moved.Digest)
		k.collect(t, undo/6)
	}
	if err := k.Undelete(ctx, alice, "a", registry.Reference{Digest: deleted.Digest}); err != nil {
		t.Errorf("Undelete at the end of the window: %v", err)
	}
	if _, err := k.RollbackTag(ctx, alice, "a", "latest", moved.Digest, registry.Condition{}); err != nil {
		t.Errorf("RollbackTag at the end of the window: %v", err)
	}
	k.sound(t)
}
