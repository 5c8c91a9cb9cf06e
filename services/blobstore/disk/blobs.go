package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// Published implements [blobstore.Driver].
func (d *Driver) Published(ctx context.Context, id registry.UploadID, dgst registry.Digest) (registry.Stored, error) {
	size, err := d.Stat(ctx, dgst, registry.Locator(id))
	if errors.Is(err, registry.ErrBlobUnknown) {
		return registry.Stored{}, registry.ErrUploadUnknown
	}
	if err != nil {
		return registry.Stored{}, err
	}
	// The process may have ended between rename and sync. The bytes were synced
	// before. The upload's old name must not come back, see upload.Publish.
	if _, err := d.shard(dgst); err != nil {
		return registry.Stored{}, err
	}
	if err := d.syncDirs(d.shardPath(dgst), d.uploads); err != nil {
		return registry.Stored{}, err
	}
	return registry.Stored{Digest: dgst, Size: size, Locator: registry.Locator(id)}, nil
}

// Stat implements [blobstore.Driver].
func (d *Driver) Stat(_ context.Context, dgst registry.Digest, l registry.Locator) (int64, error) {
	name, ok := d.copyPath(dgst, l)
	if !ok {
		if repo, ok := layoutCopy(dgst, l); ok {
			return d.statForeign(repo, dgst)
		}
		return 0, registry.ErrBlobUnknown
	}
	info, err := d.fs.stat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
		return 0, registry.ErrBlobUnknown
	}
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Open implements [blobstore.Driver].
func (d *Driver) Open(ctx context.Context, s registry.Stored, offset, n int64) (registry.Content, error) {
	name, ok := d.copyPath(s.Digest, s.Locator)
	if !ok {
		if repo, ok := layoutCopy(s.Digest, s.Locator); ok {
			return d.readForeign(ctx, repo, s, offset, n)
		}
		return nil, registry.ErrBlobUnknown
	}
	f, err := d.fs.open(name, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, registry.ErrBlobUnknown
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (info.Size() != s.Size || !info.Mode().IsRegular()) {
		err = registry.ErrBlobUnknown
	}
	if err == nil && offset > 0 {
		_, err = f.Seek(offset, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return newContent(ctx, f, n), nil
}

// Remove implements [blobstore.Driver]. A copy in somebody else's layout stays.
func (d *Driver) Remove(_ context.Context, s registry.Stored) error {
	name, ok := d.copyPath(s.Digest, s.Locator)
	if !ok {
		return nil
	}
	// A copy may lack its checksums, but none would ever remove these alone.
	if err := notThere(d.fs.remove(name + sumsSuffix)); err != nil {
		return err
	}
	return notThere(d.fs.remove(name))
}

// notThere returns err unless it says that there is no such file.
func notThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Copies implements [blobstore.Driver]. It reads one directory at a time, 1/256
// of the names there are.
func (d *Driver) Copies(ctx context.Context, after *registry.Stored, limit int) ([]registry.Stored, error) {
	var from string // the key behind which to start, "" for all
	if after != nil {
		from = copyKey(*after)
	}
	var all []registry.Stored
	for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
		for i := range 256 {
			shard := fmt.Sprintf("%02x", i)
			// The keys of a shard begin with this; "g" is behind all of them.
			if string(alg)+":"+shard+"g" < from {
				continue
			}
			found, err := d.shardCopies(ctx, alg, shard, from, limit-len(all))
			if err != nil {
				return nil, err
			}
			if all = append(all, found...); len(all) == limit {
				return all, nil
			}
		}
	}
	return all, nil
}

// copyKey returns what copies are ordered by.
func copyKey(s registry.Stored) string { return s.Digest.String() + "." + string(s.Locator) }

// shardCopies lists at most limit copies of one directory behind the key from.
func (d *Driver) shardCopies(ctx context.Context, alg registry.Algorithm, shard, from string, limit int) ([]registry.Stored, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir, err := d.fs.open(d.blobs+"/"+string(alg)+"/"+shard, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var found []registry.Stored
	for _, e := range entries {
		hex, locator, _ := strings.Cut(e.Name(), ".")
		s := registry.Stored{Digest: registry.Digest(string(alg) + ":" + hex), Locator: registry.Locator(locator)}
		if _, ok := d.copyPath(s.Digest, s.Locator); ok && copyKey(s) > from && hex[:2] == shard {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b registry.Stored) int { return strings.Compare(copyKey(a), copyKey(b)) })
	kept := found[:0]
	for _, s := range found {
		if len(kept) == limit {
			break
		}
		s.Size, err = d.Stat(ctx, s.Digest, s.Locator)
		if errors.Is(err, registry.ErrBlobUnknown) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		kept = append(kept, s)
	}
	return kept, nil
}

var (
	_ blobstore.UploadFile = (*upload)(nil)
	_ blobstore.Rereader   = (*upload)(nil)
)
