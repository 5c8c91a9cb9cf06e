package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
)

// socketMode lets only the user the program runs as connect. Who wants a proxy
// of another user to do so puts both into a group and changes it.
const socketMode = 0o600

// ListenUnix listens on a unix socket, which nobody else can connect to at any
// moment. A socket that a killed process left behind is removed; one that
// somebody listens on, and anything that is no socket, is not.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	l, err := bindUnix(ctx, path)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(ctx, path); err != nil {
			return nil, fmt.Errorf("listening on %s: %w", path, err)
		}
		l, err = bindUnix(ctx, path)
	}
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(fmt.Errorf("listening on %s: %w", path, err), l.Close())
	}
	return l, nil
}

func bindUnix(ctx context.Context, path string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the file gets the mode that the socket has when it is bound.
		// Elsewhere this fails, and there is the Chmod after.
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
	}}
	return lc.Listen(ctx, "unix", path)
}

// removeStale removes a socket nobody listens on.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return errors.New("there is a file that is no socket")
	}
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(errors.New("another process listens there"), c.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err // not ours, perhaps
	}
	return os.Remove(path)
}
