package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestG9DamagedObjects damages one byte after another of objects of all kinds,
// behind the server's back. No checked read hands a wrong byte out and ends well;
// Verify finds each damage.
func TestG9DamagedObjects(t *testing.T) {
	srv := s3test.Start(t)
	root := newRoot()
	b := openStore(t, map[registry.Pool]config.Driver{"": srv.Driver(root)})
	random := rand.New(rand.NewPCG(9, 9))
	for _, size := range []int{1000, 3<<20 + 17, partSize + 3<<20 + 17} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := noise(size, 7)
			s := push(t, b, data)
			file := objectFile(t, srv, root, s)
			listed := size > partSize
			for range 6 {
				at := random.Int64N(int64(size))
				flipByte(t, file, at)
				if err := b.Verify(t.Context(), s, 0); !errors.Is(err, registry.ErrDigestInvalid) {
					t.Errorf("byte %d: Verify returned %v", at, err)
				}
				for i := range 8 {
					from := random.Int64N(int64(size))
					r := registry.Range{Offset: from, Length: 1 + random.Int64N(int64(size)-from), Verify: true}
					if i < 2 {
						r = registry.Range{Length: -1, Verify: true}
					}
					offset, n, _ := r.Resolve(int64(size))
					var got bytes.Buffer
					c, err := b.Open(t.Context(), s, r)
					if err == nil {
						if i%2 == 0 {
							_, err = c.WriteTo(&got)
						} else {
							_, err = io.Copy(&got, struct{ io.Reader }{c})
						}
						c.Close()
					}
					const mib = 1 << 20
					touched := !listed || at >= offset/mib*mib && at < (offset+n+mib-1)/mib*mib
					switch {
					case err == nil && touched:
						t.Errorf("byte %d: range %+v ended well", at, r)
					case err == nil && !bytes.Equal(got.Bytes(), data[offset:offset+n]):
						t.Errorf("byte %d: range %+v gave wrong bytes", at, r)
					case err != nil && !touched:
						t.Errorf("byte %d: range %+v, which is whole: %v", at, r, err)
					case err != nil && !errors.Is(err, registry.ErrDigestInvalid):
						t.Errorf("byte %d: range %+v: got %v, want ErrDigestInvalid", at, r, err)
					}
				}
				flipByte(t, file, at)
			}
			if err := b.Verify(t.Context(), s, 0); err != nil {
				t.Errorf("Verify of a copy that is whole again: %v", err)
			}
			if err := b.Remove(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			if left := objects(t, srv, root, s); len(left) > 0 {
				t.Errorf("left of a removed copy: %q", left)
			}
		})
	}
}

func push(t *testing.T, b registry.Blobs, data []byte) registry.Stored {
	t.Helper()
	u, err := b.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// objects returns the files of the server that hold something of the copy s.
func objects(t *testing.T, srv *s3test.Server, root string, s registry.Stored) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(srv.Dir, root), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && strings.Contains(path, s.Digest.Encoded()) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// objectFile returns the file with the bytes of s.
func objectFile(t *testing.T, srv *s3test.Server, root string, s registry.Stored) string {
	t.Helper()
	for _, path := range objects(t, srv, root, s) {
		if strings.Contains(path, "/blobs/") {
			return path
		}
	}
	t.Fatalf("no file holds %s", s.Digest)
	return ""
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
