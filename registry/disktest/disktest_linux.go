package disktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Memory returns a directory on a file system of its own in memory, of size bytes.
func Memory(t testing.TB, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("NOT RUN: a file system can't be mounted: %v", err)
	}
	unmounted(t, dir)
	return dir
}

// Loop returns a directory on an ext4 file system of its own, in a file of size bytes:
// where files are, and what the journal takes, is as on a disk.
func Loop(t testing.TB, size int64) string {
	t.Helper()
	file, dir := filepath.Join(t.TempDir(), "disk"), t.TempDir()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	// As any file system for data alone: no blocks that only root may use.
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-m", "0", file}, {"mount", "-o", "loop", file, dir}} {
		if out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Skipf("NOT RUN: a file system can't be made: %s: %v: %s", command[0], err, out)
		}
	}
	unmounted(t, dir)
	return dir
}

func unmounted(t testing.TB, dir string) {
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// Free returns how many bytes of a directory's file system are free to all.
func Free(t testing.TB, dir string) int64 {
	t.Helper()
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		t.Fatal(err)
	}
	return int64(s.Bavail) * s.Bsize
}

// Fill makes a file that leaves left bytes of the file system it is in, or fewer: the
// file has to be recorded, too.
func Fill(t testing.TB, name string, left int64) {
	t.Helper()
	n := max(Free(t, filepath.Dir(name))-left, 0)
	if err := os.WriteFile(name, make([]byte, n), 0o600); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}
