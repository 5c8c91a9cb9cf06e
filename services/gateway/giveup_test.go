package gateway

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/berth-registry/berth/registry"
)

// busyBlobs refuses to abort a session for the first few times.
type busyBlobs struct {
	registry.Blobs
	refusals int
}

func (b *busyBlobs) Abort(ctx context.Context, u registry.Upload) error {
	if b.refusals > 0 {
		b.refusals--
		return registry.ErrRangeInvalid.With("another request is using this upload")
	}
	return b.Blobs.Abort(ctx, u)
}

// TestGiveUpOfABusySession: a session whose client has left is removed although
// the call that used it has not ended yet; one that never is free costs no more
// than the time for such work.
func TestGiveUpOfABusySession(t *testing.T) {
	for refusals, gone := range map[int]bool{0: true, 5: true, 1 << 30: false} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			blobs := &busyBlobs{w.deps.Blobs, refusals}
			w.deps.Blobs = blobs
			g := w.gateway(t)
			u, err := blobs.Start(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			ctx, leave := context.WithCancel(t.Context())
			leave()
			g.giveUp(ctx, u)
			if _, err := blobs.Status(t.Context(), u); (err != nil) != gone {
				t.Errorf("after %d refusals: status of the session: %v", refusals, err)
			}
		})
	}
}
