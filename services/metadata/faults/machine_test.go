package faults

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/util/vfsutil"
	"github.com/ncruces/go-sqlite3/vfs"
)

// machine is the disk of a machine that can fail, below SQLite. Each call that
// changes a file is a step; fault says what happens at it. It knows what would be
// left after loss of power.
type machine struct {
	vfs.VFS
	fault func(step int, op string) outcome // nil: nothing fails
	name  string                            // what SQLite knows it as

	mu      sync.Mutex // guards what follows
	log     []string   // what each step was
	crashed bool       // nothing has an effect any more
	disks   map[string]*platter
}

// outcome is what becomes of a step.
type outcome struct {
	err   error // what is returned, nil for success
	crash bool  // the machine stops: before the step has an effect, unless after
	after bool
	half  bool // a write that fails has written half
}

// platter is what is durable of a file, and what has been written since.
type platter struct {
	durable []byte
	writes  []change
	deleted bool // its name comes back unless the directory is synced
}

// change is a write that was not synced, or with no bytes a truncation.
type change struct {
	at int64
	p  []byte
}

func (c change) apply(b []byte) []byte {
	if c.p == nil {
		return grown(b, c.at)[:c.at]
	}
	b = grown(b, c.at+int64(len(c.p)))
	copy(b[c.at:], c.p)
	return b
}

func grown(b []byte, size int64) []byte {
	if n := size - int64(len(b)); n > 0 {
		b = append(b, make([]byte, n)...)
	}
	return b
}

// newMachine returns a machine whose disk has the files of dir, all of them
// durable.
func newMachine(t *testing.T, dir string) *machine {
	t.Helper()
	m := &machine{VFS: vfs.Find("os"), disks: make(map[string]*platter)}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		m.disks[e.Name()] = &platter{durable: b}
	}
	m.name = fmt.Sprintf("machine-%p", m)
	vfs.Register(m.name, m)
	t.Cleanup(func() { vfs.Unregister(m.name) })
	return m
}

// steps returns how many steps there were.
func (m *machine) steps() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.log)
}

// step counts a call and says whether it takes place.
func (m *machine) step(op, file string) outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.crashed {
		return outcome{err: sqlite3.IOERR}
	}
	n := len(m.log)
	m.log = append(m.log, op+" "+strings.TrimPrefix(filepath.Base(file), "metadata."))
	if m.fault == nil {
		return outcome{}
	}
	o := m.fault(n, op)
	if o.crash {
		m.crashed = true
		if !o.after {
			o.err = sqlite3.IOERR
		}
	}
	return o
}

func (m *machine) disk(file string) *platter {
	name := filepath.Base(file)
	d := m.disks[name]
	if d == nil {
		d = new(platter)
		m.disks[name] = d
	}
	return d
}

// note records a change that a step has made.
func (m *machine) note(file string, c change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.disk(file)
	d.writes = append(d.writes, c)
}

// OpenFilename implements [vfs.VFSFilename].
func (m *machine) OpenFilename(filename *vfs.Filename, flags vfs.OpenFlag) (vfs.File, vfs.OpenFlag, error) {
	name := filename.String()
	if name != "" && flags&vfs.OPEN_CREATE != 0 {
		if _, err := os.Lstat(name); err != nil {
			if o := m.step("create", name); o.err != nil {
				return nil, 0, sqlite3.CANTOPEN
			}
			m.mu.Lock()
			delete(m.disks, filepath.Base(name)) // another file of the name
			m.mu.Unlock()
		}
	}
	f, out, err := vfsutil.WrapOpenFilename(m.VFS, filename, flags)
	if err != nil || name == "" {
		return f, out, err
	}
	return &file{File: f, machine: m, name: name, shm: vfs.NewSharedMemory(name+"-shm", flags)}, out, nil
}

// Delete implements [vfs.VFS].
func (m *machine) Delete(name string, syncDir bool) error {
	if o := m.step("delete", name); o.err != nil {
		return sqlite3.IOERR_DELETE
	}
	if err := m.VFS.Delete(name, false); err != nil {
		return err
	}
	m.mu.Lock()
	m.disk(name).deleted = true
	m.mu.Unlock()
	if syncDir {
		return m.syncDir()
	}
	return nil
}

// syncDir makes the names of files durable. New ones are in any case: SQLite syncs
// the directory when it syncs a new file for the first time.
func (m *machine) syncDir() error {
	if o := m.step("sync", "directory"); o.err != nil {
		return sqlite3.IOERR_DIR_FSYNC
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, d := range m.disks {
		if d.deleted {
			delete(m.disks, name)
		}
	}
	return nil
}

// renew writes a file anew, which makes all of it dirty, and syncs it.
func (m *machine) renew(name string) error {
	b, err := os.ReadFile(name)
	if err != nil || len(b) == 0 {
		return err
	}
	o := m.step("write", name)
	if o.crash && !o.after {
		return o.err
	}
	m.mu.Lock()
	d := m.disk(name)
	d.writes = append(d.writes, change{at: 0, p: b}, change{at: int64(len(b))})
	m.mu.Unlock()
	if o.err != nil {
		return o.err
	}
	return m.sync(name)
}

// file is an open file of a machine.
type file struct {
	vfs.File
	machine *machine
	name    string
	shm     vfs.SharedMemory
}

// SharedMemory implements [vfs.FileSharedMemory].
func (f *file) SharedMemory() vfs.SharedMemory { return f.shm }

// Close implements [vfs.File].
func (f *file) Close() error {
	if f.shm != nil {
		f.shm.Close()
	}
	return f.File.Close()
}

// WriteAt implements [vfs.File].
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	o := f.machine.step("write", f.name)
	if o.err != nil && o.half && !o.crash {
		p = p[:len(p)/2]
	} else if o.err != nil {
		return 0, o.err
	}
	n, err := f.File.WriteAt(p, off)
	f.machine.note(f.name, change{off, bytes.Clone(p[:n])})
	if o.err != nil {
		err = o.err
	}
	return n, err
}

// Truncate implements [vfs.File].
func (f *file) Truncate(size int64) error {
	if o := f.machine.step("truncate", f.name); o.err != nil {
		return o.err
	}
	f.machine.note(f.name, change{at: size})
	return f.File.Truncate(size)
}

// Sync implements [vfs.File]. Nothing is asked of the disk below.
func (f *file) Sync(vfs.SyncFlag) error { return f.machine.sync(f.name) }

func (m *machine) sync(name string) error {
	o := m.step("sync", name)
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.disk(name)
	switch {
	case o.crash && !o.after:
		return o.err
	case o.err != nil:
		d.writes = nil // as Linux does: the pages are clean now, and were not written
		return sqlite3.IOERR_FSYNC
	}
	for _, c := range d.writes {
		d.durable = c.apply(d.durable)
	}
	d.writes = nil
	return nil
}

// powerLoss writes to dir what is left after loss of power when the first part of
// the writes that were not synced has reached the disk, out of parts parts. The
// last of them is torn in the middle of a sector's multiple.
func (m *machine) powerLoss(t *testing.T, dir string, part, parts int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, d := range m.disks {
		b := bytes.Clone(d.durable)
		reached := d.writes[:len(d.writes)*part/parts]
		for i, c := range reached {
			if i == len(reached)-1 && len(c.p) > 512 {
				c.p = c.p[:len(c.p)/1024*512]
			}
			b = c.apply(b)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
