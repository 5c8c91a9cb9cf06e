package blobstore

import "sync"

const (
	// slowBuffer is all that a stream has at first, and for as long as it gets no
	// large buffers. It holds most of what is pushed: configs, signatures, small
	// layers.
	slowBuffer = 16 << 10
	// smallBuffer is for reading again what is stored.
	smallBuffer = 128 << 10
	// largeBuffer is for what is not small: a system call for each MiB and a
	// hand-over to the hashing goroutine for each cost a quarter less CPU than
	// for each 256 KiB.
	largeBuffer = 1 << 20
	// streamBuffers is how many large buffers one stream has: one is being filled,
	// one hashed, and one waits for either.
	streamBuffers = 3
	// largeStreams is how many streams have large buffers at a time: 15 MiB in
	// all. Others make do with a slow one and hash what they write themselves, so
	// that hundreds of clients that wait cost little; where many push at once the
	// cores are busy anyway.
	largeStreams = 5
)

// buffers is the memory that bytes pass through on their way to the storage.
type buffers struct {
	slow, small, large lender
	slots              chan struct{} // holds an element for each stream with large buffers
}

func newBuffers() *buffers {
	b := &buffers{slots: make(chan struct{}, largeStreams)}
	b.slow.size, b.small.size, b.large.size = slowBuffer, smallBuffer, largeBuffer
	return b
}

// mayBeFast reports whether a stream may have large buffers. If so then it calls
// noLongerFast when it has given all of them back.
func (b *buffers) mayBeFast() bool {
	select {
	case b.slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (b *buffers) noLongerFast() { <-b.slots }

// lender keeps buffers of one size for reuse.
type lender struct {
	size int
	pool sync.Pool // of *[]byte
}

func (l *lender) get() *[]byte {
	if b, ok := l.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, l.size)
	return &b
}

func (l *lender) put(b *[]byte) { l.pool.Put(b) }
