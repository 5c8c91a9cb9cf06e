//go:build !linux

package gateway

import "syscall"

// queued is known on Linux only.
func queued(syscall.RawConn) (n int, ok bool) { return 0, false }
