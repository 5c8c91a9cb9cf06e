package metadata_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// reopen closes the store and opens it with other options.
func (k *keeper) reopen(t *testing.T, o metadata.Options) *keeper {
	t.Helper()
	k.close(t)
	o.Now, o.GC.Undo = k.clock.now, undo
	return &keeper{store: openStore(t, k.place, o, k.blobs), blobs: k.blobs, clock: k.clock}
}

// A repository whose pool is another one since the last start keeps what was
// promised, and loses what was not.
func TestPoolsChangeBetweenStarts(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		for _, back := range []bool{false, true} {
			with := metadata.Options{Lease: lease, Pools: []registry.Pool{"/a"}}
			without := metadata.Options{Lease: lease}
			first, second := without, with
			if back {
				first, second = with, without
			}
			k := newKeeper(t, at(t), first)
			s := k.link(t, "a/x", "x") // into the default pool, wherever the repository is
			k.link(t, "a/x", "gone")
			k.clock.move(lease + lease/2)
			k = k.reopen(t, second)
			if _, err := k.Blob(t.Context(), alice, "a/x", s.Digest); err != nil {
				t.Fatal(err)
			}
			k.collect(t, lease-time.Second)
			if _, err := k.Blob(t.Context(), alice, "a/x", s.Digest); err != nil {
				t.Errorf("within a lease after it was said to be there: %v", err)
			}
			for range 8 {
				k.collect(t, undo+2*lease)
			}
			if got := k.copies(t); len(got) > 0 {
				t.Errorf("what nobody needs stays: %q", got)
			}
			var left int
			if err := k.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM reviews`).Scan(&left); err != nil || left > 0 {
				t.Errorf("%d reviews are left (%v)", left, err)
			}
		}
	})
}

// A pool that is not there any more is told of.
func TestLostPoolIsToldOf(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		k := newKeeper(t, at(t), metadata.Options{Pools: []registry.Pool{"/a"}})
		if _, err := k.Link(t.Context(), alice, "a/x", registry.Stored{Digest: registry.SHA256.FromString("x"), Size: 1, Pool: "/a", Locator: "x"}); err != nil {
			t.Fatal(err)
		}
		k.close(t)
		var log bytes.Buffer
		db := k.place.open(t)
		c, err := metadata.Open(t.Context(), db, nil, metadata.Options{}, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), "pool=/a") {
			t.Errorf("nobody tells of the pool: %s", log.String())
		}
	})
}
