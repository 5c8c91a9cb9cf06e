package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// shelves are blobs with the layouts of another registry beside them.
type shelves struct {
	*memory.Blobs
	names []registry.Name
	index []byte
	err   error // after the names
}

func (s *shelves) Layouts(context.Context, registry.Pool) iter.Seq2[registry.Name, error] {
	return func(yield func(registry.Name, error) bool) {
		for _, n := range s.names {
			if !yield(n, nil) {
				return
			}
		}
		if s.err != nil {
			yield("", s.err)
		}
	}
}

func (s *shelves) LayoutStamp(_ context.Context, p registry.Pool, repo registry.Name) (string, error) {
	if !slices.Contains(s.names, repo) {
		return "", registry.ErrNameUnknown
	}
	return fmt.Sprint(p, " ", repo), nil
}

func (s *shelves) LayoutIndex(_ context.Context, _ registry.Pool, repo registry.Name) ([]byte, error) {
	if !slices.Contains(s.names, repo) {
		return nil, registry.ErrNameUnknown
	}
	return s.index, nil
}

func (s *shelves) LayoutCopies(_ context.Context, p registry.Pool, repo registry.Name, blobs []registry.Digest) ([]registry.LayoutCopy, error) {
	if len(blobs) > maxLayoutDigests {
		return nil, errors.New("too many at a time")
	}
	var all []registry.LayoutCopy
	for i, d := range blobs {
		if i%2 == 0 {
			all = append(all, registry.LayoutCopy{Stored: registry.Stored{Digest: d, Size: int64(i), Pool: p, Locator: registry.LayoutLocator(repo)}, Modified: int64(i)})
		}
	}
	return all, nil
}

func layoutsOf(t *testing.T, l registry.LayoutReader) (all []registry.Name, failed error) {
	t.Helper()
	for n, err := range l.Layouts(t.Context(), "") {
		if err != nil {
			return all, err
		}
		all = append(all, n)
	}
	return all, nil
}

// TestLayouts reads the layouts of another registry as another process: many, and a
// large one.
func TestLayouts(t *testing.T) {
	s := &shelves{Blobs: memory.NewBlobs(), index: bytes.Repeat([]byte("index "), 600_000)}
	for i := range 2500 {
		s.names = append(s.names, registry.Name(fmt.Sprintf("team/app%d", i)))
	}
	b := newPair().blobs(t, s)
	got, err := layoutsOf(t, b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s.names, got); diff != "" {
		t.Error(diff)
	}
	if stamp, err := b.LayoutStamp(t.Context(), "/hot", "team/app7"); err != nil || stamp != "/hot team/app7" {
		t.Errorf("LayoutStamp: %q, %v", stamp, err)
	}
	if index, err := b.LayoutIndex(t.Context(), "", "team/app7"); err != nil || !bytes.Equal(index, s.index) {
		t.Errorf("LayoutIndex: %d bytes, %v", len(index), err)
	}
	var blobs []registry.Digest
	for i := range 2500 {
		blobs = append(blobs, registry.SHA256.FromString(fmt.Sprint(i)))
	}
	var want []registry.LayoutCopy
	for part := range slices.Chunk(blobs, maxLayoutDigests) {
		some, err := s.LayoutCopies(t.Context(), "/hot", "team/app7", part)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, some...)
	}
	copies, err := b.LayoutCopies(t.Context(), "/hot", "team/app7", blobs)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, copies); diff != "" {
		t.Error(diff)
	}
	if _, err := b.LayoutStamp(t.Context(), "", "other"); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("LayoutStamp of what is not there: %v", err)
	}
	if _, err := b.LayoutIndex(t.Context(), "", "other"); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("LayoutIndex of what is not there: %v", err)
	}
	if _, err := b.LayoutStamp(t.Context(), "", "../other"); !errors.Is(err, registry.ErrNameInvalid) {
		t.Errorf("LayoutStamp of what is no name: %v", err)
	}
	s.err = registry.ErrUnavailable
	if _, err := layoutsOf(t, b); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Layouts that break off: %v", err)
	}
	s.index = make([]byte, registry.MaxLayoutIndex+1)
	if _, err := b.LayoutIndex(t.Context(), "", "team/app7"); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("an index that is too large: %v", err)
	}
}

// A blobstore that has no layouts, and one that is too old to have any, has none.
func TestNoLayouts(t *testing.T) {
	old := newPair()
	old.serve(t, func(srv *grpc.Server) {
		blobstorev1.RegisterBlobServiceServer(srv, &blobsServer{blobs: memory.NewBlobs(), limits: old.server})
	})
	for name, b := range map[string]*blobs{"none": newPair().blobs(t, memory.NewBlobs()), "old": newBlobs(old.conn, old.client, newPool())} {
		if got, err := layoutsOf(t, b); err != nil || got != nil {
			t.Errorf("%s: Layouts: %q, %v", name, got, err)
		}
		if _, err := b.LayoutStamp(t.Context(), "", "a"); !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("%s: LayoutStamp: %v", name, err)
		}
	}
}

// How scarce storage is in each pool survives the wire, and so does it that a store
// does not tell them apart.
func TestPressureOfPools(t *testing.T) {
	for _, want := range []registry.Health{
		{},
		{Pressure: 0.5},
		{Pools: map[registry.Pool]float64{}},
		{ReadOnly: "full", Pressure: 0.7, Pools: map[registry.Pool]float64{"": 0.25, "/b": 0.7}},
	} {
		b := newPair().blobs(t, &faulty{Blobs: memory.NewBlobs(), check: func(context.Context) (registry.Health, error) { return want, nil }})
		got, err := b.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}
