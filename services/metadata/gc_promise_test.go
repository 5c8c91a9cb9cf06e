package metadata_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// Content from before there were reviews is promised to who hears of it, from a
// cache or not, as soon as a sweep has found it; and nothing of it goes before the
// time is over in which a lost reference can be restored.
func TestI2SweptContent(t *testing.T) { onEach(t, testI2SweptContent) }

func testI2SweptContent(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	m := k.push(t, "a", "untagged")
	loose := k.link(t, "a", "loose")
	quiet := k.push(t, "a", "nobody asks")
	k.mustExec(t, `DELETE FROM reviews`)
	ask := func() {
		t.Helper()
		if !k.has(t, "a", m.Digest) {
			t.Fatal("the manifest has gone though somebody was told that it is there")
		}
		if _, err := k.Blob(t.Context(), alice, "a", loose.Digest); err != nil {
			t.Fatalf("the blob has gone though somebody was told that it is there: %v", err)
		}
	}
	ask() // a cache may know now that they need no promise
	if _, err := metadata.CollectAll(t.Context(), k.Catalog, true); err != nil {
		t.Fatal(err)
	}
	for passed := lease - time.Second; passed < 2*undo; passed += lease - time.Second {
		k.collect(t, lease-time.Second)
		ask()
		if passed == (lease-time.Second)*5 && !k.has(t, "a", quiet.Digest) {
			t.Error("an untagged manifest went within the undo window")
		}
	}
	k.settle(t)
	if got := k.copies(t); len(got) > 0 {
		t.Errorf("stored bytes are left: %q", got)
	}
}

// A reader who leaves before the promise is made leaves nothing in a cache that
// would be taken for one.
func TestI2ReaderLeaves(t *testing.T) { onEach(t, testI2ReaderLeaves) }

func testI2ReaderLeaves(t *testing.T, at newPlace) {
	clock, leave := newClock(), make(chan context.CancelFunc, 1)
	s := openStore(t, at(t), metadata.Options{Now: func() time.Time {
		select {
		case cancel := <-leave: // the row has been read, and how long it is promised is asked
			cancel()
		default:
		}
		return clock.now()
	}}, nil) // no worker looks at the clock
	k := &keeper{store: s, clock: clock}
	config := blob("x")
	if _, err := s.Link(t.Context(), alice, "a", config); err != nil {
		t.Fatal(err)
	}
	m := image(config, nil)
	put(t, s, "a", m)
	clock.move(lease + lease/2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	leave <- cancel
	_, err := s.Manifest(ctx, alice, "a", registry.ManifestQuery{Ref: registry.Reference{Digest: m.Digest}})
	if err != nil || ctx.Err() == nil {
		t.Fatalf("the reader left at another moment (%v, %v)", err, ctx.Err())
	}
	for range 2 {
		if !k.has(t, "a", m.Digest) {
			t.Fatal("within a lease after it was said to be there: no manifest")
		}
		k.collect(t, lease-time.Second)
	}
	if !k.has(t, "a", m.Digest) {
		t.Error("within a lease after it was said to be there: no manifest")
	}
}

// A copy that is in use stays, whatever the queue says.
func TestCopyInUseIsNotRemoved(t *testing.T) { onEach(t, testCopyInUseIsNotRemoved) }

func testCopyInUseIsNotRemoved(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	k.link(t, "a", "x")
	k.mustExec(t, `INSERT INTO garbage (pool, digest, locator, size, due, attempts) SELECT pool, digest, locator, size, 0, 0 FROM blobs`)
	for range 2 { // a second copy, for which the queue is looked at
		k.link(t, "a", "y")
	}
	if got := k.copies(t); !slices.Equal(got, []string{"x", "y"}) {
		t.Errorf("stored: %q, want x and y", got)
	}
	k.sound(t)
}
