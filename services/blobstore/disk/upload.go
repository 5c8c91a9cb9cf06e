package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// writeStep is after how many bytes the kernel is told to start writing, so
// that little is left to do for the sync at the end.
const writeStep = 8 << 20

// upload is an open upload.
type upload struct {
	driver  *Driver
	id      registry.UploadID
	data    file
	size    int64        // where the next Write goes
	started int64        // the kernel was told to write so many bytes
	direct  directWriter // data once more, for [upload.writeAt]; nil until it is needed

	mu     sync.Mutex // guards what follows: Sync runs beside Save
	state  file       // nil until there is a record
	number uint64     // of the last record
	turns  turns
	sums   int64 // checksums of so many chunks are behind the records
	named  bool  // the upload's names are durable
	kept   bool  // or may be since an earlier process had it
}

// Expect implements [blobstore.UploadFile].
func (u *upload) Expect(registry.Digest) {}

// Write implements [blobstore.UploadFile].
func (u *upload) Write(_ context.Context, p []byte) (int, error) {
	n, direct, err := u.writeAt(p, u.size)
	u.size += int64(n)
	if direct {
		u.started = u.size
	}
	if u.driver.durable && u.size-u.started >= writeStep {
		u.driver.fs.startWriting(u.data, u.started, u.size-u.started)
		u.started = u.size
	}
	return n, err
}

// Take implements [blobstore.Taker]: the file is moved to the upload's name if it lies
// on the same file system and has no other name, through which it could be changed.
func (u *upload) Take(name string, size int64) bool {
	if u.size != 0 || name == "" {
		return false
	}
	f, err := u.driver.fs.open(name, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm() != fileMode || info.Size() != size || !onlyName(info) ||
		u.driver.fs.rename(name, u.driver.uploadPath(u.id)) != nil {
		f.Close()
		return false
	}
	u.data.Close() // it is empty, and has no name any more
	u.data, u.size, u.started = f, size, 0
	if u.driver.durable {
		u.driver.fs.startWriting(f, 0, size)
		u.started = size
	}
	return true
}

// onlyName reports whether a file has one name.
func onlyName(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1
}

// Reader implements [blobstore.UploadFile].
func (u *upload) Reader(context.Context) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(u.data, 0, u.size)), nil
}

// ReadAt implements [blobstore.Rereader].
func (u *upload) ReadAt(p []byte, off int64) (int, error) { return u.data.ReadAt(p, off) }

// Truncate implements [blobstore.Rereader].
func (u *upload) Truncate(size int64) error {
	if err := u.data.Truncate(size); err != nil {
		return err
	}
	u.size, u.started = size, size
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sums = min(u.sums, size/blobstore.ChunkSize)
	if u.state == nil {
		return nil
	}
	_, err := u.state.WriteAt(make([]byte, 2*slotSize), 2*slotSize)
	return err
}

// Save implements [blobstore.UploadFile].
func (u *upload) Save(s blobstore.State) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.put(kindWritten, s)
}

// put writes a record. The caller holds u.mu.
func (u *upload) put(k kind, s blobstore.State) error {
	if u.state == nil {
		f, err := u.driver.fs.open(u.driver.statePath(u.id), os.O_RDWR|os.O_CREATE, fileMode)
		if err != nil {
			return err
		}
		u.state = f
	}
	r := record{kind: k, number: u.number + 1, boot: u.driver.boot, state: s}
	if err := u.putSums(s); err != nil {
		return err
	}
	b := r.encode()
	if _, err := u.state.WriteAt(b[:], u.turns.slot(k)*slotSize); err != nil {
		return err
	}
	*u.turns.of(k) ^= 1
	u.number++
	return nil
}

