package daemon

import (
	"log/slog"
	"net"
	"os"
)

// tellManager tells the service manager a state, if the environment names a
// socket for that: the protocol of sd_notify(3), which Type=notify of systemd
// waits for. It is no reason to fail that nobody listens there.
func tellManager(log *slog.Logger, state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	// A name that begins with @ is an abstract socket, for package net, too.
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		defer conn.Close()
		_, err = conn.Write([]byte(state))
	}
	if err != nil {
		log.Warn("the service manager can't be told", "state", state, "err", err)
	}
}
