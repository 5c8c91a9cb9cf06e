// Package porttest finds ports for servers that tests start as programs.
package porttest

import (
	"context"
	"net"
)

// Free returns a TCP port of 127.0.0.1 that was free a moment ago. The programs
// bind it themselves, so nothing can hold it for them; the kernel hands out
// ephemeral ports in a random order, which makes a clash unlikely.
func Free() (int, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
