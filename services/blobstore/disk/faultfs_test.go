package disk

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

// faultFS is the file system of a machine that can fail. Each call that changes
// something is a step; fault says what happens at it. It knows what would be
// left after loss of power: what was synced, and nothing else.
type faultFS struct {
	system
	fault func(step int, op string) outcome // nil: nothing fails
	pause func(op, name string)             // called before a step or a read, and may take its time; nil: it does not

	mu      sync.Mutex // guards what follows
	steps   int
	log     []string // what each step was
	crashed bool     // nothing has an effect any more
	data    map[uint64][]byte
	names   map[string][]fs.DirEntry
}

// outcome is what becomes of a step.
type outcome struct {
	err   error // what is returned, nil for success
	crash bool  // the machine stops, before the step has an effect
	half  bool  // a write that fails has written half
}

func newFaultFS() *faultFS {
	return &faultFS{data: make(map[uint64][]byte), names: make(map[string][]fs.DirEntry)}
}

// openDirect opens a file whose writes are steps as all are.
func (f *faultFS) openDirect(name string) (directWriter, error) { return f.open(name, os.O_WRONLY, 0) }

// wait lets a call on a file wait.
func (f *faultFile) wait(op string) {
	if f.fs.pause != nil {
		f.fs.pause(op, f.name)
	}
}

// step counts a call and says whether it takes place.
func (f *faultFS) step(op string) outcome {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return outcome{err: syscall.EIO}
	}
	n := f.steps
	f.steps++
	f.log = append(f.log, op)
	if f.fault == nil {
		return outcome{}
	}
	o := f.fault(n, op)
	if o.crash {
		f.crashed = true
		o.err = syscall.EIO
	}
	return o
}

// since returns what the steps from n on were.
func (f *faultFS) since(n int) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.log[n:])
}

// crash stops the machine.
func (f *faultFS) crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashed = true
}

func (f *faultFS) open(name string, flag int, perm fs.FileMode) (file, error) {
	_, err := os.Lstat(name)
	fresh := err != nil && flag&os.O_CREATE != 0
	if fresh {
		if o := f.step("create"); o.err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: o.err}
		}
	}
	under, err := f.system.open(name, flag, perm)
	if err != nil {
		return nil, err
	}
	if fresh { // the number of a file that is gone may be used again
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.data, inode(under))
	}
	return &faultFile{file: under, fs: f, name: name}, nil
}

func (f *faultFS) mkdir(name string, perm fs.FileMode) error {
	if _, err := os.Lstat(name); err == nil {
		return fs.ErrExist
	}
	if o := f.step("mkdir"); o.err != nil {
		return o.err
	}
	return f.system.mkdir(name, perm)
}

func (f *faultFS) rename(from, to string) error {
	if o := f.step("rename"); o.err != nil {
		return o.err
	}
	return f.system.rename(from, to)
}

func (f *faultFS) remove(name string) error {
	info, err := os.Lstat(name)
	if err == nil {
		if o := f.step("remove"); o.err != nil {
			return o.err
		}
		f.keep(info.Sys().(*syscall.Stat_t).Ino)
	}
	return f.system.remove(name)
}

// keep remembers what a name is for that comes back if the removal is not synced: the
// number of its file may be used again.
func (f *faultFS) keep(ino uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, list := range f.names {
		for i, e := range list {
			if e := e.(entry); e.ino == ino && e.kept == nil {
				e.kept = append([]byte{}, f.data[ino]...)
				list[i] = e
			}
		}
	}
}

func (f *faultFS) syncData(x file) error { return x.(*faultFile).sync("syncData") }

func (f *faultFS) startWriting(file, int64, int64) {}

func (f *faultFS) syncDir(name string) error {
	if o := f.step("syncDir"); o.err != nil {
		return o.err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[name] = inodes(name, entries)
	return nil
}

// powerLoss writes what is left of root after loss of power to a new directory.
func (f *faultFS) powerLoss(t *testing.T, root string) string {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	to := t.TempDir()
	f.restore(t, root, to)
	return to
}

func (f *faultFS) restore(t *testing.T, from, to string) {
	t.Helper()
	for _, e := range f.names[from] {
		name := filepath.Join(to, e.Name())
		var err error
		if e.IsDir() {
			if err = os.Mkdir(name, dirMode); err == nil {
				f.restore(t, filepath.Join(from, e.Name()), name)
			}
		} else {
			b := e.(entry).kept
			if b == nil {
				b = f.data[e.(entry).ino]
			}
			err = os.WriteFile(name, b, fileMode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// entry is a name and the number of the file it stands for.
type entry struct {
	fs.DirEntry
	ino  uint64
	kept []byte // what it was when it was removed, nil before
}

func inodes(dir string, entries []fs.DirEntry) []fs.DirEntry {
	all := make([]fs.DirEntry, 0, len(entries))
	for _, e := range entries {
		info, err := os.Lstat(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		all = append(all, entry{DirEntry: e, ino: info.Sys().(*syscall.Stat_t).Ino})
	}
	return all
}

func inode(f file) uint64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Ino
}

// faultFile is an open file of a faultFS.
type faultFile struct {
	file
	fs   *faultFS
	name string
}

func (f *faultFile) Read(p []byte) (int, error) {
	f.wait("read")
	return f.file.Read(p)
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	f.wait("read")
	return f.file.ReadAt(p, off)
}

func (f *faultFile) WriteAt(p []byte, off int64) (int, error) {
	f.wait("write")
	if o := f.fs.step("write"); o.err != nil {
		n := 0
		if o.half && !o.crash {
			n, _ = f.file.WriteAt(p[:len(p)/2], off)
		}
		return n, o.err
	}
	return f.file.WriteAt(p, off)
}

func (f *faultFile) Truncate(size int64) error {
	if o := f.fs.step("truncate"); o.err != nil {
		return o.err
	}
	return f.file.Truncate(size)
}

func (f *faultFile) Sync() error { return f.sync("sync") }

func (f *faultFile) sync(op string) error {
	f.wait("sync")
	if o := f.fs.step(op); o.err != nil {
		return o.err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b := make([]byte, info.Size())
	if _, err := f.file.ReadAt(b, 0); err != nil {
		if b, err = os.ReadFile(f.name); err != nil { // open for writing only
			return err
		}
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.data[info.Sys().(*syscall.Stat_t).Ino] = b
	return nil
}
