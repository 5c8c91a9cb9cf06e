//go:build unix

package gateway

import "syscall"

// defaultConnections returns how many connections the process can have, each with a
// file to send or to fill, and with some descriptors left for the rest.
func defaultConnections() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return connectionsFor(uint64(l.Cur)) //nolint:unconvert // narrower on other processors
}
