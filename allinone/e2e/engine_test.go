//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
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
	if os.Getuid() != 0 {
		t.Fatal("the client matrix starts a Docker engine, which takes root")
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
	p := &Process{
		Name: "dockerd",
		Path: "/usr/sbin/dockerd",
		Args: []string{
			"--data-root", filepath.Join(dir, "root"), "--exec-root", filepath.Join(dir, "run"),
			"--pidfile", filepath.Join(dir, "pid"), "-H", "unix://" + socket,
			"--storage-driver", "overlay2", "--iptables=false", "--ip6tables=false", "--bridge=none",
		},
	}
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
	host := "unix://" + socket
	NewCommands(t, "DOCKER_HOST="+host).Run(t, docker, "version")
	return host
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
