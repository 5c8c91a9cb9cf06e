package disk

import (
	"syscall"
	"testing"
)

// Crash gives up the lock as the end of the process would. The caller sees to
// it that nothing more is done through d.
func (d *Driver) Crash(t *testing.T) {
	t.Helper()
	if err := syscall.Flock(int(d.lock.Fd()), syscall.LOCK_UN); err != nil {
		t.Fatal(err)
	}
}