// Sync implements [blobstore.UploadFile].
func (u *upload) Sync(s blobstore.State) error {
	if !u.driver.durable {
		return u.Save(s)
	}
	if err := u.driver.fs.syncData(u.data); err != nil {
		return &blobstore.SyncError{Op: "an upload", Err: err}
	}
	state, named, err := u.putSynced(s)
	if err != nil {
		return err
	}
	if err := u.driver.fs.syncData(state); err != nil {
		return &blobstore.SyncError{Op: "the state of an upload", Err: err}
	}
	if named {
		return nil
	}
	if err := u.driver.fs.syncDir(u.driver.uploads); err != nil {
		return &blobstore.SyncError{Op: "the directory of uploads", Err: err}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.named = true
	return nil
}

func (u *upload) putSynced(s blobstore.State) (state file, named bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	err = u.put(kindSynced, s)
	return u.state, u.named, err
}

// Publish implements [blobstore.UploadFile].
func (u *upload) Publish(_ context.Context, d registry.Digest, sums blobstore.Sums) (registry.Locator, error) {
	drv := u.driver
	dir, err := drv.shard(d)
	if err != nil {
		return "", err
	}
	if drv.durable {
		if err := u.data.Sync(); err != nil {
			return "", &blobstore.SyncError{Op: "a blob", Err: err}
		}
	}
	from, to := drv.uploadPath(u.id), dir+"/"+blobName(d, registry.Locator(u.id))
	if err := drv.fs.rename(from, to); err != nil {
		return "", err
	}
	if sums != nil {
		// They come after the blob, so that there are none without it, and are not
		// synced: what is torn by a crash is not believed and made again. For the
		// same reason it does no harm if they can't be written.
		_ = drv.writeSums(to, registry.Stored{Digest: d, Size: u.size, Locator: registry.Locator(u.id)}, sums)
	}
	if drv.durable {
		// The old name goes before anybody is told: should it come back after a crash, what
		// is written to the upload would be written to the blob. Most uploads never had a
		// durable one.
		err := drv.fs.syncDir(dir)
		if err == nil && u.mayComeBack() {
			err = drv.fs.syncDir(drv.uploads)
		}
		if err != nil {
			err = &blobstore.SyncError{Op: "a directory of blobs", Err: err}
			// A later call must not find a blob that may be gone after a crash.
			return "", errors.Join(err, notThere(drv.fs.remove(to+sumsSuffix)), drv.fs.remove(to))
		}
	}
	if u.stateExists() {
		// What stays behind is found by the sweep: an upload without bytes.
		_ = drv.fs.remove(drv.statePath(u.id))
	}
	return registry.Locator(u.id), nil
}

// mayComeBack reports whether the upload's name is durable.
func (u *upload) mayComeBack() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.named || u.kept
}

func (u *upload) stateExists() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state != nil
}

// Close implements [blobstore.UploadFile].
func (u *upload) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	err := errors.Join(u.data.Close(), u.closeDirect())
	if u.state != nil {
		err = errors.Join(err, u.state.Close())
	}
	return err
}

// Create implements [blobstore.Driver].
func (d *Driver) Create(_ context.Context, born time.Time, _ registry.Algorithm) (registry.UploadID, blobstore.UploadFile, error) {
	id := registry.NewUploadID(born)
	f, err := d.fs.open(d.uploadPath(id), os.O_RDWR|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return "", nil, err
	}
	return id, &upload{driver: d, id: id, data: f}, nil
}

// Resume implements [blobstore.Driver].
func (d *Driver) Resume(_ context.Context, id registry.UploadID, _ int64) (blobstore.UploadFile, blobstore.Resumed, error) {
	u, s, err := d.resume(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, blobstore.Resumed{}, registry.ErrUploadUnknown
	}
	if err != nil {
		return nil, blobstore.Resumed{}, fmt.Errorf("opening upload %s: %w", id, err)
	}
	return u, s, nil
}

func (d *Driver) resume(id registry.UploadID) (_ *upload, _ blobstore.Resumed, err error) {
	u := &upload{driver: d, id: id, kept: true}
	u.data, err = d.fs.open(d.uploadPath(id), os.O_RDWR, 0)
	if err != nil {
		return nil, blobstore.Resumed{}, err
	}
	defer func() {
		if err != nil {
			u.Close()
		}
	}()
	info, err := u.data.Stat()
	if err != nil {
		return nil, blobstore.Resumed{}, err
	}
	var s saved
	u.state, err = d.fs.open(d.statePath(id), os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, blobstore.Resumed{}, err
	default:
		b, err := readUpTo(u.state, stateSize)
		if err != nil {
			return nil, blobstore.Resumed{}, err
		}
		s = readState(b, info.Size(), d.boot)
		if err := u.loadSums(&s); err != nil {
			return nil, blobstore.Resumed{}, err
		}
	}
	if end := max(s.Safe.Offset, s.Claimed.Offset); info.Size() > end {
		if err := u.data.Truncate(end); err != nil {
			return nil, blobstore.Resumed{}, err
		}
	}
	u.size, u.started, u.number, u.turns = s.Safe.Offset, s.Safe.Offset, s.number, s.turns
	return u, s.Resumed, nil
}

// readUpTo reads at most n bytes from the start of f.
func readUpTo(f file, n int64) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(f, 0, n))
}
