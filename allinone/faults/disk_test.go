package faults

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// disk is the disk of a machine that can fail. Each call that changes something is a
// step; fault says what happens at it. It knows what would be left after loss of
// power: what was synced, and nothing else.
type disk struct {
	root  string                            // where the files are
	fault func(step int, op string) outcome // nil: nothing fails

	mu      sync.Mutex // guards what follows
	log     []string   // what each step was
	crashed bool       // nothing has an effect any more
	data    map[uint64][]byte
	names   map[string][]entry // of each directory below root
}

// outcome is what becomes of a step.
type outcome struct {
	err   syscall.Errno // what is returned, 0 for success
	crash bool          // the machine stops, before the step has an effect
	half  bool          // a write that fails has written half
}

// entry is a name and the file it stands for.
type entry struct {
	name string
	dir  bool
	ino  uint64
	kept []byte // what it was when it was removed, nil before
}

// newDisk returns a disk with the files below root, all of them durable.
func newDisk(t *testing.T, root string) *disk {
	t.Helper()
	d := &disk{root: root, data: map[uint64][]byte{}, names: map[string][]entry{}}
	err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			return d.keepNames(path)
		}
		return d.keepData(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *disk) keepData(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	d.data[info.Sys().(*syscall.Stat_t).Ino] = b
	return nil
}

func (d *disk) keepNames(dir string) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	all := []entry{}
	for _, e := range list {
		info, err := os.Lstat(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // it has just gone
		}
		all = append(all, entry{name: e.Name(), dir: e.IsDir(), ino: info.Sys().(*syscall.Stat_t).Ino})
	}
	d.names[dir] = all
	return nil
}

// passes reports whether calls for a file are no steps: what the processes of one
// machine share through it is of no use after its end.
func passes(name string) bool {
	return strings.HasSuffix(name, "-shm") || strings.HasSuffix(name, ".lock") || strings.HasSuffix(name, "lock")
}

// step counts a call and says whether it takes place.
func (d *disk) step(op, path string) outcome {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.crashed {
		return outcome{err: syscall.EIO}
	}
	if passes(filepath.Base(path)) {
		return outcome{}
	}
	n := len(d.log)
	what := "blobs"
	if strings.HasPrefix(filepath.Base(path), "metadata.") {
		what = "database"
	}
	d.log = append(d.log, op+"_"+what)
	if d.fault == nil {
		return outcome{}
	}
	o := d.fault(n, op)
	if o.crash {
		d.crashed = true
		o.err = syscall.EIO
	}
	return o
}

// steps returns how many steps there were.
func (d *disk) steps() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.log...)
}

// end stops the machine.
func (d *disk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crashed = true
}

// synced makes the content of a file durable, and syncedDir the names in a directory.
func (d *disk) synced(ino uint64, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.data[ino] = content
}

func (d *disk) syncedDir(dir string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keepNames(dir)
}

// removed remembers what a name is for that comes back if its removal is not synced:
// the number of its file may be used again.
func (d *disk) removed(path string) {
	info, err := os.Lstat(path)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	ino := info.Sys().(*syscall.Stat_t).Ino
	for _, list := range d.names {
		for i, e := range list {
			if e.ino == ino && e.kept == nil {
				list[i].kept = append([]byte{}, d.data[ino]...)
			}
		}
	}
}

// fresh forgets the content of an inode's number that is used again.
func (d *disk) fresh(ino uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.data, ino)
}

// powerLoss writes what is left after loss of power to a new directory.
func (d *disk) powerLoss(t *testing.T) string {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	to := t.TempDir()
	d.restore(t, d.root, to)
	return to
}

func (d *disk) restore(t *testing.T, from, to string) {
	t.Helper()
	for _, e := range d.names[from] {
		name := filepath.Join(to, e.name)
		var err error
		switch {
		case passes(e.name):
		case e.dir:
			if err = os.Mkdir(name, 0o700); err == nil {
				d.restore(t, filepath.Join(from, e.name), name)
			}
		default:
			b := e.kept
			if b == nil {
				b = d.data[e.ino]
			}
			err = os.WriteFile(name, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
