package metadata_test

import (
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// Who was told that a copy is there, a moment before it was collected, can't link
// it a moment later: it has no bytes any more.
func TestLinkOfACopyThatJustWent(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		k := newKeeper(t, at(t), metadata.Options{})
		s := k.link(t, "a", "x")
		for range 8 {
			if k.collect(t, undo+2*lease); len(k.copies(t)) == 0 {
				break
			}
		}
		if left := k.copies(t); len(left) > 0 {
			t.Fatalf("void: %v are still there", left)
		}
		_, err := k.Link(t.Context(), alice, "a", s)
		wantErr(t, "Link of a copy that just went", err, registry.ErrBlobUnknown)
		// Nothing of that stays for ever.
		k.clock.move(time.Hour)
		k.link(t, "a", "x") // which wakes whoever looks after the queue
		if _, err := k.Link(t.Context(), alice, "a", k.upload(t, "x")); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(30 * time.Second)
		for n := 1; n > 0; {
			err := k.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM garbage WHERE locator = $1`, string(s.Locator)).Scan(&n)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%d entries of the copy are in the queue: %v", n, err)
			}
			k.collect(t, time.Second)
		}
	})
}
