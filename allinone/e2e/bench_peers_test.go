//go:build bench

package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// childRole is the environment variable that makes the test binary one of the
// plain Go programs; its arguments are the role's.
const childRole = "BERTH_BENCH_ROLE"

const (
	fileServerRole = "file-server" // DIR ADDRESS: http.FileServer
	writerRole     = "file-writer" // DIR SECONDS: writes small images durably, prints how many
)

// runChild is main of the plain Go programs. It returns the exit status.
func runChild(role string, args []string) int {
	var err error
	switch role {
	case fileServerRole:
		err = serveFiles(args[0], args[1])
	case writerRole:
		err = writeImages(args[0], args[1])
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

// serveFiles is the least a Go program does to serve a directory.
func serveFiles(dir, addr string) error {
	server := &http.Server{Addr: addr, Handler: http.FileServer(http.Dir(dir))}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-ctx.Done()
		server.Close()
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// writeImages writes the three files of small images with imageClients
// goroutines for some seconds, each file durably, and prints the number of
// images.
func writeImages(dir, seconds string) error {
	secs, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(time.Duration(secs * float64(time.Second)))
	var images atomic.Int64
	errs := make([]error, imageClients)
	var all sync.WaitGroup
	for c := range imageClients {
		all.Go(func() {
			for n := 0; time.Now().Before(deadline); n++ {
				layer, config, manifest := smallImage(c, n)
				for i, data := range [][]byte{layer, config, manifest} {
					if err := writeDurably(dir, fmt.Sprintf("%d-%d-%d", c, n, i), data); err != nil {
						errs[c] = err
						return
					}
				}
				images.Add(1)
			}
		})
	}
	all.Wait()
	fmt.Println(images.Load())
	return errors.Join(errs...)
}

// writeDurably is create, write, fsync, rename, fsync of the directory.
func writeDurably(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// smallImage makes the nth image of a client: a layer of 4 KiB that no other
// image has, its config and its manifest.
func smallImage(client, n int) (layer, config, manifest []byte) {
	layer = make([]byte, 4<<10)
	rand.Read(layer)
	config = fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","config":{"Labels":{"client":"%d","image":"%d"}},"rootfs":{"type":"layers","diff_ids":[]}}`, client, n)
	manifest = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		manifestType, digest.FromBytes(config), len(config), digest.FromBytes(layer), len(layer))
	return layer, config, manifest
}

// childProcess is how the test binary is run in a role.
func childProcess(t testing.TB, role string, args ...string) *Process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &Process{Name: role, Path: self, Args: args, Env: []string{childRole + "=" + role}}
}

// startFileServer serves dir by Go's own file server and returns its base URL.
func startFileServer(t testing.TB, dir string) (*Process, string) {
	t.Helper()
	addr := loopback(freePort(t))
	p := childProcess(t, fileServerRole, dir, addr)
	p.ready = "http://" + addr + "/"
	p.start(t)
	p.waitReady(t)
	return p, "http://" + addr
}

// startNginx serves dir by nginx with sendfile and returns its base URL.
func startNginx(t testing.TB, dir string) (*Process, string) {
	t.Helper()
	const nginx = "/usr/sbin/nginx"
	if _, err := os.Stat(nginx); err != nil {
		t.Fatalf("nginx is missing (it is in Debian's package nginx-light): %v", err)
	}
	own := t.TempDir()
	addr := loopback(freePort(t))
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off; sendfile on; tcp_nopush on;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	server { listen %[2]s; root %[3]s; autoindex on; }
}
`, own, addr, dir)
	path := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: "nginx", Path: nginx, Args: []string{"-e", "stderr", "-c", path}, ready: "http://" + addr + "/"}
	p.start(t)
	p.waitReady(t)
	return p, "http://" + addr
}

// quiet sends a program's log, which has a line per request, to where it costs
// this process nothing. All else is as by default.
func quiet(config map[string]any) {
	config["log"] = map[string]any{"level": "info", "output": os.DevNull}
}

// startBerth starts a topology as users would, but for its log.
func startBerth(t testing.TB, topology Topology) *System {
	t.Helper()
	return Start(t, Options{Topology: topology, Edit: quiet})
}
