package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

var _ blobstore.Layouts = (*Driver)(nil)

// databases are the files that zot keeps locked while it runs.
var databases = []string{"cache.db", "meta.db"}

// lockForeign shares the locks of another registry's databases, so that it does
// not run while we do: its garbage collection would take files away from us. It
// returns an error if it runs.
func (d *Driver) lockForeign() error {
	for _, name := range databases {
		f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		// A file system without locks can't tell who runs.
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
			path := f.Name()
			f.Close()
			return fmt.Errorf("another registry runs on it and has %s locked: stop it first", path)
		}
		d.foreign = append(d.foreign, f)
	}
	return nil
}

// openForeign opens a file that we don't own, without a trace in it, and never
// anything but a regular file below the root. Links out of the root are refused.
func (d *Driver) openForeign(name string) (*os.File, fs.FileInfo, error) {
	named, err := d.root.Lstat(name)
	if err == nil && !named.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, nil, err
	}
	flags := os.O_RDONLY | syscall.O_NONBLOCK // or what has become a FIFO would hold us up
	f, err := d.root.OpenFile(name, flags|noATime, 0)
	if errors.Is(err, fs.ErrPermission) {
		f, err = d.root.OpenFile(name, flags, 0)
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(named, info) {
		err = fs.ErrNotExist // replaced, perhaps by a link, meanwhile
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// layoutBlob returns the path of a blob of a layout, relative to the root.
func layoutBlob(repo registry.Name, dgst registry.Digest) string {
	return layoutDir(repo, dgst.Algorithm()) + "/" + dgst.Encoded()
}

func layoutDir(repo registry.Name, alg registry.Algorithm) string {
	return string(repo) + "/blobs/" + string(alg)
}

// missing reports whether err says that a file is not there, or can't be because
// something on the way to it is not a directory, a link or out of the root.
func missing(err error) bool {
	return err != nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP) ||
		strings.Contains(err.Error(), "path escapes")) // which package os has no name for
}

// statForeign returns the size of a copy in a layout.
func (d *Driver) statForeign(repo registry.Name, dgst registry.Digest) (int64, error) {
	info, err := d.root.Lstat(layoutBlob(repo, dgst))
	if missing(err) || err == nil && !info.Mode().IsRegular() {
		return 0, registry.ErrBlobUnknown
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// readForeign opens n bytes from offset on of a copy in a layout.
func (d *Driver) readForeign(ctx context.Context, repo registry.Name, s registry.Stored, offset, n int64) (registry.Content, error) {
	f, info, err := d.openForeign(layoutBlob(repo, s.Digest))
	if missing(err) {
		return nil, registry.ErrBlobUnknown
	}
	if err != nil {
		return nil, err
	}
	if info.Size() != s.Size {
		err = registry.ErrBlobUnknown
	} else if offset > 0 {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return newContent(ctx, f, n), nil
}

// Layouts implements [blobstore.Layouts]. It needs memory for the names of the
// directories on the way to where it is.
func (d *Driver) Layouts(ctx context.Context) iter.Seq2[registry.Name, error] {
	return func(yield func(registry.Name, error) bool) { d.walk(ctx, ".", false, yield) }
}

// walk yields the layouts at and below dir; blobs says that a layout has its blobs
// there. It returns false if that was enough.
func (d *Driver) walk(ctx context.Context, dir string, blobs bool, yield func(registry.Name, error) bool) bool {
	if err := ctx.Err(); err != nil {
		return yield("", err)
	}
	names, isLayout, err := d.subdirectories(dir)
	if err != nil {
		if missing(err) || errors.Is(err, fs.ErrPermission) {
			return true // removed meanwhile, or closed to us
		}
		return yield("", fmt.Errorf("looking for repositories: %w", err))
	}
	if name, err := registry.ParseName(dir); err == nil && isLayout && !yield(name, nil) {
		return false
	}
	for _, name := range names {
		if _, err := registry.ParseAlgorithm(name); blobs && err == nil {
			continue // hundreds of thousands of files; beside them may be a repository
		}
		if !d.walk(ctx, filepath.Join(dir, name), isLayout && name == "blobs", yield) {
			return false
		}
	}
	return true
}

// subdirectories returns the names below dir that may begin a repository's name,
// and whether dir is an image layout.
func (d *Driver) subdirectories(dir string) (names []string, isLayout bool, err error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	index, layout := false, false
	for {
		entries, err := f.ReadDir(1000)
		for _, e := range entries {
			switch {
			case e.Name() == "index.json":
				index = e.Type().IsRegular()
			case e.Name() == "oci-layout":
				layout = e.Type().IsRegular()
			case e.IsDir():
				if _, err := registry.ParseName(e.Name()); err == nil {
					names = append(names, e.Name())
				}
			}
		}
		if err == io.EOF {
			return names, index && layout, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// LayoutStamp implements [blobstore.Layouts].
func (d *Driver) LayoutStamp(_ context.Context, repo registry.Name) (string, error) {
	for _, name := range []string{"oci-layout", "index.json"} {
		info, err := d.root.Lstat(string(repo) + "/" + name)
		switch {
		case missing(err) || err == nil && !info.Mode().IsRegular():
			return "", registry.ErrNameUnknown
		case err != nil:
			return "", err
		case name == "index.json":
			return fmt.Sprintf("%d.%d", info.ModTime().UnixNano(), info.Size()), nil
		}
	}
	return "", registry.ErrNameUnknown // not reached
}

// LayoutIndex implements [blobstore.Layouts].
func (d *Driver) LayoutIndex(_ context.Context, repo registry.Name) ([]byte, error) {
	f, info, err := d.openForeign(string(repo) + "/index.json")
	if missing(err) {
		return nil, registry.ErrNameUnknown
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > registry.MaxLayoutIndex {
		return nil, registry.ErrTooLarge.With("index.json is larger than %d bytes", registry.MaxLayoutIndex)
	}
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// LayoutCopies implements [blobstore.Layouts].
func (d *Driver) LayoutCopies(ctx context.Context, repo registry.Name, blobs []registry.Digest) ([]registry.LayoutCopy, error) {
	dirs := make(map[registry.Algorithm]*os.Root, 1)
	defer func() {
		for _, r := range dirs {
			if r != nil {
				r.Close()
			}
		}
	}()
	var all []registry.LayoutCopy
	for _, b := range blobs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		alg := b.Algorithm()
		dir, ok := dirs[alg]
		if !ok {
			var err error
			if dir, err = d.root.OpenRoot(layoutDir(repo, alg)); err != nil && !missing(err) {
				return nil, err
			}
			dirs[alg] = dir // nil if there is none
		}
		if dir == nil {
			continue
		}
		info, err := dir.Lstat(b.Encoded())
		if missing(err) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, registry.LayoutCopy{
			Stored:   registry.Stored{Digest: b, Size: info.Size(), Locator: registry.LayoutLocator(repo)},
			Modified: info.ModTime().UnixMicro(),
		})
	}
	return all, nil
}

// layoutCopy returns the repository in whose layout a copy would lie, false if
// the locator is of another kind.
func layoutCopy(dgst registry.Digest, l registry.Locator) (registry.Name, bool) {
	repo, ok := l.Layout()
	if _, err := registry.ParseDigest(dgst.String()); err != nil {
		return "", false
	}
	return repo, ok
}
