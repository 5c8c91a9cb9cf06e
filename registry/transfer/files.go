package transfer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/berth-registry/berth/registry"
)

// files are what an archive or a directory holds, by clean, slash-separated name.
type files interface {
	// open returns a regular file and its size, or [fs.ErrNotExist].
	open(name string) (io.ReadCloser, int64, error)
	// layouts returns the directories that hold the file name, "" for the root.
	dirsWith(name string) ([]string, error)
	io.Closer
}

// Files are what a source that is no file of this machine holds, by clean,
// slash-separated name.
type Files interface {
	// Open returns a file and its size, or [fs.ErrNotExist].
	Open(name string) (io.ReadCloser, int64, error)
	// DirsWith returns the directories that hold the file name, "" for the root.
	DirsWith(name string) ([]string, error)
	io.Closer
}

// remote is a source that is no file of this machine.
type remote struct{ Files }

func (r remote) open(name string) (io.ReadCloser, int64, error) { return r.Open(name) }
func (r remote) dirsWith(name string) ([]string, error)         { return r.DirsWith(name) }

// ErrMalformed is the error of an archive that is not what it should be.
var ErrMalformed = errors.New("malformed archive")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Bounds of an archive.
const (
	maxEntries = 1 << 20
	maxName    = 1024 // bytes
	maxDepth   = 64   // directories below each other that are searched for layouts
)

// openFiles opens a directory or a tar archive.
func openFiles(name string) (files, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		return directory{root}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a, err := readTar(f, info.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	a.close = f.Close
	return a, nil
}

// directory is a directory. Nothing out of it is opened, whatever links say.
type directory struct{ root *os.Root }

func (d directory) Close() error { return d.root.Close() }

func (d directory) open(name string) (io.ReadCloser, int64, error) {
	info, err := d.root.Lstat(name)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !info.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, err
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	now, err := f.Stat()
	if err == nil && !os.SameFile(info, now) {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, now.Size(), nil
}

func (d directory) dirsWith(name string) ([]string, error) {
	var found []string
	var walk func(dir string, depth int, blobs bool) error
	walk = func(dir string, depth int, blobs bool) error {
		f, err := d.root.Open(dir)
		if err != nil {
			return err
		}
		entries, err := f.ReadDir(-1)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		has := false
		for _, e := range entries {
			has = has || e.Name() == name && e.Type().IsRegular()
		}
		if has {
			found = append(found, strings.TrimPrefix(filepath.ToSlash(dir), "."))
		}
		for _, e := range entries {
			if !e.IsDir() || strings.HasPrefix(e.Name(), ".") || depth == maxDepth {
				continue
			}
			if _, err := registry.ParseAlgorithm(e.Name()); blobs && err == nil {
				continue // hundreds of thousands of files; beside them may be a repository
			}
			if err := walk(path.Join(dir, e.Name()), depth+1, has && e.Name() == "blobs"); err != nil {
				return err
			}
		}
		return nil
	}
	return found, walk(".", 0, false)
}

// tarArchive is a tar archive that is read where it lies. Links in it are names for
// other entries of it, and nothing else.
type tarArchive struct {
	r       io.ReaderAt
	entries map[string]entry
	close   func() error
}

type entry struct {
	offset, size int64
	link         string // the entry it is another name for, "" if none
}

func (a *tarArchive) Close() error { return a.close() }

// readTar notes where each entry is. It reads headers only.
func readTar(f io.ReadSeeker, size int64) (*tarArchive, error) {
	var magic [6]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, err
	}
	for _, c := range []struct{ magic, how string }{{"\x1f\x8b", "gunzip"}, {"\x28\xb5\x2f\xfd", "zstd -d"}, {"BZh", "bunzip2"}, {"\xfd7zXZ", "unxz"}} {
		if bytes.HasPrefix(magic[:n], []byte(c.magic)) {
			return nil, malformed("it is compressed: decompress it with %s first", c.how)
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, errors.New("an archive must be a file")
	}
	a := &tarArchive{r: at, entries: make(map[string]entry), close: func() error { return nil }}
	t := tar.NewReader(f)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return a, nil
		}
		if err != nil {
			return nil, malformed("%v", err)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if err := a.add(h, offset, size); err != nil {
			return nil, err
		}
	}
}

func (a *tarArchive) add(h *tar.Header, offset, size int64) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return malformed("%.100q is a sparse file", h.Name)
		}
	}
	e := entry{offset: offset, size: h.Size}
	switch h.Typeflag {
	case tar.TypeDir:
		return nil
	case tar.TypeReg:
		if h.Size < 0 || offset > size || h.Size > size-offset {
			return malformed("%.100q is longer than the archive", h.Name)
		}
	case tar.TypeLink:
		e.link, err = cleanName(h.Linkname)
	case tar.TypeSymlink:
		e.link, err = cleanName(path.Join(path.Dir(name), h.Linkname))
		if path.IsAbs(h.Linkname) {
			err = malformed("%.100q is a link out of the archive", h.Name)
		}
	default:
		return malformed("%.100q is no file", h.Name)
	}
	if err != nil {
		return err
	}
	if _, twice := a.entries[name]; twice {
		return malformed("%.100q is in it more than once", h.Name)
	}
	if len(a.entries) == maxEntries {
		return malformed("it has more than %d entries", maxEntries)
	}
	a.entries[name] = e
	return nil
}

// cleanName returns the name of an entry, which must lie in the archive.
func cleanName(s string) (string, error) {
	name := path.Clean(s)
	if len(s) > maxName || path.IsAbs(s) || name == ".." || strings.HasPrefix(name, "../") || strings.ContainsAny(s, "\x00\\") {
		return "", malformed("%.100q is no name", s)
	}
	return name, nil
}

func (a *tarArchive) open(name string) (io.ReadCloser, int64, error) {
	e, ok := a.entries[name]
	if ok && e.link != "" {
		if e, ok = a.entries[e.link]; ok && e.link != "" {
			return nil, 0, malformed("%.100q is a link to a link", name)
		}
	}
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return io.NopCloser(io.NewSectionReader(a.r, e.offset, e.size)), e.size, nil
}

func (a *tarArchive) dirsWith(name string) ([]string, error) {
	var found []string
	for n := range a.entries {
		if dir, base := path.Split(n); base == name {
			found = append(found, strings.TrimSuffix(dir, "/"))
		}
	}
	return found, nil
}

// readAll returns the bytes of a file of at most limit bytes.
func readAll(fs files, name string, limit int64) ([]byte, error) {
	r, size, err := fs.open(name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > limit {
		return nil, malformed("%s is larger than %d bytes", name, limit)
	}
	b := make([]byte, size)
	_, err = io.ReadFull(r, b)
	return b, err
}
