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
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
)

// Uploads implements [blobstore.Driver].
func (d *Driver) Uploads(ctx context.Context) iter.Seq2[blobstore.UploadInfo, error] {
	return func(yield func(blobstore.UploadInfo, error) bool) {
		dir, err := d.fs.open(d.uploads, os.O_RDONLY, 0)
		if err != nil {
			yield(blobstore.UploadInfo{}, err)
			return
		}
		defer dir.Close()
		for {
			if err := ctx.Err(); err != nil {
				yield(blobstore.UploadInfo{}, err)
				return
			}
			entries, err := dir.ReadDir(1000)
			for _, e := range entries {
				info, ok, err := d.uploadInfo(e.Name())
				if !ok && err == nil {
					continue
				}
				if !yield(info, err) || err != nil {
					return
				}
			}
			if err == io.EOF || err == nil && len(entries) == 0 {
				return
			}
			if err != nil {
				yield(blobstore.UploadInfo{}, err)
				return
			}
		}
	}
}

// uploadInfo returns the upload that a file in the directory of uploads stands
// for: a state counts only if it has been left alone.
func (d *Driver) uploadInfo(name string) (blobstore.UploadInfo, bool, error) {
	base, isState := strings.CutSuffix(name, stateSuffix)
	id, err := registry.ParseUploadID(base)
	if err != nil {
		return blobstore.UploadInfo{}, false, nil
	}
	if isState {
		_, err := d.fs.stat(d.uploadPath(id))
		if !errors.Is(err, fs.ErrNotExist) {
			return blobstore.UploadInfo{}, false, err
		}
	}
	touched, err := d.touched(id)
	if errors.Is(err, fs.ErrNotExist) {
		return blobstore.UploadInfo{}, false, nil
	}
	return blobstore.UploadInfo{ID: id, Touched: touched}, err == nil, err
}

// touched returns when an upload was last written to.
func (d *Driver) touched(id registry.UploadID) (time.Time, error) {
	var last time.Time
	missing := 0
	for _, name := range []string{d.uploadPath(id), d.statePath(id)} {
		info, err := d.fs.stat(name)
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		if err != nil {
			return time.Time{}, err
		}
		if info.ModTime().After(last) {
			last = info.ModTime()
		}
	}
	if missing == 2 {
		return time.Time{}, fs.ErrNotExist
	}
	return last, nil
}

// Discard implements [blobstore.Driver].
func (d *Driver) Discard(_ context.Context, id registry.UploadID, notAfter time.Time) error {
	if !notAfter.IsZero() {
		touched, err := d.touched(id)
		if err != nil || touched.After(notAfter) {
			return notThere(err)
		}
	}
	// Without its bytes a state means nothing, so they go first.
	err := notThere(d.fs.remove(d.uploadPath(id)))
	return errors.Join(err, notThere(d.fs.remove(d.statePath(id))))
}

// CheckUpload implements [blobstore.Driver].
func (d *Driver) CheckUpload(_ context.Context, id registry.UploadID) (string, error) {
	info, err := d.fs.stat(d.uploadPath(id))
	if err != nil {
		return "", notThere(err)
	}
	f, err := d.fs.open(d.statePath(id), os.O_RDONLY, 0)
	if err != nil {
		return "", notThere(err)
	}
	defer f.Close()
	b, err := readUpTo(f, stateSize)
	if err != nil {
		return "", err
	}
	s := readState(b, info.Size(), d.boot)
	switch {
	case s.beyond > 0:
		return fmt.Sprintf("its state counts %d bytes, and there are %d", s.beyond, info.Size()), nil
	case s.damaged:
		return "its state can't be read", nil
	}
	return "", nil
}
