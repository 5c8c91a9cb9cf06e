//go:build linux && !arm

package disk

import (
	"os"
	"syscall"
)

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
