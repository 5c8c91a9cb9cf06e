package s3

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
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

// holdTime is for how long an upload has a buffer for itself. One that has not
// filled it then gives it up when others wait, see upload.park.
const holdTime = 10 * time.Second

// memory lends buffers for parts. Who wants one more than there are waits.
type memory struct {
	slots chan struct{} // holds an element for each large buffer lent
	large sync.Pool     // of *[]byte, partSize
	small sync.Pool     // of *[]byte, smallSize
	hold  time.Duration // holdTime

	mu      sync.Mutex            // guards filling
	filling map[*upload]time.Time // who fills a large buffer, and since when
}

func newMemory() *memory {
	return &memory{slots: make(chan struct{}, maxBuffers), hold: holdTime, filling: map[*upload]time.Time{}}
}

// getSmall returns a small buffer.
func (m *memory) getSmall() *[]byte {
	if b, ok := m.small.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, smallSize)
	return &b
}

// getLarge returns a buffer for a part, waiting for it until ctx ends. While it
// waits, uploads that are slow make room.
func (m *memory) getLarge(ctx context.Context) (*[]byte, error) {
	for taken := false; !taken; {
		select {
		case m.slots <- struct{}{}:
			taken = true
			continue
		default:
		}
		look := time.NewTimer(max(m.hold/10, time.Millisecond))
		select {
		case m.slots <- struct{}{}:
			taken = true
		case <-look.C:
			m.reclaim()
		case <-ctx.Done():
			look.Stop()
			return nil, ctx.Err()
		}
		look.Stop()
	}
	if b, ok := m.large.Get().(*[]byte); ok {
		return b, nil
	}
	b := make([]byte, partSize)
	return &b, nil
}

// begins notes that u has begun to fill a large buffer, ends that it does so no
// more.
func (m *memory) begins(u *upload) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.filling[u] = time.Now()
}

func (m *memory) ends(u *upload) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.filling, u)
}

// reclaim parks one of the uploads that have had a buffer for too long.
func (m *memory) reclaim() {
	m.mu.Lock()
	since := maps.Clone(m.filling)
	m.mu.Unlock()
	oldest := slices.SortedFunc(maps.Keys(since), func(a, b *upload) int { return since[a].Compare(since[b]) })
	for _, u := range oldest {
		if time.Since(since[u]) < m.hold || u.park() {
			return
		}
	}
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
