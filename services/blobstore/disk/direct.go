package disk

import (
	"errors"
	"io"
	"syscall"
	"unsafe"
)

const (
	// directFrom is from where on the pieces of a large upload go past the page cache:
	// to copy a GiB into it, and write it back from there, costs as much CPU as to hash
	// it, and drives out what others read. What is smaller is likely to be pulled
	// again at once and stays in it.
	directFrom = 64 << 20
	// directPiece is the least that is written so at a time: each write waits for the
	// disk.
	directPiece = 1 << 20
	// directAlign is what offset, length and memory are multiples of: the largest block
	// of disks.
	directAlign = 4096
)

// directWriter is a file that is open for writing past the page cache.
type directWriter interface {
	io.WriterAt
	io.Closer
}

// directOpener is an [fsys] that can open a file so a second time.
type directOpener interface {
	openDirect(name string) (directWriter, error)
}

// writeAt writes p at off, past the page cache if that is worth it and possible.
// direct reports whether it was.
func (u *upload) writeAt(p []byte, off int64) (n int, direct bool, err error) {
	if f := u.directFor(p, off); f != nil {
		n, err = f.WriteAt(p, off)
		if !errors.Is(err, syscall.EINVAL) {
			return n, true, err
		}
		// This file system wants more than directAlign: never again.
		u.driver.noDirect.Store(true)
	}
	m, err := u.data.WriteAt(p[n:], off+int64(n))
	return n + m, false, err
}

// directFor returns the file that p is written to past the page cache, nil if it is not.
func (u *upload) directFor(p []byte, off int64) directWriter {
	if off < directFrom || len(p) < directPiece || !u.driver.durable || u.driver.noDirect.Load() || !aligned(p, off) {
		return nil
	}
	if u.direct != nil {
		return u.direct
	}
	fs, ok := u.driver.fs.(directOpener)
	if !ok {
		return nil
	}
	f, err := fs.openDirect(u.driver.uploadPath(u.id))
	switch {
	case errors.Is(err, syscall.EINVAL):
		u.driver.noDirect.Store(true) // as file systems in memory
		return nil
	case err != nil:
		return nil // no descriptor is left, or so: the other one will do
	}
	u.direct = f
	return f
}

// aligned reports whether p can be written at off past the page cache.
func aligned(p []byte, off int64) bool {
	return off%directAlign == 0 && len(p)%directAlign == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%directAlign == 0
}

func (u *upload) closeDirect() error {
	if u.direct == nil {
		return nil
	}
	return u.direct.Close()
}
