package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// numbered returns count manifests of the same content.
func numbered(t testing.TB, c registry.Catalog, repo registry.Name, count int) []registry.ManifestPut {
	t.Helper()
	config := blob("config")
	if _, err := c.Link(t.Context(), alice, repo, config); err != nil {
		t.Fatal(err)
	}
	all := make([]registry.ManifestPut, count)
	for i := range all {
		all[i] = encode(registry.TypeManifest, map[string]any{
			"schemaVersion": 2,
			"config":        descriptor("application/vnd.oci.image.config.v1+json", config),
			"layers":        []registry.Descriptor{},
			"annotations":   map[string]string{"number": fmt.Sprint(i)},
		}, []registry.Tag{"latest"})
	}
	return all
}

// While a tag moves, no reader sees a value older than one that was
// acknowledged before it asked, or than one it has seen itself.
func TestReadersNeverSeeAnOldTag(t *testing.T) { onEach(t, testReadersNeverSeeAnOldTag) }

func testReadersNeverSeeAnOldTag(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	const moves = 200
	all := numbered(t, s, "a", moves)
	number := map[registry.Digest]int64{}
	for i, m := range all {
		number[m.Digest] = int64(i)
	}
	put(t, s, "a", all[0])

	var acknowledged atomic.Int64
	var reads, hits atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			seen := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				floor := max(seen, acknowledged.Load())
				m, err := s.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "latest"}})
				if err != nil {
					t.Errorf("Manifest: %v", err)
					return
				}
				got := number[m.Digest]
				if got < floor {
					t.Errorf("read number %d after number %d was seen or acknowledged", got, floor)
					return
				}
				if got == seen {
					hits.Add(1)
				}
				reads.Add(1)
				seen = got
			}
		})
	}
	for i, m := range all[1:] {
		put(t, s, "a", m)
		acknowledged.Store(int64(i + 1))
	}
	close(stop)
	wg.Wait()
	t.Logf("%d reads, %d of them of an unchanged tag, beside %d moves", reads.Load(), hits.Load(), moves)
	if reads.Load() < moves {
		t.Errorf("only %d reads beside %d moves: nothing was tested", reads.Load(), moves)
	}
}

// flip is content that comes and goes.
type flip struct {
	name        string
	add, remove func() error
	known       func() error // an error that is unknown if it is not there
	unknown     error
}

// Between an acknowledged removal and the next addition nobody sees the content,
// and the other way round.
func TestReadersSeeRemovals(t *testing.T) { onEach(t, testReadersSeeRemovals) }

func testReadersSeeRemovals(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	ctx := t.Context()
	m := numbered(t, s, "a", 1)[0]
	layer := blob("layer")
	byTag := registry.ManifestQuery{Ref: registry.Reference{Tag: "latest"}}
	byDigest := registry.ManifestQuery{Ref: registry.Reference{Digest: m.Digest}}
	push := func() error { _, err := s.PutManifest(ctx, alice, "a", m); return err }
	read := func(q registry.ManifestQuery) func() error {
		return func() error { _, err := s.Manifest(ctx, alice, "a", q); return err }
	}
	for _, f := range []flip{
		{"tag", push, func() error { return s.DeleteTag(ctx, alice, "a", "latest", registry.Condition{}) }, read(byTag), registry.ErrManifestUnknown},
		{"manifest by tag", push, func() error { return s.DeleteManifest(ctx, alice, "a", m.Digest) }, read(byTag), registry.ErrManifestUnknown},
		{"manifest by digest", push, func() error { return s.DeleteManifest(ctx, alice, "a", m.Digest) }, read(byDigest), registry.ErrManifestUnknown},
		{
			"blob",
			func() error { _, err := s.Link(ctx, alice, "a", layer); return err },
			func() error { return s.Unlink(ctx, alice, "a", layer.Digest) },
			func() error { _, err := s.Blob(ctx, alice, "a", layer.Digest); return err },
			registry.ErrBlobUnknown,
		},
	} {
		t.Run(f.name, func(t *testing.T) { flipAndRead(t, f) })
	}
}

func flipAndRead(t *testing.T, f flip) {
	// Even: it is there. Odd: it is not. -1: it is being changed.
	var state atomic.Int64
	if err := f.add(); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var checked atomic.Int64
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				before := state.Load()
				err := f.known()
				if before < 0 || state.Load() != before {
					continue
				}
				checked.Add(1)
				if there := before%2 == 0; there && err != nil || !there && !errors.Is(err, f.unknown) {
					t.Errorf("state %d: got error %v", before, err)
					return
				}
			}
		})
	}
	for i := range int64(40) {
		state.Store(-1)
		change := f.remove
		if i%2 == 1 {
			change = f.add
		}
		if err := change(); err != nil {
			t.Errorf("change %d: %v", i, err)
			break
		}
		state.Store(i + 1)
		for n := checked.Load(); checked.Load() < n+2 && !t.Failed(); {
			_ = f.known() // until readers have looked at this state, too
		}
	}
	close(stop)
	wg.Wait()
}

// Of many that want to change a tag from the same value exactly one succeeds.
func TestConditionHasOneWinner(t *testing.T) { onEach(t, testConditionHasOneWinner) }

func testConditionHasOneWinner(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	const racers = 16
	all := numbered(t, s, "a", racers)
	race := func(cond registry.Condition) registry.Digest {
		var won atomic.Pointer[registry.Digest]
		var wg sync.WaitGroup
		for _, m := range all {
			if m.Digest == cond.Match {
				continue // it changes nothing, and would win, too
			}
			m.If = cond
			wg.Go(func() {
				_, err := s.PutManifest(context.Background(), alice, "a", m)
				if err == nil {
					if !won.CompareAndSwap(nil, &m.Digest) {
						t.Errorf("%+v: more than one winner", cond)
					}
				} else if !errors.Is(err, registry.ErrPreconditionFailed) {
					t.Errorf("%+v: %v", cond, err)
				}
			})
		}
		wg.Wait()
		if won.Load() == nil {
			t.Fatalf("%+v: no winner", cond)
		}
		if got := tagged(t, s, "a", "latest"); got != *won.Load() {
			t.Errorf("%+v: the tag is %s, the winner %s", cond, got, *won.Load())
		}
		return *won.Load()
	}
	d := race(registry.Condition{Absent: true})
	for range 5 {
		d = race(registry.Condition{Match: d})
	}
	h, err := s.TagHistory(t.Context(), alice, "a", "latest", 100)
	if err != nil || len(h) != 6 {
		t.Errorf("got %d entries of history (%v), want 6", len(h), err)
	}
}
