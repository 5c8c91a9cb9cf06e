package disk

import (
	"os"
	"syscall"
)

// largeFile is a flag for open(2) that processors of 32 bits need for files
// beyond 2 GiB.
const largeFile = syscall.O_LARGEFILE

// syncData is fdatasync(2).
func syncData(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		for {
			if failed = syscall.Fdatasync(int(fd)); failed != syscall.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return failed
}
