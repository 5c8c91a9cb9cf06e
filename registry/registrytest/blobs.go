package registrytest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// BlobsBackend is an implementation of [registry.Blobs] to test.
type BlobsBackend struct {
	// New returns an empty store. It cleans up by t.Cleanup.
	New func(t *testing.T) registry.Blobs
	// Reopen stops b as a crash would, with no clean shutdown, and opens the
	// same bytes again. nil if the backend can't.
	Reopen func(t *testing.T, b registry.Blobs) registry.Blobs
	// Pools are the pools the store has besides "".
	Pools []registry.Pool
	// Cannot names the tests the backend can't pass. They are skipped.
	Cannot []string
}

// Blobs tests that b keeps the contract of [registry.Blobs]. It must not run in
// parallel with other tests: at its end it looks for goroutines left behind.
func Blobs(t *testing.T, b BlobsBackend) {
	leaked := watchGoroutines()
	runAll(t, b.Cannot, slices.Concat(readTests(), appendTests(), commitTests(), reaperTests(), crashTests(), journalTests()), func(t *testing.T) *blobs {
		return &blobs{Blobs: b.New(t), backend: b}
	})
	leaked(t)
}

// blobs is a store under test.
type blobs struct {
	registry.Blobs
	backend BlobsBackend
}

// start opens a session in the default pool.
func (b *blobs) start(t *testing.T) registry.Upload {
	t.Helper()
	u, err := b.Start(t.Context(), "", registry.SHA256)
	must(t, "Start", err)
	return u
}

// append adds data to the session and checks the state that comes back.
func (b *blobs) append(t *testing.T, u registry.Upload, data []byte) registry.Upload {
	t.Helper()
	got, err := b.Append(t.Context(), u, bytes.NewReader(data))
	must(t, "Append", err)
	want := registry.Upload{ID: u.ID, Pool: u.Pool, Offset: u.Offset + int64(len(data))}
	if got != want {
		t.Fatalf("Append: got state %+v, want %+v", got, want)
	}
	return got
}

// push stores data in pool p in one go.
func (b *blobs) push(t *testing.T, p registry.Pool, data []byte) registry.Stored {
	t.Helper()
	u, err := b.Start(t.Context(), p, registry.SHA256)
	must(t, "Start", err)
	s, err := b.Commit(t.Context(), u, bytes.NewReader(data), sha256of(data))
	must(t, "Commit", err)
	checkStored(t, s, p, data, registry.SHA256)
	return s
}

// checkStored checks that s describes data in pool p.
func checkStored(t *testing.T, s registry.Stored, p registry.Pool, data []byte, alg registry.Algorithm) {
	t.Helper()
	want := registry.Stored{Digest: alg.FromBytes(data), Size: int64(len(data)), Pool: p, Locator: s.Locator}
	if s != want {
		t.Errorf("got %+v, want %+v", s, want)
	}
	if s.Locator == "" {
		t.Error("Stored has no Locator")
	}
}

// checkContent checks that s can be read whole and is data.
func (b *blobs) checkContent(t *testing.T, s registry.Stored, data []byte) {
	t.Helper()
	c, err := b.Open(t.Context(), s, registry.Whole)
	must(t, "Open", err)
	defer c.Close()
	got, err := io.ReadAll(c)
	must(t, "Read", err)
	if !bytes.Equal(got, data) {
		t.Errorf("read %d bytes that differ from the %d stored", len(got), len(data))
	}
	if c.Size() != int64(len(data)) {
		t.Errorf("Size is %d, want %d", c.Size(), len(data))
	}
}

// checkOffset checks the offset that Status tells.
func (b *blobs) checkOffset(t *testing.T, u registry.Upload, want int64) {
	t.Helper()
	got, err := b.Status(t.Context(), u)
	must(t, "Status", err)
	if (got != registry.Upload{ID: u.ID, Pool: u.Pool, Offset: want}) {
		t.Errorf("Status: got %+v, want ID %s, pool %q, offset %d", got, u.ID, u.Pool, want)
	}
}

func sha256of(data []byte) registry.Digest { return registry.SHA256.FromBytes(data) }

// noise returns n bytes without a pattern, always the same for the same n and
// seed.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}
