package allinone

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/services/gateway"
)

// simUndo is how long what is deleted can be restored; a lease is 10 minutes.
const simUndo = 30 * time.Minute

// simSystem is a gateway, a catalog on SQLite and a blobstore on a disk, each in a
// process of its own that can end at any moment, and a network between them.
type simSystem struct {
	t        *testing.T
	net      *simNet
	dir      string
	restarts int
	blobs    Blobs
	catalog  Catalog
	running  map[string]*simProcess
	front    atomic.Pointer[simFront]
}

// simFront is what a gateway answers with.
type simFront struct{ http.Handler }

// simProcess is a process of one service.
type simProcess struct {
	disk string             // its directory, "" if it has none
	ctx  context.Context    // ends with it
	end  context.CancelFunc // at once: nothing that it says is heard
	over func()             // waits until what it had is gone
}

func startSimSystem(t *testing.T, seed uint64) *simSystem {
	s := &simSystem{t: t, net: newSimNet(seed), dir: t.TempDir(), running: map[string]*simProcess{}}
	for _, name := range simServices {
		s.start(name, s.newDisk(name))
	}
	return s
}

var simServices = []string{"blobstore", "metadata", "gateway"}

func (s *simSystem) newDisk(name string) string {
	s.restarts++
	dir := filepath.Join(s.dir, name+strconv.Itoa(s.restarts))
	if err := os.Mkdir(dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	return dir
}

// start starts a service on what is on a disk.
func (s *simSystem) start(name, disk string) {
	t := s.t
	p := &simProcess{disk: disk}
	p.ctx, p.end = context.WithCancel(context.WithoutCancel(t.Context()))
	s.running[name] = p
	cfg := config.Defaults()
	cfg.Storage.RootDirectory, cfg.Storage.UndoWindow, cfg.Storage.Reserve = disk, simUndo, 0
	cfg.Storage.GCDelay, cfg.Storage.GCInterval = time.Minute, 10*time.Minute
	process := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	dial := func(to string) []string { return []string{"passthrough:///" + to} }
	var err error
	switch name {
	case "blobstore":
		if s.blobs, err = localParts().Blobs(p.ctx, cfg, process); err == nil {
			blobs := s.blobs
			ended := s.serve(p, name, blobs, func(srv *grpc.Server) { rpc.ServeBlobs(srv, blobs) })
			p.over = func() { ended(); blobs.Close() }
		}
	case "metadata":
		var reaper *rpc.RemoteBlobs
		if reaper, err = rpc.DialBlobs(dial("blobstore"), rpc.DialOptions{Dialer: s.dialer(p, name, "blobstore")}); err != nil {
			break
		}
		fatal := func(err error) {
			if p.ctx.Err() == nil {
				t.Errorf("fatal: %v", err)
			}
		}
		if s.catalog, err = localParts().Catalog(p.ctx, cfg, reaper, fatal, process); err == nil {
			catalog := s.catalog
			ended := s.serve(p, name, catalog, func(srv *grpc.Server) { rpc.ServeCatalog(srv, catalog) })
			p.over = func() { ended(); catalog.Close(); reaper.Close() }
		}
	default:
		blobs, err1 := rpc.DialBlobs(dial("blobstore"), rpc.DialOptions{Dialer: s.dialer(p, name, "blobstore")})
		catalog, err2 := rpc.DialCatalog(dial("metadata"), rpc.DialOptions{Dialer: s.dialer(p, name, "metadata")})
		if err = errors.Join(err1, err2); err != nil {
			break
		}
		var g http.Handler
		if g, err = gateway.New(gateway.Defaults(), gateway.Deps{Blobs: blobs, Catalog: catalog}, process.Log); err == nil {
			s.front.Store(&simFront{g})
			p.over = func() { blobs.Close(); catalog.Close() }
		}
	}
	if err != nil {
		t.Fatalf("starting the %s: %v", name, err)
	}
}

// dialer makes connections for a process as long as it runs.
func (s *simSystem) dialer(p *simProcess, from, to string) func(context.Context, string) (net.Conn, error) {
	dial := s.net.dialer(from, to)
	return func(ctx context.Context, address string) (net.Conn, error) {
		if p.ctx.Err() != nil {
			return nil, p.ctx.Err()
		}
		return dial(ctx, address)
	}
}

// serve serves gRPC on a host, and returns what waits for its end.
func (s *simSystem) serve(p *simProcess, host string, check registry.Checker, register func(*grpc.Server)) (ended func()) {
	srv := rpc.NewServer(rpc.ServerOptions{})
	register(srv)
	listener, done := s.net.listen(host), make(chan struct{})
	go func() {
		defer close(done)
		if err := rpc.Serve(p.ctx, listener, srv, check, 0); err != nil && p.ctx.Err() == nil {
			s.t.Errorf("serving the %s: %v", host, err)
		}
	}()
	return func() { <-done }
}

// crash ends a service as kill -9 does: what it had written is on the disk that is
// returned, and what it does from now on nobody sees.
func (s *simSystem) crash(name string) (disk string) {
	p := s.running[name]
	if p.disk != "" { // all others wait at this moment
		disk = s.newDisk(name)
		if err := os.CopyFS(disk, os.DirFS(p.disk)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.net.cut(name)
	p.end()
	if name == "gateway" {
		s.front.Store(nil)
	}
	p.over()
	return disk
}

// stop ends all services in order.
func (s *simSystem) stop() {
	for _, name := range []string{"gateway", "metadata", "blobstore"} {
		s.running[name].end()
		s.running[name].over()
		s.net.cut(name)
	}
}
