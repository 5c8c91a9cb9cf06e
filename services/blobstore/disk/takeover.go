package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
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

// algorithms are those that layouts have blobs of.
var algorithms = []registry.Algorithm{registry.SHA256, registry.SHA512}

// LayoutFiles implements [blobstore.Layouts].
func (d *Driver) LayoutFiles(ctx context.Context, repo registry.Name) iter.Seq2[registry.LayoutFile, error] {
	return func(yield func(registry.LayoutFile, error) bool) {
		dir, err := d.root.OpenRoot(string(repo))
		if missing(err) {
			return
		}
		if err != nil {
			yield(registry.LayoutFile{}, err)
			return
		}
		defer dir.Close()
		for _, alg := range algorithms {
			err := eachLayoutFile(ctx, dir, alg, func(_ *os.Root, f registry.LayoutFile) error {
				if !yield(f, nil) {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				yield(registry.LayoutFile{}, err)
				return
			}
		}
	}
}

// errEnough ends a look at the files of a layout.
var errEnough = errors.New("enough")

// RemoveLayoutFiles implements [blobstore.Layouts].
func (d *Driver) RemoveLayoutFiles(ctx context.Context, repo registry.Name, blobs []registry.Digest) (freed int64, err error) {
	for _, b := range blobs {
		if err := ctx.Err(); err != nil {
			return freed, err
		}
		if _, ok := layoutCopy(b, registry.LayoutLocator(repo)); !ok {
			continue
		}
		name := layoutBlob(repo, b)
		info, err := d.root.Lstat(name)
		if missing(err) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err == nil {
			err = notThere(d.root.Remove(name))
		}
		if err != nil {
			return freed, err
		}
		freed += info.Size()
	}
	return freed, nil
}

// RemoveLayout implements [blobstore.Layouts]. The index goes first, so that
// nobody takes what is left for the whole.
func (d *Driver) RemoveLayout(ctx context.Context, repo registry.Name) (freed int64, err error) {
	dir, err := d.root.OpenRoot(string(repo))
	if missing(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	if err := removeFile(dir, "index.json"); err != nil {
		return 0, err
	}
	if err := d.syncDirs(dir.Name()); err != nil {
		return 0, err
	}
	for _, alg := range algorithms {
		err := eachLayoutFile(ctx, dir, alg, func(blobs *os.Root, f registry.LayoutFile) error {
			if err := notThere(blobs.Remove(f.Digest.Encoded())); err != nil {
				return err
			}
			freed += f.Size
			return nil
		})
		if err != nil {
			return freed, err
		}
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

// eachLayoutFile calls f for the files of blobs of a layout, with the directory that
// they are in. Files that somebody else has put there are none.
func eachLayoutFile(ctx context.Context, dir *os.Root, alg registry.Algorithm, f func(blobs *os.Root, file registry.LayoutFile) error) error {
	blobs, err := dir.OpenRoot("blobs/" + string(alg))
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer blobs.Close()
	list, err := blobs.Open(".")
	if err != nil {
		return err
	}
	names, err := list.Readdirnames(-1)
	if err = errors.Join(err, list.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		dgst, err := registry.ParseDigest(string(alg) + ":" + name)
		if err != nil {
			continue
		}
		info, err := blobs.Lstat(name)
		if missing(err) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		if err == nil {
			err = f(blobs, registry.LayoutFile{Digest: dgst, Size: info.Size()})
		}
		if err != nil {
			return err
		}
	}
	return nil
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
