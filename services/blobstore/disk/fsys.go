package disk

import (
	"io"
	"io/fs"
	"os"
	"syscall"
)

// fsys is the part of the operating system this package uses, so that tests can
// make any call of it fail.
type fsys interface {
	// open opens a file, never through a symbolic link as the last part of name.
	open(name string, flag int, perm fs.FileMode) (file, error)
	mkdir(name string, perm fs.FileMode) error
	rename(from, to string) error
	remove(name string) error
	stat(name string) (fs.FileInfo, error)
	// syncData makes the bytes and the size of f durable.
	syncData(f file) error
	// startWriting starts to write bytes of f to the disk and does not wait. It
	// is a hint.
	startWriting(f file, offset, n int64)
	// syncDir makes the names in a directory durable.
	syncDir(name string) error
}

// file is an open file. It is an *os.File, or in tests something around one.
type file interface {
	io.ReadWriteCloser
	io.ReaderAt
	io.WriterAt
	io.Seeker
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	ReadDir(n int) ([]fs.DirEntry, error)
}

// system is the operating system.
type system struct{}

func (system) open(name string, flag int, perm fs.FileMode) (file, error) {
	f, err := openFile(name, flag|syscall.O_NOFOLLOW, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// openFile is os.OpenFile without four more system calls that find out that a regular
// file or a directory can't be polled.
func openFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	for {
		fd, err := syscall.Open(name, flag|syscall.O_CLOEXEC|largeFile, uint32(perm.Perm()))
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
}

func (system) mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }
func (system) rename(from, to string) error              { return syscallRename(from, to) }
func (system) remove(name string) error                  { return syscallRemove(name) }
func (system) stat(name string) (fs.FileInfo, error)     { return os.Lstat(name) }

func (system) syncData(f file) error {
	if f, ok := f.(*os.File); ok {
		return syncData(f)
	}
	return f.Sync()
}

func (system) startWriting(f file, offset, n int64) {
	if f, ok := f.(*os.File); ok {
		startWriting(f, offset, n)
	}
}

func (system) syncDir(name string) error {
	d, err := openFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// syscallRename gives a file another name. Unlike os.Rename it does not look for a
// directory of that name first: rename(2) refuses to replace one.
func syscallRename(from, to string) error {
	for {
		err := syscall.Rename(from, to)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	}
}

// syscallRemove unlinks a file. Unlike os.Remove it does not try to remove a
// directory of that name.
func syscallRemove(name string) error {
	for {
		err := syscall.Unlink(name)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "unlink", Path: name, Err: err}
		}
		return nil
	}
}
