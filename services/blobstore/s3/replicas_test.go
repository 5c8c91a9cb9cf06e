package s3_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/services/blobstore/s3"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// replicas are several stores on the same buckets. Each call goes to the next.
type replicas struct {
	all  []*store
	next atomic.Uint64
}

func openReplicas(t testing.TB, n int, drivers map[registry.Pool]config.Driver) *replicas {
	return openReplicasWith(t, n, drivers, s3.Options{})
}

func openReplicasWith(t testing.TB, n int, drivers map[registry.Pool]config.Driver, o s3.Options) *replicas {
	r := &replicas{}
	for range n {
		r.all = append(r.all, openStoreWith(t, drivers, o))
	}
	return r
}

func (r *replicas) one() registry.Blobs { return r.all[r.next.Add(1)%uint64(len(r.all))] }

func (r *replicas) Open(ctx context.Context, s registry.Stored, g registry.Range) (registry.Content, error) {
	return r.one().Open(ctx, s, g)
}

func (r *replicas) Start(ctx context.Context, p registry.Pool, alg registry.Algorithm) (registry.Upload, error) {
	return r.one().Start(ctx, p, alg)
}

func (r *replicas) Append(ctx context.Context, u registry.Upload, from io.Reader) (registry.Upload, error) {
	return r.one().Append(ctx, u, from)
}

func (r *replicas) Status(ctx context.Context, u registry.Upload) (registry.Upload, error) {
	return r.one().Status(ctx, u)
}

func (r *replicas) Commit(ctx context.Context, u registry.Upload, last io.Reader, want registry.Digest) (registry.Stored, error) {
	return r.one().Commit(ctx, u, last, want)
}

func (r *replicas) Abort(ctx context.Context, u registry.Upload) error { return r.one().Abort(ctx, u) }

func (r *replicas) Remove(ctx context.Context, s registry.Stored) error {
	return r.one().Remove(ctx, s)
}

func (r *replicas) Verify(ctx context.Context, s registry.Stored, rate int64) error {
	return r.one().Verify(ctx, s, rate)
}

func (r *replicas) Copies(ctx context.Context, p registry.Pool, after *registry.Stored, limit int) ([]registry.Stored, error) {
	return r.one().Copies(ctx, p, after, limit)
}

func (r *replicas) AppendJournal(ctx context.Context, name string, content []byte) error {
	return r.one().AppendJournal(ctx, name, content)
}

func (r *replicas) ReadJournal(ctx context.Context, name string) ([]byte, error) {
	return r.one().ReadJournal(ctx, name)
}

func (r *replicas) ListJournal(ctx context.Context, after string, limit int) ([]string, error) {
	return r.one().ListJournal(ctx, after, limit)
}

func (r *replicas) RemoveJournal(ctx context.Context, name string) error {
	return r.one().RemoveJournal(ctx, name)
}

func (r *replicas) Check(ctx context.Context) (registry.Health, error) { return r.one().Check(ctx) }

// TestConformanceReplicas runs the suite such that of the calls that concern one
// thing each goes to another process.
func TestConformanceReplicas(t *testing.T) {
	srv := s3test.Start(t)
	registrytest.Blobs(t, registrytest.BlobsBackend{
		New: func(t *testing.T) registry.Blobs {
			return openReplicas(t, 2, map[registry.Pool]config.Driver{"": srv.Driver(newRoot()), "/b": srv.Driver(newRoot())})
		},
		Reopen: func(t *testing.T, b registry.Blobs) registry.Blobs {
			return openReplicas(t, 3, b.(*replicas).all[0].drivers)
		},
		Pools: []registry.Pool{"/b"},
		// Which of two calls comes first is decided by which ends first, see
		// TestOneOfManyWins.
		Cannot: []string{"AppendsOverlap"},
	})
}

