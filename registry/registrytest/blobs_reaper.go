package registrytest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func reaperTests() []test[*blobs] {
	return []test[*blobs]{
		{"Remove", testRemove},
		{"Verify", testVerify},
		{"Copies", testCopies},
		{"CopiesAfterOneThatIsGone", testCopiesAfterRemoved},
		{"CopiesOfOneDigest", testCopiesByDigest},
		{"CopiesWhileWriting", testCopiesWhileWriting},
	}
}

func testRemove(t *testing.T, b *blobs) {
	data := noise(1000, 60)
	gone, stays := b.push(t, "", data), b.push(t, "", data)
	if gone.Locator == stays.Locator {
		t.Fatalf("two uploads have one locator, %s", gone.Locator)
	}
	for range 2 { // a copy that is not there is no error
		must(t, "Remove", b.Remove(t.Context(), gone))
		c, err := b.Open(t.Context(), gone, registry.Whole)
		if err == nil {
			c.Close()
		}
		wantErr(t, "Open after Remove", err, registry.ErrBlobUnknown)
		wantErr(t, "Verify after Remove", b.Verify(t.Context(), gone, 0), registry.ErrBlobUnknown)
	}
	b.checkContent(t, stays, data)
	for _, at := range []registry.Locator{"nothing", "../../../nothing/there", ""} {
		none := stays
		none.Locator = at
		must(t, "Remove of "+string(at), b.Remove(t.Context(), none))
	}
	b.checkContent(t, stays, data)

	// A removed blob can come back.
	b.checkContent(t, b.push(t, "", data), data)
}

func testVerify(t *testing.T, b *blobs) {
	for _, data := range [][]byte{nil, noise(1000, 61), noise(big, 61)} {
		s := b.push(t, "", data)
		must(t, "Verify", b.Verify(t.Context(), s, 0))
		other := s
		other.Digest = sha256of([]byte("something else"))
		// To a store whose locators hold the digest there is no such copy.
		wantErr(t, "Verify by another digest", b.Verify(t.Context(), other, 0), registry.ErrDigestInvalid, registry.ErrBlobUnknown)
		other = s
		other.Size++
		wantErr(t, "Verify with another size", b.Verify(t.Context(), other, 0), registry.ErrBlobUnknown)
	}
}

// copies lists the copies of pool p in pages of limit, each of them once.
func (b *blobs) copies(t *testing.T, p registry.Pool, limit int) map[registry.Stored]bool {
	t.Helper()
	all := make(map[registry.Stored]bool)
	var after *registry.Stored
	for {
		got, err := b.Copies(t.Context(), p, after, limit)
		must(t, "Copies", err)
		if len(got) > limit {
			t.Fatalf("Copies: got %d, limit %d", len(got), limit)
		}
		for _, s := range got {
			if all[s] {
				t.Fatalf("Copies: %+v twice", s)
			}
			all[s] = true
		}
		if len(got) < limit {
			return all
		}
		after = &got[len(got)-1]
	}
}

func testCopies(t *testing.T, b *blobs) {
	for _, p := range append([]registry.Pool{""}, b.backend.Pools...) {
		if got := b.copies(t, p, 1000); len(got) != 0 {
			t.Errorf("Copies of the empty pool %q: %v", p, got)
		}
	}
	b.append(t, b.start(t), noise(1000, 62)) // an open session is no copy
	for _, p := range append([]registry.Pool{""}, b.backend.Pools...) {
		want := make(map[registry.Stored]bool)
		for i := range 6 {
			want[b.push(t, p, noise(100, byte(i/2)))] = true // each content twice
		}
		for _, limit := range []int{1, 2, 3, 5, 6, 7, 1000} {
			if got := b.copies(t, p, limit); !maps.Equal(got, want) {
				t.Errorf("Copies of pool %q in pages of %d: got %v, want %v", p, limit, got, want)
			}
		}
	}
}

// testCopiesByDigest looks for the copies of one digest, as a migration does.
func testCopiesByDigest(t *testing.T, b *blobs) {
	want := make(map[registry.Digest]int)
	for i := range 6 {
		want[b.push(t, "", noise(100, byte(i/2))).Digest]++
	}
	all, err := b.Copies(t.Context(), "", nil, 1000)
	must(t, "Copies", err)
	if !slices.IsSortedFunc(all, func(a, b registry.Stored) int { return strings.Compare(a.Digest.String(), b.Digest.String()) }) {
		t.Errorf("Copies are not in the order of their digests: %v", all)
	}
	for d, n := range want {
		got, err := b.Copies(t.Context(), "", &registry.Stored{Digest: d}, n)
		must(t, "Copies", err)
		if len(got) != n || got[0].Digest != d || got[n-1].Digest != d {
			t.Errorf("Copies after %s without a locator: got %v, want its %d copies", d, got, n)
		}
	}
}

func testCopiesAfterRemoved(t *testing.T, b *blobs) {
	want := make(map[registry.Stored]bool)
	for i := range 5 {
		want[b.push(t, "", noise(100, byte(i)))] = true
	}
	// As maintenance does it: each page is removed before the next is asked for.
	var after *registry.Stored
	for range 3 {
		got, err := b.Copies(t.Context(), "", after, 2)
		must(t, "Copies", err)
		for _, s := range got {
			if !want[s] {
				t.Errorf("Copies: %+v, which is not there, or came before", s)
			}
			delete(want, s)
			must(t, "Remove", b.Remove(t.Context(), s))
			after = &s
		}
	}
	if len(want) != 0 {
		t.Errorf("Copies did not list %v", slices.Collect(maps.Keys(want)))
	}
}

func testCopiesWhileWriting(t *testing.T, b *blobs) {
	want := make(map[registry.Stored]bool)
	for i := range 10 {
		want[b.push(t, "", noise(100, byte(i)))] = true
	}
	var writing sync.WaitGroup
	for i := range 4 {
		writing.Go(func() {
			data := noise(100, byte(100+i))
			for range 10 {
				u, err := b.Start(t.Context(), "", "")
				var s registry.Stored
				if err == nil {
					s, err = b.Commit(t.Context(), u, bytes.NewReader(data), sha256of(data))
				}
				if err == nil && i%2 == 0 {
					err = b.Remove(t.Context(), s)
				}
				if err != nil {
					t.Errorf("writing: %v", err)
				}
			}
		})
	}
	for range 5 {
		got := b.copies(t, "", 3)
		for s := range want {
			if !got[s] {
				t.Errorf("Copies while others write: %+v is missing", s)
			}
		}
	}
	writing.Wait()
}
