package gateway

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// queued returns how many bytes of a socket the peer has not acknowledged, sent
// or not (SIOCOUTQ in tcp(7) and unix(7)).
func queued(c syscall.RawConn) (n int, ok bool) {
	err := c.Control(func(fd uintptr) {
		var err error
		n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		ok = err == nil
	})
	return n, ok && err == nil
}
