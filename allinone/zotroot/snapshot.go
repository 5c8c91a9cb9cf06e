//go:build linux

package zotroot

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Snapshot describes each file and directory below root, but for .berth and root
// itself, in all that a reader could change: bytes, mode, owner, times, links.
// Times of access are left out of directories, which it reads itself.
func Snapshot(t testing.TB, root string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	must(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || rel == "." {
			return err
		}
		if rel == ".berth" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		text := fmt.Sprintf("inode %d mode %v owner %d:%d links %d modified %d.%09d", s.Ino, info.Mode(), s.Uid, s.Gid, s.Nlink, s.Mtim.Sec, s.Mtim.Nsec)
		if info.Mode().IsRegular() {
			text += fmt.Sprintf(" size %d read %d.%09d changed %d.%09d", s.Size, s.Atim.Sec, s.Atim.Nsec, s.Ctim.Sec, s.Ctim.Nsec)
			sum, err := hash(path)
			if err != nil {
				return err
			}
			text += " " + sum
		}
		all[rel] = text
		return nil
	}))
	return all
}

func hash(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return fmt.Sprintf("%x", h.Sum(nil)), err
}
