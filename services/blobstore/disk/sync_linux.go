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

// startWriting is sync_file_range(2) with SYNC_FILE_RANGE_WRITE. It leaves a
// write error where the next sync finds it.
func startWriting(f *os.File, offset, n int64) {
	const syncFileRangeWrite = 2
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = syscall.SyncFileRange(int(fd), offset, n, syncFileRangeWrite)
	})
}
