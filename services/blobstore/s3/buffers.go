package s3

import (
	"context"
	"sync"
)

const (
	// partSize is the size of all parts but the last: some servers want them
	// equal.
	partSize = 8 << 20
	// maxParts is how many parts S3 allows.
	maxParts = 10_000
	// maxBuffers is how many parts are in memory at a time, in all uploads.
	maxBuffers = 16
	// smallSize is how much of an upload is kept in memory besides. Most blobs
	// are no larger, and don't wait for others.
	smallSize = 256 << 10
)

// memory lends buffers for parts. Who wants one more than there are waits.
type memory struct {
	slots chan struct{} // holds an element for each large buffer lent
	large sync.Pool     // of *[]byte, partSize
	small sync.Pool     // of *[]byte, smallSize
}

func newMemory() *memory { return &memory{slots: make(chan struct{}, maxBuffers)} }

// getSmall returns a small buffer.
func (m *memory) getSmall() *[]byte {
	if b, ok := m.small.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, smallSize)
	return &b
}

// getLarge returns a buffer for a part, waiting for it until ctx ends.
func (m *memory) getLarge(ctx context.Context) (*[]byte, error) {
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if b, ok := m.large.Get().(*[]byte); ok {
		return b, nil
	}
	b := make([]byte, partSize)
	return &b, nil
}

// put takes a buffer back. nil is none.
func (m *memory) put(b *[]byte) {
	switch {
	case b == nil:
	case len(*b) == smallSize:
		m.small.Put(b)
	default:
		m.large.Put(b)
		<-m.slots
	}
}
