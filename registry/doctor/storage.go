package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// lowSpace and lowShare are when free space is little: in bytes, and as a part
	// of the whole.
	lowSpace = 1 << 30
	lowShare = 20
	lowFiles = 10_000
)

// Storage looks at the directory of a store, which the config file names at key.
func Storage(key, root string) Check {
	return func(_ context.Context, r *Report) {
		info, err := os.Stat(root)
		if errors.Is(err, fs.ErrNotExist) {
			parent := existing(root)
			if err := try(parent); err != nil {
				r.Fail(key, "make it, and give it to the user that runs the server", "%s does not exist and can't be made in %s: %v", root, parent, err)
				return
			}
			r.OK(key, "%s does not exist yet; it will be made", root)
			space(r, key, parent)
			return
		}
		if err != nil || !info.IsDir() {
			r.Fail(key, "name a directory", "%s can't be used: %v", root, errors.Join(err, fs.ErrInvalid))
			return
		}
		if err := try(root); err != nil {
			r.Fail(key, "give the directory to the user that runs the server, and look at the disk", "writing and syncing a file in %s: %v", root, err)
		} else {
			r.OK(key, "%s can be written, and synced", root)
		}
		if info.Mode().Perm()&0o002 != 0 {
			r.Warn(key, "chmod o-w "+root, "every user of this machine may write in %s", root)
		}
		home := filepath.Join(root, ".berth")
		if i, err := os.Stat(home); err == nil {
			if uid, _ := owner(i); uid >= 0 && uid != os.Geteuid() {
				r.Warn(key, "run the server, and doctor, as the user that owns it", "%s belongs to user %d, we are %d", home, uid, os.Geteuid())
			}
		}
		oneDevice(r, key, home)
		space(r, key, root)
	}
}

// existing returns the innermost directory above dir that exists.
func existing(dir string) string {
	for {
		up := filepath.Dir(dir)
		if _, err := os.Stat(up); err == nil || up == dir {
			return up
		}
		dir = up
	}
}

// try writes and syncs a file in dir, and removes it.
func try(dir string) error {
	f, err := os.CreateTemp(dir, ".berth-doctor-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString("doctor")
	err = errors.Join(err, f.Sync(), f.Close(), os.Remove(f.Name()))
	d, e := os.Open(dir)
	if e != nil {
		return errors.Join(err, e)
	}
	return errors.Join(err, d.Sync(), d.Close())
}

// oneDevice looks whether an upload can become a blob by a rename.
func oneDevice(r *Report, key, home string) {
	a, errA := os.Stat(filepath.Join(home, "uploads"))
	b, errB := os.Stat(filepath.Join(home, "blobs"))
	if errA != nil || errB != nil {
		return // not made yet
	}
	_, x := owner(a)
	_, y := owner(b)
	if x != y {
		r.Fail(key, "mount one file system at the root directory, none below it", "%s/uploads and %s/blobs are on different file systems: no upload can be finished", home, home)
	}
}

func space(r *Report, key, dir string) {
	free, size, files, bad, err := fileSystem(dir)
	if err != nil {
		r.Warn(key, "", "free space can't be found out: %v", err)
		return
	}
	if bad != "" {
		r.Warn(key, "use a local ext4 or xfs file system", "%s is on %s", dir, bad)
	}
	const mb = 1_000_000
	switch {
	case free < lowSpace || free < size/lowShare:
		r.Warn(key, "make room: pushes fail with 507 when it is used up", "%d MB of %d are free", free/mb, size/mb)
	case files < lowFiles:
		r.Warn(key, "make room: each blob needs an inode", "only %d inodes are free", files)
	default:
		r.OK(key, "%d MB of %d are free", free/mb, size/mb)
	}
}
