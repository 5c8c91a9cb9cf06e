//go:build linux || darwin

package disk

import "golang.org/x/sys/unix"

// Space implements [blobstore.Spacious]: what the file system leaves to us, who
// may not use what it reserves for root.
func (d *Driver) Space() (free, size int64, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(d.home, &s); err != nil {
		return 0, 0, err
	}
	block := int64(s.Bsize) //nolint:unconvert // narrower on other processors
	return int64(s.Bavail) * block, int64(s.Blocks) * block, nil
}
