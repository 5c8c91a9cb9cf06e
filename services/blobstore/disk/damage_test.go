package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// put stores data.
func put(t *testing.T, s *blobstore.Store, data []byte) registry.Stored {
	t.Helper()
	u, err := s.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	stored, err := s.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// read returns what a reader of r gets, and how it ends.
func read(ctx context.Context, s *blobstore.Store, b registry.Stored, r registry.Range, copied bool) ([]byte, error) {
	c, err := s.Open(ctx, b, r)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out bytes.Buffer
	if copied {
		_, err = c.WriteTo(&out)
	} else {
		_, err = io.Copy(&out, struct{ io.Reader }{c})
	}
	return out.Bytes(), err
}

// TestG9DamagedCopies damages one byte after another of copies of many sizes. No
// checked read hands a wrong byte out and ends well; a part whose chunks are
// whole is served; Verify finds each damage.
func TestG9DamagedCopies(t *testing.T) {
	d, s, err := openOn(t, t.TempDir(), boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const mib = 1 << 20
	random := rand.New(rand.NewPCG(9, 9))
	for _, size := range []int{1, 1000, mib - 1, mib, mib + 1, 3*mib + 17} {
		for _, listed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d_listed_%t", size, listed), func(t *testing.T) {
				data := noise(size, byte(size))
				b := put(t, s, data)
				name, _ := d.copyPath(b.Digest, b.Locator)
				sums, err := d.Sums(t.Context(), b)
				if err != nil || (sums != nil) != (size > mib) {
					t.Fatalf("got checksums %x, %v", sums, err)
				}
				for range 8 {
					at := random.Int64N(int64(size))
					if !listed {
						if err := notThere(os.Remove(name + sumsSuffix)); err != nil {
							t.Fatal(err)
						}
					}
					flipByte(t, name, at)
					if err := s.Verify(t.Context(), b, 0); !errors.Is(err, registry.ErrDigestInvalid) {
						t.Errorf("byte %d: Verify returned %v", at, err)
					}
					for i := range 12 {
						from := random.Int64N(int64(size))
						r := registry.Range{Offset: from, Length: 1 + random.Int64N(int64(size)-from), Verify: true}
						if i < 2 {
							r = registry.Range{Length: -1, Verify: true}
						}
						offset, n, _ := r.Resolve(int64(size))
						got, err := read(t.Context(), s, b, r, i%2 == 0)
						touched := !listed || size <= mib || at >= offset/mib*mib && at < (offset+n+mib-1)/mib*mib
						switch {
						case err == nil && touched:
							t.Errorf("byte %d: range %+v ended well", at, r)
						case err == nil && !bytes.Equal(got, data[offset:offset+n]):
							t.Errorf("byte %d: range %+v gave wrong bytes", at, r)
						case err != nil && !touched:
							t.Errorf("byte %d: range %+v, which is whole: %v", at, r, err)
						case err != nil && !errors.Is(err, registry.ErrDigestInvalid):
							t.Errorf("byte %d: range %+v: got %v, want ErrDigestInvalid", at, r, err)
						case listed && !bytes.HasPrefix(data[offset:], got):
							t.Errorf("byte %d: range %+v handed out wrong bytes before it ended", at, r)
						}
					}
					flipByte(t, name, at)
				}
				if err := s.Verify(t.Context(), b, 0); err != nil {
					t.Errorf("Verify of a copy that is whole again: %v", err)
				}
				// Verify has made the list again.
				if again, err := d.Sums(t.Context(), b); err != nil || !bytes.Equal(again, sums) {
					t.Errorf("checksums afterwards: %x, %v, want %x", again, err, sums)
				}
			})
		}
	}
}

func flipByte(t *testing.T, name string, at int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// A list that was damaged, cut short, or is another copy's is no list: the copy
// is read as a whole, served, and has a list again.
func TestG9DamagedChecksums(t *testing.T) {
	d, s, err := openOn(t, t.TempDir(), boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := noise(2<<20+5, 1)
	b, other := put(t, s, data), put(t, s, noise(2<<20+5, 2))
	name, _ := d.copyPath(b.Digest, b.Locator)
	otherName, _ := d.copyPath(other.Digest, other.Locator)
	list, err := os.ReadFile(name + sumsSuffix)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(otherName + sumsSuffix)
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(list)
	flipped[13] ^= 1
	for what, damaged := range map[string][]byte{
		"flipped": flipped, "short": list[:len(list)-1], "long": append(bytes.Clone(list), 0), "empty": {}, "of another": foreign,
	} {
		for _, r := range []registry.Range{{Length: -1, Verify: true}, {Offset: 1 << 20, Length: 10, Verify: true}} {
			if err := os.WriteFile(name+sumsSuffix, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			offset, n, _ := r.Resolve(b.Size)
			got, err := read(t.Context(), s, b, r, true)
			if err != nil || !bytes.Equal(got, data[offset:offset+n]) {
				t.Errorf("%s list, range %+v: %d bytes, %v", what, r, len(got), err)
			}
			now, err := os.ReadFile(name + sumsSuffix)
			if err != nil || !bytes.Equal(now, list) {
				t.Errorf("%s list, range %+v: not made again (%v)", what, r, err)
			}
		}
	}
	if err := s.Remove(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(name + sumsSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the list of a removed copy is still there: %v", err)
	}
	copies, err := s.Copies(t.Context(), "", nil, 10)
	if err != nil || len(copies) != 1 || copies[0] != other {
		t.Errorf("copies: %v, %v", copies, err)
	}
}

// The checksums of an upload go on where they were when the process ended, and
// where they were at the last sync when the machine did.
func TestChecksumsOfResumedUploads(t *testing.T) {
	const mib = 1 << 20
	data := noise(5*mib+100, 3)
	for _, cuts := range [][]int{{mib}, {mib + 7, 2*mib - 1}, {10, 20, 3 * mib}, {2*mib + 1, 2*mib + 2, 4 * mib}} {
		for _, boot := range []bootID{boot1, boot2} {
			t.Run(fmt.Sprintf("%v_%x", cuts, boot[0]), func(t *testing.T) {
				root := t.TempDir()
				d, s, err := openOn(t, root, boot1, newFaultFS())
				if err != nil {
					t.Fatal(err)
				}
				u, err := s.Start(t.Context(), "", "")
				for _, cut := range cuts {
					if err == nil {
						u, err = s.Append(t.Context(), u, bytes.NewReader(data[u.Offset:cut]))
					}
					if err == nil {
						err = s.Close() // syncs
					}
					if err == nil {
						d, s, err = openOn(t, root, boot, newFaultFS())
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				b, err := s.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), registry.SHA256.FromBytes(data))
				if err != nil {
					t.Fatal(err)
				}
				got, err := d.Sums(t.Context(), b)
				if err != nil {
					t.Fatal(err)
				}
				if want, err := d.Sums(t.Context(), put(t, s, data)); err != nil || !bytes.Equal(got, want) || got == nil {
					t.Errorf("got checksums %x, want %x (%v)", got, want, err)
				}
			})
		}
	}
}
