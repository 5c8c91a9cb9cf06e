//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// docker is Debian's client: others may stand before it on the PATH.
const docker = "/usr/bin/docker"

// startDockerd runs a Docker engine of the test's own, with no network of
// containers and nothing outside its directory, and returns its address for
// DOCKER_HOST. Loopback registries are plain HTTP for it without being told.
func startDockerd(t *testing.T) string {
	t.Helper()
	host, _ := startEngine(t, nil, "--iptables=false", "--ip6tables=false", "--bridge=none")
	return host
}

// startIsolatedDockerd runs a Docker engine whose containers have networks and
// published ports. It lives in a network namespace of its own, so that none of
// this is seen on the machine, not even the ports. inside are the arguments that
// stand before a command that is to run in that namespace.
func startIsolatedDockerd(t *testing.T) (host string, inside []string) {
	t.Helper()
	host, p := startEngine(t, []string{"/usr/bin/unshare", "--net", "--mount", "--propagation", "private",
		"/bin/sh", "-c", `ip link set lo up && exec "$0" "$@"`})
	return host, []string{"/usr/bin/nsenter", "--target", strconv.Itoa(p.PID()), "--net"}
}

// startEngine runs dockerd behind the words of prefix, with more arguments.
func startEngine(t *testing.T, prefix []string, more ...string) (host string, p *Process) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("the test starts a Docker engine, which takes root")
	}
	// Not t.TempDir: a socket's path may have 108 bytes only.
	dir, err := os.MkdirTemp("", "dockerd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unmountUnder(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the Docker engine's files: %v", err)
		}
	})
	socket := filepath.Join(dir, "d.sock")
	command := append(append(prefix, "/usr/sbin/dockerd",
		"--data-root", filepath.Join(dir, "root"), "--exec-root", filepath.Join(dir, "run"),
		"--pidfile", filepath.Join(dir, "pid"), "-H", "unix://"+socket, "--storage-driver", "overlay2"), more...)
	p = &Process{Name: "dockerd", Path: command[0], Args: command[1:]}
	p.start(t)
	for deadline := time.Now().Add(readyWithin); ; {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("dockerd made no socket within %v\n%s", readyWithin, p.tail())
		}
		time.Sleep(readyPause)
	}
	host = "unix://" + socket
	NewCommands(t, "DOCKER_HOST="+host).Run(t, docker, "version")
	return host, p
}

// unmountUnder unmounts what an engine that was stopped may have left mounted.
func unmountUnder(dir string) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			syscall.Unmount(f[1], syscall.MNT_DETACH)
		}
	}
}
