package transfer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// sink is where an export goes.
type sink interface {
	// put writes a file of size bytes. If r fails there is none.
	put(name string, size int64, r io.Reader) error
	// has reports whether a file of that size is there, from an earlier run.
	has(name string, size int64) bool
	// link gives a file that was put a second name.
	link(name, old string) error
	// finish makes everything durable.
	finish() error
	// close gives up what is not finished.
	close() error
}

// openSink makes a directory, or a tar archive if the name ends in .tar.
func openSink(dest string) (sink, error) {
	if filepath.Ext(dest) == ".tar" {
		f, err := os.OpenFile(dest+".part", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
		if err != nil {
			return nil, err
		}
		return &tarSink{f: f, w: tar.NewWriter(f), dest: dest}, nil
	}
	if err := os.MkdirAll(dest, 0o777); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return nil, err
	}
	return directorySink{root, func(name string) error { return syncDir(root.Open(name)) }}, nil
}

// syncDir syncs and closes a directory that was opened. Not all file systems that exports
// are carried on can: their names are as durable as they get.
func syncDir(d *os.File, err error) error {
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}

type directorySink struct {
	root    *os.Root
	syncDir func(name string) error // makes the names in a directory durable
}

func (d directorySink) has(name string, size int64) bool {
	info, err := d.root.Lstat(name)
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

func (d directorySink) put(name string, size int64, r io.Reader) (err error) {
	if err := d.root.MkdirAll(path.Dir(name), 0o777); err != nil {
		return err
	}
	part := path.Join(path.Dir(name), "."+path.Base(name)+".part")
	f, err := d.root.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, r)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", name, n, size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = d.root.Rename(part, name)
	}
	if err != nil {
		return errors.Join(err, d.root.Remove(part))
	}
	return nil
}

func (d directorySink) link(name, old string) error {
	if err := d.root.MkdirAll(path.Dir(name), 0o777); err != nil {
		return err
	}
	err := d.root.Link(old, name)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		return nil
	}
	f, err := d.root.Open(old) // the file system has no links
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return d.put(name, info.Size(), f)
}

// finish syncs all directories: also those of a run before, which was broken off.
func (d directorySink) finish() error {
	return fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return d.syncDir(name)
	})
}

func (d directorySink) close() error { return d.root.Close() }

// tarSink writes the same bytes for the same content.
type tarSink struct {
	f    *os.File
	w    *tar.Writer
	dest string
	done bool
}

func (t *tarSink) has(string, int64) bool { return false }

func (t *tarSink) put(name string, size int64, r io.Reader) error {
	if err := t.w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	n, err := io.Copy(t.w, r)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", name, n, size)
	}
	return err
}

func (t *tarSink) link(name, old string) error {
	return t.w.WriteHeader(&tar.Header{Name: name, Linkname: old, Typeflag: tar.TypeLink, Mode: 0o644})
}

func (t *tarSink) finish() error {
	if err := errors.Join(t.w.Close(), t.f.Sync(), t.f.Close()); err != nil {
		return err
	}
	t.done = true
	if err := os.Rename(t.dest+".part", t.dest); err != nil {
		return err
	}
	return syncDir(os.Open(filepath.Dir(t.dest)))
}

func (t *tarSink) close() error {
	if t.done {
		return nil
	}
	return errors.Join(t.f.Close(), os.Remove(t.dest+".part"))
}
