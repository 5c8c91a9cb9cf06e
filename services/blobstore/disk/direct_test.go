package disk

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// directFS is a file system that counts what is written past the page cache, and may
// refuse it.
type directFS struct {
	system
	openErr, writeErr error
	opens, writes     int
}

func (f *directFS) openDirect(name string) (directWriter, error) {
	f.opens++
	if f.openErr != nil {
		return nil, f.openErr
	}
	w, err := f.open(name, os.O_WRONLY, 0)
	return directFile{w, f}, err
}

type directFile struct {
	file
	fs *directFS
}

func (w directFile) WriteAt(p []byte, off int64) (int, error) {
	w.fs.writes++
	if !aligned(p, off) {
		return 0, errors.New("not aligned")
	}
	if w.fs.writeErr != nil {
		return 0, w.fs.writeErr
	}
	return w.file.WriteAt(p, off)
}

// TestLargeUploadsGoPastTheCache pushes blobs that are just large enough, and compares
// what is stored, whatever the file system thinks of it.
func TestLargeUploadsGoPastTheCache(t *testing.T) {
	data := noise(directFrom+3*directPiece+123, 1)
	want := registry.SHA256.FromBytes(data)
	for name, test := range map[string]struct {
		fs     directFS
		chunks []int // bytes of each request; the last one has the rest
		opens  int   // by two uploads
		writes int
		fails  bool
	}{
		"one request":                  {opens: 2, writes: 4},
		"odd chunks":                   {chunks: []int{1, 10_000_001, directFrom}, opens: 2, writes: 4},
		"a file system in memory":      {fs: directFS{openErr: syscall.EINVAL}, opens: 1},
		"no descriptor is left":        {fs: directFS{openErr: syscall.EMFILE}, opens: 4},
		"larger blocks than we expect": {fs: directFS{writeErr: syscall.EINVAL}, opens: 1, writes: 1},
		"a disk that fails":            {fs: directFS{writeErr: syscall.EIO}, opens: 2, writes: 2, fails: true},
		"small chunks": {chunks: func() (all []int) {
			for range 2 * (directFrom/directPiece + 3) {
				all = append(all, directPiece/2)
			}
			return all
		}()},
	} {
		t.Run(name, func(t *testing.T) {
			fs := test.fs
			_, s, err := openOn(t, t.TempDir(), boot1, &fs)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for range 2 {
				u, err := s.Start(t.Context(), "", registry.SHA256)
				if err != nil {
					t.Fatal(err)
				}
				rest := bytes.NewReader(data)
				for _, n := range test.chunks {
					if u, err = s.Append(t.Context(), u, io.LimitReader(rest, int64(n))); err != nil {
						t.Fatal(err)
					}
				}
				stored, err := s.Commit(t.Context(), u, rest, want)
				if (err != nil) != test.fails {
					t.Fatalf("got error %v, want one: %v", err, test.fails)
				}
				if err != nil {
					continue
				}
				c, err := s.Open(t.Context(), stored, registry.Whole)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(c)
				if c.Close(); err != nil || !bytes.Equal(got, data) {
					t.Errorf("%d bytes are stored, %v, and they are not those that were sent", len(got), err)
				}
			}
			if fs.opens != test.opens || fs.writes != test.writes {
				t.Errorf("%d opens and %d writes past the cache, want %d and %d", fs.opens, fs.writes, test.opens, test.writes)
			}
		})
	}
}

// TestDirectOnThisMachine pushes the same to the file system of this machine as it is.
func TestDirectOnThisMachine(t *testing.T) {
	data := noise(directFrom+3*directPiece+123, 1)
	d, err := Open(t.TempDir(), Options{Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := blobstore.Open(t.Context(), map[registry.Pool]blobstore.Driver{"": d}, blobstore.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	u, err := s.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := s.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(t.Context(), stored, 0); err != nil {
		t.Error(err)
	}
}
