package blobstore

import "sync"

const (
	// smallBuffer holds most of what is pushed: configs, signatures, small layers.
	smallBuffer = 128 << 10
	// largeBuffer is for what is not small: a system call for each MiB and a
	// hand-over to the hashing goroutine for each cost a quarter less CPU than
	// for each 256 KiB.
	largeBuffer = 1 << 20
	// streamBuffers is how many buffers one stream has: one is being filled, one
	// hashed, and one waits for either.
	streamBuffers = 3
	// largeStreams is how many streams have large buffers at a time: 15 MiB in
	// all. Others make do with small ones, so that memory stays bounded where
	// many push at once, and there the cores are busy anyway.
	largeStreams = 5
)

// buffers is the memory that bytes pass through on their way to the storage.
type buffers struct {
	small, large lender
	slots        chan struct{} // holds an element for each stream with large buffers
}

func newBuffers() *buffers {
	b := &buffers{slots: make(chan struct{}, largeStreams)}
	b.small.size, b.large.size = smallBuffer, largeBuffer
	return b
}

// forStream returns where a stream gets its buffers from, and what to call when
// it has given all of them back.
func (b *buffers) forStream() (from *lender, done func()) {
	select {
	case b.slots <- struct{}{}:
		return &b.large, func() { <-b.slots }
	default:
		return &b.small, func() {}
	}
}

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
