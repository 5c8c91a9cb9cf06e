package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func TestOneProcess(t *testing.T) {
	root := t.TempDir()
	d, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root, Options{}); err == nil || !strings.Contains(err.Error(), "another process is using it") {
		t.Errorf("opened twice: got %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d, err = Open(root, Options{})
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	d.Close()
}

// TestS137Modes must not run in parallel with others: the umask is the process's.
func TestS137Modes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	root := filepath.Join(t.TempDir(), "new", "root")
	_, s, err := openOn(t, root, boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := noise(100, 1)
	for i := range 2 {
		u, err := s.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		if u, err = s.Append(t.Context(), u, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			break // one session stays open, with its state
		}
		if _, err := s.Commit(t.Context(), u, nil, registry.SHA256.FromBytes(data)); err != nil {
			t.Fatal(err)
		}
	}
	files := 0
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		want := fileMode
		if e.IsDir() {
			want = dirMode
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || files != 4 {
		t.Errorf("%d files, %v; want lock, blob, upload and state", files, err)
	}
}

func TestS137OthersMayWrite(t *testing.T) {
	for _, name := range []string{"", "blobs", "uploads", "journal", "blobs/sha256", "blobs/sha512"} {
		root := t.TempDir()
		dir := filepath.Join(root, ".berth", name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for mode, ok := range map[fs.FileMode]bool{0o700: true, 0o770: true, 0o702: false, 0o777: false} {
			if err := os.Chmod(dir, mode); err != nil {
				t.Fatal(err)
			}
			d, err := Open(root, Options{})
			if (err == nil) != ok {
				t.Errorf("%q with mode %v: got %v", name, mode, err)
			}
			if err == nil {
				d.Close()
			}
		}
	}
}

// TestS133LinksInTheStore puts a link in the place of each directory of the store,
// and of what others left in it.
func TestS133LinksInTheStore(t *testing.T) {
	dgst := registry.SHA256.FromString("x")
	shard := "blobs/sha256/" + dgst.Encoded()[:2]
	for _, name := range []string{"", "blobs", "uploads", "journal", "blobs/sha256", "blobs/sha512", shard, "lock"} {
		root, outside := t.TempDir(), t.TempDir()
		at := filepath.Join(root, ".berth", name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(outside, at); err != nil {
			t.Fatal(err)
		}
		if d, err := Open(root, Options{}); err == nil {
			d.Close()
			t.Errorf("opened with a link at .berth/%s", name)
		}
		if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
			t.Errorf("a link at .berth/%s: %v, %v in the directory that it leads to", name, left, err)
		}
	}
}

func TestRootIsAFile(t *testing.T) {
	root := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(root, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(root, Options{}); err == nil || !strings.Contains(err.Error(), "it is not a directory") {
		t.Errorf("got %v", err)
	}
}

// TestPathsStayInside plants files where crafted names would lead.
func TestPathsStayInside(t *testing.T) {
	root := t.TempDir()
	d, s, err := openOn(t, root, boot1, system{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	data := noise(100, 1)
	dgst := registry.SHA256.FromBytes(data)
	secret := filepath.Join(d.shardPath(dgst), dgst.Encoded()+".secret")
	if err := os.MkdirAll(filepath.Dir(secret), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(secret, data, 0o600); err != nil {
		t.Fatal(err)
	}
	id := registry.UploadID("019a0000-0000-7000-8000-000000000000")
	if err := os.Symlink(secret, filepath.Join(d.shardPath(dgst), blobName(dgst, registry.Locator(id)))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, d.uploadPath(id)); err != nil {
		t.Fatal(err)
	}
	for _, l := range []registry.Locator{"secret", "../" + registry.Locator(dgst.Encoded()[:2]) + "/x", registry.Locator(id), "x/../secret", "."} {
		stored := registry.Stored{Digest: dgst, Size: 100, Locator: l}
		if c, err := s.Open(t.Context(), stored, registry.Whole); err == nil {
			c.Close()
			t.Errorf("opened locator %q", l)
		}
		if l == registry.Locator(id) {
			continue // removing a link of that name is right
		}
		if err := s.Remove(t.Context(), stored); err != nil {
			t.Errorf("Remove of locator %q: %v", l, err)
		}
	}
	for _, dg := range []registry.Digest{"sha256:..", "sha256:../../../x", "md5:00", "", registry.Digest("sha256:" + strings.Repeat("/", 64))} {
		stored := registry.Stored{Digest: dg, Size: 100, Locator: registry.Locator(id)}
		if _, err := s.Open(t.Context(), stored, registry.Whole); !errors.Is(err, registry.ErrBlobUnknown) {
			t.Errorf("Open of digest %q: got %v", dg, err)
		}
		if err := s.Remove(t.Context(), stored); err != nil {
			t.Errorf("Remove of digest %q: %v", dg, err)
		}
	}
	if _, err := s.Append(t.Context(), registry.Upload{ID: id}, bytes.NewReader(data)); err == nil {
		t.Error("appended through a symbolic link")
	}
	if got, err := os.ReadFile(secret); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the file was changed: %v", err)
	}
}

// spy is a writer that notes what a copy to it reads from, as a TCP connection
// would.
type spy struct {
	bytes.Buffer
	sources []string
}

func (s *spy) ReadFrom(r io.Reader) (int64, error) {
	what := fmt.Sprintf("%T", r)
	if lr, ok := r.(*io.LimitedReader); ok {
		what += fmt.Sprintf("(%T)", lr.R)
	}
	s.sources = append(s.sources, what)
	return io.Copy(struct{ io.Writer }{&s.Buffer}, r)
}

// TestSendfile fails if a socket can't see that it is copied to from a file.
func TestSendfile(t *testing.T) {
	data := noise(2*sendStep+100, 1)
	c := openContent(t, t.Context(), data, int64(len(data)))
	defer c.Close()
	var w spy
	n, err := io.Copy(&w, c)
	if err != nil || n != int64(len(data)) || !bytes.Equal(w.Bytes(), data) {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
	for _, src := range w.sources {
		if src != "*io.LimitedReader(*os.File)" {
			t.Errorf("copied from a %s: no sendfile", src)
		}
	}
	if len(w.sources) != 3 {
		t.Errorf("%d copies, want 3", len(w.sources))
	}
}

func TestShortFile(t *testing.T) {
	data := noise(1000, 1)
	for what, read := range map[string]func(io.Reader) (int64, error){
		"Read":    func(r io.Reader) (int64, error) { return io.Copy(io.Discard, struct{ io.Reader }{r}) },
		"WriteTo": func(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) },
	} {
		c := openContent(t, t.Context(), data, 1001)
		if n, err := read(c); err != io.ErrUnexpectedEOF || n != 1000 {
			t.Errorf("%s: got %d, %v, want 1000, unexpected EOF", what, n, err)
		}
		c.Close()
	}
}

// TestContextEndsRead ends the context in the midst of a copy that sendfile
// would do.
func TestContextEndsRead(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := openContent(t, ctx, noise(2*sendStep, 1), 2*sendStep)
	defer c.Close()
	n, err := c.WriteTo(cancelWriter(cancel))
	if !errors.Is(err, context.Canceled) || n > sendStep {
		t.Errorf("got %d, %v", n, err)
	}
}

type cancelWriter func()

func (w cancelWriter) Write(p []byte) (int, error) {
	w()
	return len(p), nil
}

func openContent(t *testing.T, ctx context.Context, data []byte, n int64) *content {
	t.Helper()
	name := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := system{}.open(name, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return newContent(ctx, f, n)
}
