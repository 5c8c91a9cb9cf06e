package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TakeOver implements [blobstore.Layouts]. The order is: sync the bytes, which
// nobody may have done before, make the name, sync the directory it is in.
func (d *Driver) TakeOver(_ context.Context, s registry.Stored, born time.Time) (registry.Locator, error) {
	repo, ok := layoutCopy(s.Digest, s.Locator)
	if !ok {
		return "", registry.ErrBlobUnknown
	}
	f, info, err := d.openForeign(layoutBlob(repo, s.Digest))
	if missing(err) {
		return "", registry.ErrBlobUnknown
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info.Size() != s.Size {
		return "", registry.ErrBlobUnknown
	}
	if _, err := d.shard(s.Digest); err != nil {
		return "", err
	}
	l, err := d.nameOf(s.Digest, info)
	if err != nil {
		return "", err
	}
	if l == "" {
		if d.durable {
			if err := d.fs.syncData(f); err != nil {
				return "", fmt.Errorf("syncing a blob to take over: %w", err)
			}
		}
		l = registry.Locator(registry.NewUploadID(born))
		path, _ := d.copyPath(s.Digest, l)
		err := d.root.Link(layoutBlob(repo, s.Digest), path[len(d.home)-len(".berth"):])
		if errors.Is(err, syscall.EXDEV) || errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EMLINK) || errors.Is(err, syscall.ENOTSUP) {
			return "", registry.ErrUnsupported.Because(err)
		}
		if err != nil {
			return "", err
		}
	}
	return l, d.syncDirs(d.shardPath(s.Digest))
}

// nameOf returns the locator under which a file is ours already, "" if there is
// none.
func (d *Driver) nameOf(dgst registry.Digest, info fs.FileInfo) (registry.Locator, error) {
	shard := dgst.Encoded()[:2]
	dir, err := d.fs.open(d.shardPath(dgst), os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	for {
		entries, err := dir.ReadDir(1000)
		for _, e := range entries {
			hex, locator, _ := strings.Cut(e.Name(), ".")
			if hex[:min(2, len(hex))] != shard || hex != dgst.Encoded() {
				continue
			}
			other, err := e.Info()
			if err == nil && os.SameFile(info, other) {
				return registry.Locator(locator), nil
			}
		}
		if err == io.EOF {
			return "", nil
		}
		if err != nil {
			return "", err
		}
	}
}

// RemoveLayout implements [blobstore.Layouts]. The index goes first, so that
// nobody takes what is left for the whole.
func (d *Driver) RemoveLayout(ctx context.Context, repo registry.Name, whole bool, unneeded func(registry.Digest, int64) (bool, error)) (int64, error) {
	dir, err := d.root.OpenRoot(string(repo))
	if missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	if whole {
		if err := removeFile(dir, "index.json"); err != nil {
			return 0, err
		}
		if err := d.syncDirs(dir.Name()); err != nil {
			return 0, err
		}
	}
	var freed int64
	for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
		n, err := d.removeBlobs(ctx, dir, alg, unneeded)
		freed += n
		if err != nil {
			return freed, err
		}
	}
	if !whole {
		return freed, nil
	}
	for _, name := range []string{".uploads", ".sync"} {
		if err := dir.RemoveAll(name); err != nil {
			return freed, err
		}
	}
	if err := removeFile(dir, "oci-layout"); err != nil {
		return freed, err
	}
	return freed, d.removeEmpty(repo, dir)
}

func removeFile(dir *os.Root, name string) error {
	info, err := dir.Lstat(name)
	if err == nil && !info.IsDir() {
		err = dir.Remove(name)
	}
	return notThere(err)
}

// removeBlobs removes files of blobs that are not needed.
func (d *Driver) removeBlobs(ctx context.Context, dir *os.Root, alg registry.Algorithm, unneeded func(registry.Digest, int64) (bool, error)) (freed int64, err error) {
	blobs, err := dir.OpenRoot("blobs/" + string(alg))
	if missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer blobs.Close()
	list, err := blobs.Open(".")
	if err != nil {
		return 0, err
	}
	names, err := list.Readdirnames(-1)
	if err = errors.Join(err, list.Close()); err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return freed, err
		}
		dgst, err := registry.ParseDigest(string(alg) + ":" + name)
		if err != nil {
			continue // somebody's own file
		}
		info, err := blobs.Lstat(name)
		if missing(err) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err != nil {
			return freed, err
		}
		remove, err := unneeded(dgst, info.Size())
		if err != nil {
			return freed, err
		}
		if !remove {
			continue
		}
		if err := notThere(blobs.Remove(name)); err != nil {
			return freed, err
		}
		freed += info.Size()
	}
	return freed, nil
}

// removeEmpty removes the directories of a layout, and those above it, that have
// nothing in them.
func (d *Driver) removeEmpty(repo registry.Name, dir *os.Root) error {
	for _, name := range []string{"blobs/sha256", "blobs/sha512", "blobs"} {
		if err := notEmpty(dir.Remove(name)); err != nil {
			return err
		}
	}
	for path := string(repo); path != ""; {
		if err := notEmpty(d.root.Remove(path)); err != nil {
			return err
		}
		path = path[:max(strings.LastIndexByte(path, '/'), 0)]
	}
	return nil
}

// notEmpty returns err unless it says that a directory is not empty, or gone.
func notEmpty(err error) error {
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) || missing(err) {
		return nil
	}
	return err
}
