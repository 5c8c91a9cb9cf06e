package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

const (
	dirMode  fs.FileMode = 0o700
	fileMode fs.FileMode = 0o600
)

// Options are the choices of a [Driver].
type Options struct {
	// Durable makes what is published survive loss of power. Without it nothing
	// is synced: after a crash of the machine blobs may be missing or damaged.
	Durable bool
}

// Driver implements [blobstore.Driver] in a directory. Its methods may be called
// from many goroutines at once.
type Driver struct {
	fs      fsys
	durable bool
	boot    bootID
	lock    *os.File
	root    *os.Root   // see foreign.go
	foreign []*os.File // databases of another registry, locked

	home, blobs, uploads string // directories

	noDirect atomic.Bool // the file system can't write past the page cache, see direct.go

	adding     sync.Mutex // held while an object of the journal is added
	hasJournal bool       // there is a directory for them, durably; guarded by adding

	mu     sync.Mutex      // guards shards
	shards map[string]bool // directories below blobs that are there for good
}

var _ blobstore.Driver = (*Driver)(nil)

// Open returns the Driver for the directory root, which it makes if need be. It
// returns an error if another process has it, or if another registry runs there.
// It reads a bounded number of names.
func Open(root string, o Options) (*Driver, error) {
	d, err := open(root, o, system{})
	if errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: it must belong to the user of this process, %d:%d", err, os.Getuid(), os.Getgid())
	}
	if err != nil {
		return nil, fmt.Errorf("opening the blob directory %s: %w", root, err)
	}
	return d, nil
}

func open(root string, o Options, fs fsys) (*Driver, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(root); err == nil && !info.IsDir() {
		return nil, errors.New("it is not a directory")
	}
	d := &Driver{
		fs:      fs,
		durable: o.Durable,
		boot:    readBootID(),
		home:    root + "/.berth",
		shards:  make(map[string]bool),
	}
	d.blobs, d.uploads = d.home+"/blobs", d.home+"/uploads"
	names := []string{d.home, root} // directories that may have got new names
	for dir := root; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			break
		}
		names = append(names, filepath.Dir(dir))
	}
	if err := os.MkdirAll(root, dirMode); err != nil {
		return nil, err
	}
	if err := d.makeDir(d.home); err != nil {
		return nil, err
	}
	if err := d.checkDir(d.home); err != nil {
		return nil, err
	}
	if err := d.takeLock(); err != nil {
		return nil, err
	}
	if d.root, err = os.OpenRoot(root); err == nil {
		err = d.lockForeign()
	}
	err = errors.Join(err, d.makeDir(d.blobs), d.makeDir(d.uploads), d.syncDirs(names...))
	if err == nil {
		err = d.checkPlace()
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// makeDir makes a directory unless it is there.
func (d *Driver) makeDir(name string) error {
	if err := d.fs.mkdir(name, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// syncDirs makes the names in directories durable.
func (d *Driver) syncDirs(names ...string) error {
	if !d.durable {
		return nil
	}
	for _, name := range names {
		if err := d.fs.syncDir(name); err != nil {
			return &blobstore.SyncError{Op: "a directory", Err: err}
		}
	}
	return nil
}

// takeLock makes this process the only one that uses the directory.
func (d *Driver) takeLock() error {
	f, err := os.OpenFile(d.home+"/lock", os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, fileMode)
	if err != nil {
		return err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return errors.New("another process is using it")
		}
		return fmt.Errorf("locking %s/lock: %w", d.home, err)
	}
	d.lock = f
	return nil
}

// Traits implements [blobstore.Driver].
func (d *Driver) Traits() blobstore.Traits { return blobstore.Traits{} }

// Check implements [blobstore.Driver].
func (d *Driver) Check(context.Context) error {
	_, err := d.fs.stat(d.blobs)
	return err
}

// Close implements [blobstore.Driver].
func (d *Driver) Close() error {
	errs := []error{d.lock.Close()}
	if d.root != nil {
		errs = append(errs, d.root.Close())
	}
	for _, f := range d.foreign {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

func (d *Driver) uploadPath(id registry.UploadID) string { return d.uploads + "/" + string(id) }
func (d *Driver) statePath(id registry.UploadID) string {
	return d.uploads + "/" + string(id) + stateSuffix
}

const stateSuffix = ".state"

// blobName returns the name of the copy l of blob dgst in its directory.
func blobName(dgst registry.Digest, l registry.Locator) string {
	return dgst.Encoded() + "." + string(l)
}

// shardPath returns the directory of the copies of dgst, which is valid.
func (d *Driver) shardPath(dgst registry.Digest) string {
	return d.blobs + "/" + string(dgst.Algorithm()) + "/" + dgst.Encoded()[:2]
}

// copyPath returns the path of a copy, false if there can be none: locators
// come over the network, and only what names an upload leads to a file.
func (d *Driver) copyPath(dgst registry.Digest, l registry.Locator) (string, bool) {
	if _, err := registry.ParseUploadID(string(l)); err != nil {
		return "", false
	}
	if _, err := registry.ParseDigest(dgst.String()); err != nil {
		return "", false
	}
	return d.shardPath(dgst) + "/" + blobName(dgst, l), true
}

// shard returns the directory to publish dgst in, which is there for good.
func (d *Driver) shard(dgst registry.Digest) (string, error) {
	alg := dgst.Algorithm()
	parent, path := d.blobs+"/"+string(alg), d.shardPath(dgst)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.shards[parent] {
		if err := d.adoptShards(parent); err != nil {
			return "", err
		}
	}
	if d.shards[path] {
		return path, nil
	}
	if err := d.makeDir(path); err != nil {
		return "", err
	}
	if err := d.syncDirs(parent); err != nil {
		return "", err
	}
	d.shards[path] = true
	return path, nil
}

// adoptShards notes the directories below parent that another process made, and
// makes them durable, with one sync for all of them. The caller holds d.mu.
func (d *Driver) adoptShards(parent string) error {
	if err := d.makeDir(parent); err != nil {
		return err
	}
	dir, err := d.fs.open(parent, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return err
	}
	if err := d.syncDirs(parent, d.blobs); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			d.shards[parent+"/"+e.Name()] = true
		}
	}
	d.shards[parent] = true
	return nil
}
