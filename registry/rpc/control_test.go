package rpc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// serveControl serves the store at root until the test ends or stop is called.
func serveControl(t *testing.T, root string) (stop func()) {
	t.Helper()
	u, err := ControlUnit(t.Context(), root, memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{}), nil, nil, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- u.Run() }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		if err := errors.Join(u.Stop(context.Background()), <-done); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// TestS137ControlSocket: who may not open the directory may not give commands,
// and a path of any length will do.
func TestS137ControlSocket(t *testing.T) {
	for name, root := range map[string]string{
		"short": t.TempDir(),
		"long":  filepath.Join(t.TempDir(), strings.Repeat("d", 120)),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(filepath.Join(root, ".berth"), 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := DialControl(t.Context(), root); !errors.Is(err, ErrNoControl) {
				t.Errorf("nobody serves: %v", err)
			}
			stop := serveControl(t, root)
			socket := filepath.Join(root, controlSocket)
			if info, err := os.Stat(socket); err != nil || info.Mode() != os.ModeSocket|0o600 {
				t.Errorf("the socket is %v, %v", info.Mode(), err)
			}
			c, err := DialControl(t.Context(), root)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := c.Catalog.Check(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := c.Blobs.Check(t.Context()); err != nil {
				t.Error(err)
			}
			stop()
			if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the socket stays: %v", err)
			}
		})
	}
}

// TestControlWithoutMirrorAndScans: who asks for what the process does not do is told
// that, and by which key it would. Other calls that there are not stay what they were.
func TestControlWithoutMirrorAndScans(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, ".berth"), 0o700); err != nil {
		t.Fatal(err)
	}
	serveControl(t, root)
	c, err := DialControl(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, mirrorErr := c.Mirror.MirrorRules(t.Context())
	_, scansErr := c.Scans.ScanStatus(t.Context(), "a", registry.SHA256.FromString("x"))
	for key, err := range map[string]error{"extensions.sync": mirrorErr, "extensions.search.cve": scansErr} {
		if !errors.Is(err, registry.ErrUnsupported) || !strings.Contains(err.Error(), key) {
			t.Errorf("got %v, want that %s is missing", err, key)
		}
	}
	if err := c.conn.Invoke(t.Context(), "/berth.other.v1.OtherService/Do", &emptypb.Empty{}, &emptypb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("another service: %v", err)
	} else if _, ours := failureOf(status.Convert(err)); ours {
		t.Errorf("another service has words of ours: %v", err)
	}
}

// TestControlSocketOfTheDead: a process that was killed leaves its socket.
func TestControlSocketOfTheDead(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, ".berth"), 0o700); err != nil {
		t.Fatal(err)
	}
	u, err := ControlUnit(t.Context(), root, memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{}), nil, nil, ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(root, controlSocket)
	if err := os.Rename(socket, socket+".kept"); err != nil {
		t.Fatal(err)
	}
	if err := u.Abandon(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(socket+".kept", socket); err != nil {
		t.Fatal(err)
	}
	if _, err := DialControl(t.Context(), root); !errors.Is(err, ErrNoControl) {
		t.Errorf("nobody serves: %v", err)
	}
	serveControl(t, root)
	c, err := DialControl(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Catalog.Check(t.Context()); err != nil {
		t.Error(err)
	}
}
