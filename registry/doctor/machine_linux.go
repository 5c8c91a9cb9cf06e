package doctor

import (
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// FileLimit returns how many files this process may open.
func FileLimit() (uint64, error) {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l)
	return l.Cur, err
}

// Synchronized reports whether the kernel thinks its clock is kept right.
func Synchronized() (bool, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	const inError = 5 // TIME_ERROR
	return state != inError, err
}

// unfit are file systems on which a store should not be, by their magic number
// (statfs(2)), with the reason.
var unfit = map[int64]string{
	0x6969:     "NFS: locks and syncs of a server that restarts are not to be relied on",
	0xff534d42: "CIFS: it has no dependable sync",
	0xfe534d42: "SMB: it has no dependable sync",
	0x65735546: "FUSE: whether it syncs is up to the program behind it",
	0x01021994: "tmpfs: all is gone when the machine restarts",
	0x794c7630: "overlayfs, the layer of a container: all is gone with the container",
}

// fileSystem says what is to be known of where dir is.
func fileSystem(dir string) (free, size, freeFiles uint64, bad string, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 0, 0, 0, "", err
	}
	block := uint64(s.Bsize)
	freeFiles = s.Ffree
	if s.Files == 0 { // it has no fixed number
		freeFiles = 1 << 30
	}
	return s.Bavail * block, s.Blocks * block, freeFiles, unfit[int64(s.Type)&0xffffffff], nil //nolint:unconvert // narrower on other processors
}

func owner(i fs.FileInfo) (uid int, device uint64) {
	s, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return -1, 0
	}
	return int(s.Uid), uint64(s.Dev) //nolint:unconvert // narrower on other processors
}
