package rpc

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

const (
	// contentCost is what the content of a blob may hold in memory whose reader
	// does not read.
	contentCost = 3 << 20
	// cheapContent is how large content may be that needs no slot.
	cheapContent = 256 << 10
	// slotWait is how long a caller waits for a slot. It leaves a client that is
	// told to come again most of its own time.
	slotWait = 10 * time.Second
)

// slots limit how many contents are open at a time in a process whose memory is
// limited: readers that stall could take all of it. nil is no limit.
type slots chan struct{}

// newSlots gives half of the memory limit (see [daemon.MemoryLimit]) to open
// contents.
func newSlots(memoryLimit int64) slots {
	if memoryLimit == math.MaxInt64 {
		return nil
	}
	return make(slots, max(4, min(memoryLimit/2/contentCost, maxStreams)))
}

// take waits for a slot for content of size bytes. Without an error, release is
// due; it may be called more than once.
func (s slots) take(ctx context.Context, size int64) (release func(), err error) {
	if s == nil || size <= cheapContent {
		return func() {}, nil
	}
	release = sync.OnceFunc(func() { <-s })
	select {
	case s <- struct{}{}:
		return release, nil
	default:
	}
	t := time.NewTimer(slotWait)
	defer t.Stop()
	select {
	case s <- struct{}{}:
		return release, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-t.C:
		return nil, registry.ErrTooManyRequests.With("%d downloads at a time are what the memory here allows", cap(s))
	}
}