// TestOneOfManyWins continues one upload in several processes at a time. All
// but one are refused, and what that one was given is what counts.
func TestOneOfManyWins(t *testing.T) {
	const n = 4
	r := openReplicas(t, n, map[registry.Pool]config.Driver{"": s3test.Start(t).Driver(newRoot())})
	for round, size := range []int{1000, 9 << 20} {
		u, err := r.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		var whole []byte
		for step := range 3 {
			var all sync.WaitGroup
			errs := make([]error, n)
			for i := range n {
				all.Go(func() { _, errs[i] = r.all[i].Append(t.Context(), u, bytes.NewReader(noise(size, byte(i)))) })
			}
			all.Wait()
			won := -1
			for i, err := range errs {
				switch {
				case err == nil && won < 0:
					won = i
				case err == nil:
					t.Errorf("round %d step %d: %d and %d have both succeeded", round, step, won, i)
				case !errors.Is(err, registry.ErrRangeInvalid):
					t.Errorf("round %d step %d: %v", round, step, err)
				}
			}
			if won < 0 {
				t.Fatalf("round %d step %d: nobody succeeded", round, step)
			}
			whole = append(whole, noise(size, byte(won))...)
			if u, err = r.Status(t.Context(), u); err != nil || u.Offset != int64(len(whole)) {
				t.Fatalf("round %d step %d: Status: got %+v, %v, want offset %d", round, step, u, err, len(whole))
			}
			if size > partSize {
				break // who lost may have written over a part of who won
			}
		}
		var all sync.WaitGroup
		got := make([]registry.Stored, n)
		for i := range n {
			all.Go(func() {
				var err error
				if got[i], err = r.all[i].Commit(t.Context(), u, nil, registry.SHA256.FromBytes(whole)); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		all.Wait()
		for _, s := range got {
			if s != got[0] {
				t.Errorf("round %d: one upload is %+v and %+v", round, got[0], s)
			}
		}
		if err := r.Verify(t.Context(), got[0], 0); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
	}
}

const partSize = 8 << 20

// TestChunksOfAnySize pushes blobs in chunks whose sizes are around those of
// parts and buffers, each chunk through another process.
func TestChunksOfAnySize(t *testing.T) {
	r := openReplicas(t, 3, map[registry.Pool]config.Driver{"": s3test.Start(t).Driver(newRoot())})
	const part = partSize
	for name, sizes := range map[string][]int{
		"bytes":                {1, 1, 1, 5},
		"exactly a part":       {part},
		"a part and a byte":    {part, 1},
		"a byte and a part":    {1, part},
		"up to a part":         {part - 1, 1},
		"past a part":          {part - 1, 2},
		"two parts":            {2 * part},
		"two and some":         {2*part + 100, 0, 300},
		"parts at last":        {100, 3 * part},
		"small buffers":        {256 << 10, 1, 256<<10 - 1, 256 << 10},
		"megabytes":            {5 << 20, 5 << 20, 5 << 20, 5 << 20, 5 << 20},
		"a record while it is": {9*part + 17},
	} {
		for _, split := range []bool{false, true} { // does the last chunk come with Commit?
			t.Run(name, func(t *testing.T) {
				var all []byte
				u, err := r.Start(t.Context(), "", "")
				for i, n := range sizes {
					data := noise(n, byte(i))
					all = append(all, data...)
					if split && i == len(sizes)-1 || err != nil {
						break
					}
					u, err = r.Append(t.Context(), u, bytes.NewReader(data))
				}
				if err != nil {
					t.Fatal(err)
				}
				want := registry.SHA256.FromBytes(all)
				s, err := r.Commit(t.Context(), u, bytes.NewReader(all[u.Offset:]), want)
				if err != nil {
					t.Fatal(err)
				}
				if s.Size != int64(len(all)) {
					t.Errorf("got size %d, want %d", s.Size, len(all))
				}
				if err := r.Verify(t.Context(), s, 0); err != nil {
					t.Error(err)
				}
				again, err := r.Commit(t.Context(), u, nil, want)
				if err != nil || again != s {
					t.Errorf("Commit again: got %+v, %v, want %+v", again, err, s)
				}
				if err := r.Remove(t.Context(), s); err != nil {
					t.Error(err)
				}
			})
		}
	}
	for _, s := range r.all {
		for f, err := range s.CheckUploads(t.Context()) {
			t.Errorf("finding %+v, error %v", f, err)
		}
	}
	left, err := r.Copies(t.Context(), "", nil, 1000)
	if err != nil || len(left) != 0 {
		t.Errorf("copies are left: %v, %v", left, err)
	}
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}
