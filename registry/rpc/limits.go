package rpc

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// limits say how long calls may take, and how large messages may be.
type limits struct {
	read     time.Duration // of a unary call that reads
	write    time.Duration // of a unary call that writes
	progress time.Duration // of a stream in which nothing moves
	finish   time.Duration // from the last byte of an upload to the answer
	beat     time.Duration // between two signs of life of a call that takes long, see [beat]
	flush    time.Duration // that a byte may wait in a chunk that isn't full
	backoff  time.Duration // before the first repetition, twice as long before the second
}

func clientLimits() limits {
	return limits{
		read:     30 * time.Second,
		write:    60 * time.Second,
		progress: 60 * time.Second,
		finish:   15 * time.Minute, // a commit may have to hash all bytes again
		flush:    time.Second,
		backoff:  50 * time.Millisecond,
	}
}

func serverLimits() limits {
	return limits{
		read:     2 * time.Minute, // for clients that set no deadline
		progress: 90 * time.Second,
		beat:     10 * time.Second,
		flush:    time.Second,
	}
}

const (
	// maxMessage is the size of the largest message: a manifest and what is
	// around it, or a list.
	maxMessage = registry.MaxManifest + 1<<20
	// maxSmall is the size of the largest message a server takes that has neither
	// a manifest nor blob bytes in it.
	maxSmall = 1 << 20
	// maxDetail is the size of the largest detail of a failure.
	maxDetail = 1 << 20
)

var errStalled = errors.New("nothing moved")

// patience calls give when something takes longer than limit.
type patience struct {
	limit time.Duration
	timer *time.Timer
}

// newPatience returns a patience that has already begun to wait.
func newPatience(limit time.Duration, give func()) *patience {
	return &patience{limit: limit, timer: time.AfterFunc(limit, give)}
}

// during runs f, which should not take longer than the limit.
func (p *patience) during(f func() error) error {
	p.timer.Reset(p.limit)
	defer p.timer.Stop()
	return f()
}

// once returns a channel and a function that closes it.
func once() (<-chan struct{}, func()) {
	c := make(chan struct{})
	return c, sync.OnceFunc(func() { close(c) })
}

// pause waits for d, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
