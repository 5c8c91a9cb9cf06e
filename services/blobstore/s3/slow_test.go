package s3

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// noise returns n bytes that are always the same for a seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// openPools opens a store on one bucket and returns its driver, too.
func openPools(t *testing.T, d config.Driver, o Options) (*blobstore.Store, *Driver) {
	t.Helper()
	cfg, err := config.Pool{StorageDriver: d}.S3()
	if err != nil {
		t.Fatal(err)
	}
	driver, err := Open(t.Context(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := blobstore.Open(t.Context(), map[registry.Pool]blobstore.Driver{"": driver}, blobstore.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, driver
}

// paused is a client that sends a first piece and then waits.
type paused struct {
	first, rest *bytes.Reader
	sent        chan struct{} // closed when the first piece was read
	resume      chan struct{}
}

func newPaused(b []byte, first int) *paused {
	return &paused{bytes.NewReader(b[:first]), bytes.NewReader(b[first:]), make(chan struct{}), make(chan struct{})}
}

func (p *paused) Read(b []byte) (int, error) {
	if p.first.Len() > 0 {
		return p.first.Read(b)
	}
	select {
	case <-p.sent:
	default:
		close(p.sent)
	}
	<-p.resume
	return p.rest.Read(b)
}

// Sixteen uploads that have stopped hold all buffers for parts. Others go on all
// the same, and so do the sixteen when their clients send again.
func TestSlowUploadsMakeRoom(t *testing.T) {
	store, driver := openPools(t, s3test.Start(t).Driver("/slow"), Options{})
	driver.memory.hold = time.Millisecond // what a test can wait for
	type result struct {
		stored registry.Stored
		err    error
	}
	var (
		clients []*paused
		blobs   [][]byte
		results []chan result
	)
	push := func(r io.Reader, want registry.Digest) result {
		u, err := store.Start(context.Background(), "", "")
		if err != nil {
			return result{err: err}
		}
		stored, err := store.Commit(context.Background(), u, r, want)
		return result{stored, err}
	}
	for i := range maxBuffers {
		// Some are in the first part, some in the third; some end there.
		size := []int{3 << 20, 19 << 20}[i%2]
		b := noise(size, uint64(i))
		c := newPaused(b, size-[]int{1 << 20, 0}[i/2%2])
		done := make(chan result, 1)
		clients, blobs, results = append(clients, c), append(blobs, b), append(results, done)
		go func() { done <- push(c, registry.SHA256.FromBytes(b)) }()
	}
	for _, c := range clients {
		<-c.sent
	}
	fast := noise(40<<20, 99)
	if r := push(bytes.NewReader(fast), registry.SHA256.FromBytes(fast)); r.err != nil {
		t.Fatal(r.err)
	}
	if n := len(driver.memory.slots); n > maxBuffers {
		t.Errorf("%d buffers are lent", n)
	}
	for _, c := range clients {
		close(c.resume)
	}
	for i, done := range results {
		r := <-done
		if r.err != nil {
			t.Errorf("upload %d: %v", i, r.err)
			continue
		}
		got := new(bytes.Buffer)
		c, err := store.Open(t.Context(), r.stored, registry.Whole)
		if err == nil {
			_, err = io.Copy(got, c)
			c.Close()
		}
		if err != nil || !bytes.Equal(got.Bytes(), blobs[i]) {
			t.Errorf("upload %d has other bytes (%v)", i, err)
		}
	}
	if n := len(driver.memory.slots); n != 0 {
		t.Errorf("%d buffers are lent at the end", n)
	}
}

// A process ends while an upload is parked. Another continues it, though the
// state has no hashes.
func TestParkedUploadContinuesElsewhere(t *testing.T) {
	drv := s3test.Start(t).Driver("/parked")
	for _, size := range []int{3 << 20, 19 << 20} {
		b := noise(size, 5)
		first, driver := openPools(t, drv, Options{})
		u, err := first.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		c := newPaused(b, size-1000)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = first.Append(ctx, u, c) // it is cut off
		}()
		<-c.sent
		driver.memory.mu.Lock()
		file := slices.Collect(maps.Keys(driver.memory.filling))[0]
		driver.memory.mu.Unlock()
		if !file.park() {
			t.Fatal("the upload was not parked")
		}
		second, _ := openPools(t, drv, Options{})
		if u, err = second.Status(t.Context(), u); err != nil || u.Offset < int64(size)-2<<20 {
			t.Fatalf("another process finds it at %d (%v)", u.Offset, err)
		}
		s, err := second.Commit(t.Context(), u, bytes.NewReader(b[u.Offset:]), registry.SHA256.FromBytes(b))
		if err != nil {
			t.Fatal(err)
		}
		if err := second.Verify(t.Context(), s, 0); err != nil {
			t.Error(err)
		}
		cancel()
		close(c.resume)
		<-ended
	}
}

// Whose turn it is to make room is decided by how long it has had its buffer, and
// none is taken from an upload that has it but for a moment.
func TestReclaimSparesTheQuick(t *testing.T) {
	m := newMemory()
	b := make([]byte, partSize)
	u := &upload{driver: &Driver{memory: m}, buf: &b, fill: 1}
	m.begins(u)
	m.reclaim()
	if u.parked || len(m.filling) != 1 {
		t.Error("an upload was parked at once")
	}
}
