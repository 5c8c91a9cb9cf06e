package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/porttest"
)

// Bouncer starts Debian's PgBouncer in transaction mode in front of s, with few
// sessions, and returns its port. Databases have the same names as in s.
func (s *Server) Bouncer(t testing.TB, sessions int) int {
	t.Helper()
	const program = "/usr/sbin/pgbouncer"
	if _, err := os.Stat(program); err != nil {
		t.Skip("NOT RUN: PgBouncer is not installed (Debian: apt-get install pgbouncer)")
	}
	port, err := porttest.Free()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.dir, "bouncer-")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "pgbouncer.ini")
	users := filepath.Join(dir, "users")
	// Each test has a database of its own, and so a pool of sessions here: they must
	// not stay when the test is over.
	err = errors.Join(
		os.WriteFile(users, fmt.Appendf(nil, "%q %q\n", Role, Password), 0o644),
		os.WriteFile(config, fmt.Appendf(nil, `[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = transaction
default_pool_size = %d
max_client_conn = 200
server_idle_timeout = 1
`, s.Port, port, users, sessions), 0o644),
		os.Chmod(dir, 0o755),
	)
	if err != nil {
		t.Fatal(err)
	}
	cmd := s.command("", config)
	cmd.Path, cmd.Args[0] = program, program
	log := filepath.Join(dir, "log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is told to end
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGQUIT)
		<-exited
		if b, err := os.ReadFile(log); t.Failed() && err == nil {
			t.Logf("log of PgBouncer:\n%s", b[max(0, len(b)-4000):])
		}
	})
	awaitPort(t, port, exited)
	return port
}

func awaitPort(t testing.TB, port int, exited <-chan struct{}) {
	t.Helper()
	for deadline := time.Now().Add(readyWithin); time.Now().Before(deadline); {
		c, err := new(net.Dialer).DialContext(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-exited:
			t.Fatal("the program ended before it listened")
		case <-time.After(readyPause):
		}
	}
	t.Fatal("the program does not listen")
}
