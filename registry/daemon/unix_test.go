package daemon

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// TestS137SocketIsNeverOpen looks at a socket at the first moment there is one.
func TestS137SocketIsNeverOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := bindUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || runtime.GOOS == "linux" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
