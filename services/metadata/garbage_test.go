package metadata_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// bin takes the copies that are removed. It refuses the first few.
type bin struct {
	registry.Reaper // nil: the catalog only removes

	mu       sync.Mutex // guards the fields below
	refuse   int
	removed  []registry.Stored
	attempts chan struct{} // gets an element at each attempt
}

func newBin(refuse int) *bin { return &bin{refuse: refuse, attempts: make(chan struct{}, 100)} }

func (b *bin) Remove(ctx context.Context, s registry.Stored) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts <- struct{}{}
	if b.refuse > 0 {
		b.refuse--
		return errors.New("the disk is busy")
	}
	b.removed = append(b.removed, s)
	return nil
}

func (b *bin) got() []registry.Stored {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.removed)
}

// linkTwice links two copies of the same content and returns both.
func linkTwice(t *testing.T, s *store) (first, second registry.Stored) {
	t.Helper()
	first = blob("x")
	second = first
	second.Locator = "another copy"
	for _, c := range []registry.Stored{first, second, second} {
		kept, err := s.Link(t.Context(), alice, "a", c)
		if err != nil || kept != first {
			t.Fatalf("Link: got %v (%v), want %v", kept, err, first)
		}
	}
	return first, second
}

func TestSecondCopyIsRemoved(t *testing.T) { onEach(t, testSecondCopyIsRemoved) }

func testSecondCopyIsRemoved(t *testing.T, at newPlace) {
	b := newBin(0)
	s := openStore(t, at(t), metadata.Options{}, b)
	_, second := linkTwice(t, s)
	<-b.attempts
	s.close(t)
	if got := b.got(); len(got) == 0 || got[0] != second || slices.ContainsFunc(got, func(s registry.Stored) bool { return s != second }) {
		t.Errorf("removed %v, want %v", got, second)
	}
}

func TestRemovalIsTriedAgain(t *testing.T) { onEach(t, testRemovalIsTriedAgain) }

func testRemovalIsTriedAgain(t *testing.T, at newPlace) {
	b := newBin(2)
	now := time.Now()
	var clock sync.Mutex // guards now
	o := metadata.Options{Now: func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		now = now.Add(time.Second) // each look at the clock: no waiting
		return now
	}}
	s := openStore(t, at(t), o, b)
	_, second := linkTwice(t, s)
	for range 3 {
		<-b.attempts
	}
	s.close(t)
	if got := b.got(); len(got) != 1 || got[0] != second {
		t.Errorf("removed %v, want %v", got, second)
	}
}

func TestRemovalSurvivesACrash(t *testing.T) { onEach(t, testRemovalSurvivesACrash) }

func testRemovalSurvivesACrash(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil) // nobody removes
	first, second := linkTwice(t, s)
	b := newBin(0)
	s.reaper = b
	s = s.crash(t)
	<-b.attempts
	s.close(t)
	if got := b.got(); len(got) != 1 || got[0] != second {
		t.Errorf("removed %v, want %v", got, second)
	}
	_ = first
}

// A copy that was given up can't come back: its bytes may be gone.
func TestGarbageNeverBecomesLive(t *testing.T) { onEach(t, testGarbageNeverBecomesLive) }

func testGarbageNeverBecomesLive(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	first, second := linkTwice(t, s)
	if err := s.Unlink(t.Context(), alice, "a", first.Digest); err != nil {
		t.Fatal(err)
	}
	s.mustExec(t, "DELETE FROM blobs")
	_, err := s.Link(t.Context(), alice, "a", second)
	wantErr(t, "Link of a copy that is garbage", err, registry.ErrBlobUnknown)
	if kept, err := s.Link(t.Context(), alice, "a", first); err != nil || kept != first {
		t.Errorf("Link of another copy: got %v (%v), want %v", kept, err, first)
	}
}
