//go:build linux || darwin

package sqlite

import "syscall"

// free returns how many bytes the file system of dir leaves to us, who may not use
// what it reserves for root.
func free(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, err
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // narrower on other processors
}
