package faults

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// mount lets a disk be seen in a new directory, and returns that.
func mount(t *testing.T, d *disk) (dir string, unmount func()) {
	t.Helper()
	root := &fs.LoopbackRoot{Path: d.root}
	root.NewNode = func(r *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: r}, disk: d}
	}
	dir = t.TempDir()
	top := &node{LoopbackNode: fs.LoopbackNode{RootData: root}, disk: d}
	root.RootNode = top
	server, err := fs.Mount(dir, top, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, Name: "faults", FsName: "faults", DisableXAttrs: true}})
	if err != nil {
		t.Skipf("NOT RUN: faults below a whole store: no FUSE here: %v", err)
	}
	return dir, func() {
		if err := server.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
		}
	}
}

// node is a file or directory of a disk.
type node struct {
	fs.LoopbackNode

	disk *disk
}

func (n *node) at() string { return filepath.Join(n.disk.root, n.Path(nil)) }

func (n *node) child(name string) string { return filepath.Join(n.at(), name) }

// Statx is not there: the kernel asks for attributes in the older way.
func (n *node) Statx(context.Context, fs.FileHandle, uint32, uint32, *fuse.StatxOut) syscall.Errno {
	return syscall.ENOSYS
}

// CopyFileRange is not there: bytes are read and written.
func (n *node) CopyFileRange(context.Context, fs.FileHandle, uint64, *fs.Inode, fs.FileHandle, uint64, uint64, uint64) (uint32, syscall.Errno) {
	return 0, syscall.ENOSYS
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	path := n.child(name)
	_, missing := os.Lstat(path)
	if missing != nil {
		if o := n.disk.step("create", path); o.err != 0 {
			return nil, nil, 0, o.err
		}
	}
	inode, loop, _, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	loop.(fs.FileReleaser).Release(ctx)
	h, errno := n.open(path, flags&^(syscall.O_CREAT|syscall.O_EXCL|syscall.O_TRUNC))
	if errno == 0 && missing != nil {
		n.disk.fresh(out.Ino)
	}
	return inode, h, 0, errno
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, errno := n.open(n.at(), flags&^(syscall.O_CREAT|syscall.O_EXCL))
	return h, 0, errno
}

func (n *node) open(path string, flags uint32) (fs.FileHandle, syscall.Errno) {
	fd, err := syscall.Open(path, int(flags&^syscall.O_APPEND)|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return &handle{fd: fd, path: path, disk: n.disk}, 0
}

func (n *node) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if _, err := os.Lstat(n.child(name)); err == nil {
		return nil, syscall.EEXIST
	}
	if o := n.disk.step("mkdir", n.child(name)); o.err != 0 {
		return nil, o.err
	}
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}

func (n *node) Unlink(ctx context.Context, name string) syscall.Errno {
	if o := n.disk.step("remove", n.child(name)); o.err != 0 {
		return o.err
	}
	n.disk.removed(n.child(name))
	return n.LoopbackNode.Unlink(ctx, name)
}

func (n *node) Rmdir(ctx context.Context, name string) syscall.Errno {
	if o := n.disk.step("remove", n.child(name)); o.err != 0 {
		return o.err
	}
	return n.LoopbackNode.Rmdir(ctx, name)
}

func (n *node) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, to string, flags uint32) syscall.Errno {
	if o := n.disk.step("rename", n.child(name)); o.err != 0 {
		return o.err
	}
	if p, ok := parent.(*node); ok {
		n.disk.removed(p.child(to)) // what it replaces
	}
	return n.LoopbackNode.Rename(ctx, name, parent, to, flags)
}

func (n *node) Link(ctx context.Context, target fs.InodeEmbedder, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if o := n.disk.step("link", n.child(name)); o.err != 0 {
		return nil, o.err
	}
	return n.LoopbackNode.Link(ctx, target, name, out)
}

func (n *node) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	size, ok := in.GetSize()
	if !ok {
		return n.LoopbackNode.Setattr(ctx, nil, in, out)
	}
	if o := n.disk.step("truncate", n.at()); o.err != 0 {
		return o.err
	}
	h, isOpen := f.(*handle)
	if !isOpen {
		return n.LoopbackNode.Setattr(ctx, nil, in, out)
	}
	if err := syscall.Ftruncate(h.fd, int64(size)); err != nil {
		return fs.ToErrno(err)
	}
	return h.Getattr(ctx, out)
}

func (n *node) Getattr(ctx context.Context, f fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	if h, ok := f.(*handle); ok {
		return h.Getattr(ctx, out)
	}
	return n.LoopbackNode.Getattr(ctx, nil, out)
}

func (n *node) Fsync(_ context.Context, f fs.FileHandle, _ uint32) syscall.Errno {
	if h, ok := f.(*handle); ok {
		return h.sync()
	}
	if o := n.disk.step("syncDir", n.at()); o.err != 0 {
		return o.err
	}
	return fs.ToErrno(n.disk.syncedDir(n.at()))
}

// OpendirHandle implements [fs.NodeOpendirHandler].
func (n *node) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	list, errno := fs.NewLoopbackDirStream(n.at())
	if errno != 0 {
		return nil, 0, errno
	}
	return &listing{list, n}, 0, 0
}

// listing is an open directory.
type listing struct {
	fs.DirStream

	n *node
}

func (l *listing) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if !l.HasNext() {
		return nil, 0
	}
	e, errno := l.Next()
	return &e, errno
}

func (l *listing) Releasedir(context.Context, uint32) { l.Close() }

func (l *listing) Fsyncdir(ctx context.Context, flags uint32) syscall.Errno {
	return l.n.Fsync(ctx, nil, flags)
}

// handle is an open file.
type handle struct {
	fd   int
	path string // when it was opened
	disk *disk
}

func (h *handle) Read(_ context.Context, p []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	n, err := syscall.Pread(h.fd, p, off)
	if err != nil {
		return nil, fs.ToErrno(err)
	}
	return fuse.ReadResultData(p[:n]), 0
}

func (h *handle) Write(_ context.Context, p []byte, off int64) (uint32, syscall.Errno) {
	o := h.disk.step("write", h.path)
	if o.err != 0 {
		if o.half && !o.crash {
			_, _ = syscall.Pwrite(h.fd, p[:len(p)/2], off) // which fails anyway
		}
		return 0, o.err
	}
	n, err := syscall.Pwrite(h.fd, p, off)
	return uint32(max(n, 0)), fs.ToErrno(err)
}

func (h *handle) Allocate(_ context.Context, off, size uint64, mode uint32) syscall.Errno {
	if o := h.disk.step("write", h.path); o.err != 0 {
		return o.err
	}
	return fs.ToErrno(syscall.Fallocate(h.fd, mode, int64(off), int64(size)))
}

func (h *handle) sync() syscall.Errno {
	if o := h.disk.step("sync", h.path); o.err != 0 {
		return o.err
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(h.fd, &st); err != nil {
		return fs.ToErrno(err)
	}
	b := make([]byte, st.Size)
	if n, err := syscall.Pread(h.fd, b, 0); err != nil || n != len(b) {
		return syscall.EIO
	}
	h.disk.synced(st.Ino, b)
	return 0
}

func (h *handle) Flush(context.Context) syscall.Errno { return 0 }

func (h *handle) Release(context.Context) syscall.Errno { return fs.ToErrno(syscall.Close(h.fd)) }

func (h *handle) Getattr(_ context.Context, out *fuse.AttrOut) syscall.Errno {
	var st syscall.Stat_t
	if err := syscall.Fstat(h.fd, &st); err != nil {
		return fs.ToErrno(err)
	}
	out.FromStat(&st)
	return 0
}
