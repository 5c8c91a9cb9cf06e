package allinone

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/services/gateway"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
)

// openMirror returns a syncer over stores, which mirrors upstream by a config file in
// root.
func openMirror(t *testing.T, root, rules string, blobs registry.Blobs, catalog registry.Catalog) *syncer.Configured {
	t.Helper()
	file := filepath.Join(root, "mirror.json")
	text := fmt.Sprintf(`{"storage":{"rootDirectory":%q},"http":{"port":"0"},"extensions":{"sync":{"registries":[%s]}}}`, root, rules)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := syncer.OpenConfigured(t.Context(), cfg, syncer.Parts{Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer}}, blobs, catalog, func(err error) { t.Error(err) },
		daemon.Process{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// written returns how many bytes this process has handed to the kernel to write, to
// files and sockets.
func written(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip("this system does not count what is written")
	}
	var n int64
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "wchar: "); ok {
			fmt.Sscan(v, &n)
		}
	}
	return n
}

// TestMirroredBlobIsWrittenOnce: what comes from an upstream is written to the disk
// once, also when a client reads it meanwhile.
func TestMirroredBlobIsWrittenOnce(t *testing.T) {
	layer := make([]byte, 32<<20)
	rand.Read(layer)
	d := registry.SHA256.FromBytes(layer)
	var sent atomic.Int64 // by the upstream, in this process
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+string(d)) {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", testTime, bytes.NewReader(layer))
		if r.Method == http.MethodGet {
			sent.Add(int64(len(layer)))
		}
	}))
	defer up.Close()
	root := t.TempDir()
	blobs, catalog := storesIn(t, root)
	s := openMirror(t, root, fmt.Sprintf(`{"urls":[%q],"onDemand":true}`, up.URL), blobs, catalog)
	before := written(t)
	c, err := s.Open(t.Context(), registry.Actor{}, "a", d, registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(c)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err != nil || !bytes.Equal(got, layer) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	kept(t, catalog, "a", d)
	files := written(t) - before - sent.Load()
	t.Logf("%d bytes of a blob were written as %d (%.3f)", len(layer), files, float64(files)/float64(len(layer)))
	if sent.Load() == 0 || float64(files) > 1.05*float64(len(layer)) {
		t.Errorf("%d bytes of a blob were written as %d", len(layer), files)
	}
	left, err := filepath.Glob(filepath.Join(root, ".berth", "sync", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("what is left of the fetch: %v, %v", left, err)
	}
}

// TestPushesWithoutMirror: while the syncer of a split system is down pushes go on
// into repositories that no rule covers, and into no other.
func TestPushesWithoutMirror(t *testing.T) {
	ctx := t.Context()
	up := httptest.NewServer(http.NotFoundHandler())
	defer up.Close()
	blobs, catalog := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{})
	s := openMirror(t, t.TempDir(), fmt.Sprintf(`{"urls":[%q],"onDemand":true,"content":[{"prefix":"**","destination":"/hq"}],"localPushes":"deny"},
		{"urls":[%q],"onDemand":true,"content":[{"prefix":"team/**"}]}`, up.URL, up.URL), blobs, catalog)
	var listen net.ListenConfig
	l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := rpc.NewServer(rpc.ServerOptions{})
	rpc.ServeMirror(srv, s, catalog)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	m, err := rpc.DialMirror([]string{l.Addr().String()}, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	serve := func(learn bool) *httptest.Server {
		g, err := gateway.New(gateway.Defaults(), gateway.Deps{Blobs: blobs, Catalog: catalog, Mirror: m}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if learn {
			if err := g.LearnMirror(ctx); err != nil {
				t.Fatal(err)
			}
		}
		srv := httptest.NewServer(g)
		t.Cleanup(func() { srv.Close(); g.Close() })
		return srv
	}
	told, untold := serve(true), serve(false)
	check := func(when string, on *httptest.Server, want map[string]int) {
		for repo, status := range want {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, on.URL+"/v2/"+repo+"/blobs/uploads/", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := on.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != status {
				t.Errorf("%s, a push into %s: %d, want %d", when, repo, resp.StatusCode, status)
			}
		}
	}
	check("up", told, map[string]int{"own": 202, "team/app": 202, "hq/app": 403})
	srv.Stop()
	if err := <-ended; err != nil && err != grpc.ErrServerStopped {
		t.Error(err)
	}
	check("down", told, map[string]int{"own": 202, "own/app": 202, "team/app": 503, "hq/app": 503})
	check("down and never heard of", untold, map[string]int{"own": 503, "hq/app": 503})
}

// testTime is when the content of tests was changed.
var testTime = time.Unix(1_700_000_000, 0)

// kept waits until the catalog knows a blob.
func kept(t *testing.T, c registry.Catalog, repo registry.Name, d registry.Digest) {
	t.Helper()
	waitFor(t, func() bool {
		_, err := c.Blob(t.Context(), operator, repo, d)
		return err == nil
	})
}
