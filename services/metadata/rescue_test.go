package metadata_test

import (
	"context"
	"io"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// shelf is a bin beside the copies that can be opened.
type shelf struct {
	*bin
	there map[registry.Locator]bool
}

func (s shelf) Open(_ context.Context, b registry.Stored, _ registry.Range) (registry.Content, error) {
	if !s.there[b.Locator] {
		return nil, registry.ErrBlobUnknown
	}
	return nothing{}, nil
}

// nothing is the content of an empty range.
type nothing struct{}

func (nothing) Read([]byte) (int, error)         { return 0, io.EOF }
func (nothing) WriteTo(io.Writer) (int64, error) { return 0, nil }
func (nothing) Size() int64                      { return 0 }
func (nothing) Close() error                     { return nil }

// A second copy takes the place of one that went missing, also for those who
// have read its place before, and is not removed.
func TestSecondCopyReplacesAMissingOne(t *testing.T) { onEach(t, testSecondCopyReplacesAMissingOne) }

func testSecondCopyReplacesAMissingOne(t *testing.T, at newPlace) {
	first := blob("x")
	for name, tt := range map[string]struct {
		there map[registry.Locator]bool
		keeps bool // the first
	}{
		"both there":     {map[registry.Locator]bool{first.Locator: true, "another copy": true}, true},
		"first missing":  {map[registry.Locator]bool{"another copy": true}, false},
		"second missing": {map[registry.Locator]bool{first.Locator: true}, true},
		"both missing":   {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBin(0)
			s := openStore(t, at(t), metadata.Options{}, nil) // nobody removes
			_, second := linkTwice(t, s)
			last := registry.Stored{Digest: second.Digest, Size: second.Size, Locator: "sentinel"}
			s.reaper = shelf{b, tt.there}
			s = s.crash(t)
			if _, err := s.Blob(t.Context(), alice, "a", first.Digest); err != nil {
				t.Fatal(err)
			}
			// The queue is worked off in order: when this one is removed, the
			// second copy has had its turn.
			if _, err := s.Link(t.Context(), alice, "a", last); err != nil {
				t.Fatal(err)
			}
			want := second
			if tt.keeps {
				<-b.attempts
				want = first
			}
			<-b.attempts
			got, err := s.Blob(t.Context(), alice, "a", first.Digest)
			if err != nil || got.Stored != want {
				t.Errorf("Blob: got %v (%v), want %v", got.Stored, err, want)
			}
			s.close(t)
			for _, r := range b.got() {
				if r == want {
					t.Errorf("%v was removed, and is in use", r)
				}
			}
		})
	}
}
