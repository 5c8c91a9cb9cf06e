package auth

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// heldLeast and heldMost are how long a client waits for being told that it guesses
	// too much. A loop that guesses on one connection costs one answer a second then,
	// instead of thousands. They differ, so that many that began at one moment do not
	// ask again at one moment, each second.
	heldLeast, heldMost = time.Second / 2, 3 * time.Second / 2
	// maxHeld is how many wait at a time; the others are told at once. One that waits
	// costs no more than its connection, of which there are 448 where the system allows
	// the fewest descriptors: those that wait must not be all.
	maxHeld = 256
)

// held are the clients that wait, a place for each.
type held chan struct{}

func newHeld() held { return make(held, maxHeld) }

// wait lets the time pass, or does not if too many wait already.
func (h held) wait(ctx context.Context) {
	select {
	case h <- struct{}{}:
	default:
		return
	}
	defer func() { <-h }()
	pause(ctx, heldLeast+rand.N(heldMost-heldLeast))
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
