package allinone

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/gateway"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

func localParts() Parts {
	return Stores(
		map[string]blobstore.OpenPool{"local": disk.OpenPool},
		metadata.Drivers{Databases: map[string]metadata.OpenDB{"sqlite": sqlite.OpenConfigured}},
	)
}

// stores opens both stores in a new directory.
func stores(t *testing.T) (Blobs, Catalog) {
	t.Helper()
	return storesIn(t, t.TempDir())
}

// storesIn opens both stores in root.
func storesIn(t *testing.T, root string) (Blobs, Catalog) {
	t.Helper()
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = root
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	parts := localParts()
	blobs, err := parts.Blobs(t.Context(), cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { blobs.Close() })
	catalog, err := parts.Catalog(t.Context(), cfg, blobs, func(err error) { t.Error(err) }, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { catalog.Close() })
	return blobs, catalog
}

// serve serves the ports on a listener that wrap may replace, and returns the URL.
func serve(t *testing.T, blobs registry.Blobs, catalog registry.Catalog, wrap func(net.Listener) net.Listener) string {
	t.Helper()
	g, err := gateway.New(gateway.Defaults(), gateway.Deps{Blobs: blobs, Catalog: catalog}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := g.Server()
	go srv.Serve(wrap(l))
	t.Cleanup(func() { srv.Close() })
	return "http://" + l.Addr().String()
}

// inBoth runs a test linked in one process, and split over gRPC.
func inBoth(t *testing.T, test func(t *testing.T, url string)) {
	plain := func(l net.Listener) net.Listener { return l }
	t.Run("linked", func(t *testing.T) {
		blobs, catalog := stores(t)
		test(t, serve(t, blobs, catalog, plain))
	})
	t.Run("split", func(t *testing.T) {
		blobs, catalog := stores(t)
		test(t, serve(t, rpctest.Blobs(t, blobs), rpctest.Catalog(t, catalog), plain))
	})
}

// TestP61S101ManifestOfExactlyTheLimit pushes a manifest of 4 MiB, which must pass every
// limit on the way, and one of a byte more, which must not.
func TestP61S101ManifestOfExactlyTheLimit(t *testing.T) {
	inBoth(t, func(t *testing.T, url string) {
		config := []byte("{}")
		push(t, url+"/v2/big", config)
		for size, want := range map[int]int{registry.MaxManifest: 201, registry.MaxManifest + 1: 413} {
			m := manifestOfSize(t, config, size)
			resp := send(t, http.MethodPut, url+"/v2/big/manifests/t", m, registry.TypeManifest)
			if resp.StatusCode != want {
				t.Errorf("manifest of %d bytes: got %s, want %d", size, resp.Status, want)
			}
			if want != 201 {
				continue
			}
			if got := body(t, url+"/v2/big/manifests/t"); !bytes.Equal(got, m) {
				t.Errorf("manifest of %d bytes came back with %d other bytes", size, len(got))
			}
		}
	})
}

func manifestOfSize(t *testing.T, config []byte, size int) []byte {
	t.Helper()
	make := func(pad int) []byte {
		b, err := json.Marshal(map[string]any{
			"schemaVersion": 2,
			"mediaType":     registry.TypeManifest,
			"config":        map[string]any{"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest.FromBytes(config), "size": len(config)},
			"layers":        []any{},
			"annotations":   map[string]string{"pad": strings.Repeat("x", pad)},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return make(size - len(make(0)))
}

// TestBlobGetUsesSendfile fails if anything between the disk and the TCP
// connection (middleware, a listener or reader that wraps) hides the file, so
// that bytes would be copied through user space.
func TestBlobGetUsesSendfile(t *testing.T) {
	blobs, catalog := stores(t)
	var files atomic.Int64
	url := serve(t, blobs, catalog, func(l net.Listener) net.Listener { return gateway.Bulk(&spyListener{l, &files}) })
	blob := bytes.Repeat([]byte("berth"), 1<<20)
	d := push(t, url+"/v2/a/b", blob)
	if got := body(t, url+"/v2/a/b/blobs/"+d); !bytes.Equal(got, blob) {
		t.Fatalf("got %d bytes, want %d", len(got), len(blob))
	}
	if files.Load() == 0 {
		t.Error("the blob went through user space")
	}
}

type spyListener struct {
	net.Listener
	files *atomic.Int64
}

func (l *spyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &spyConn{c.(*net.TCPConn), l.files}, nil
}

// spyConn counts how often it is given a file to send.
type spyConn struct {
	*net.TCPConn
	files *atomic.Int64
}

func (c *spyConn) ReadFrom(r io.Reader) (int64, error) {
	if lr, ok := r.(*io.LimitedReader); ok {
		if _, ok := lr.R.(*os.File); ok {
			c.files.Add(1)
		}
	}
	return c.TCPConn.ReadFrom(r)
}

// TestGatewayNeedsNoStorage starts what berth-gateway starts, from a file that
// has no storage section and so no secret of any store.
func TestGatewayNeedsNoStorage(t *testing.T) {
	cfg, _, err := config.Parse("config.json", []byte(`{
		"http": {"address": "127.0.0.1", "port": "0"},
		"services": {"blobstore": {"address": "127.0.0.1:1"}, "metadata": {"address": ["127.0.0.1:1", "127.0.0.1:2"]}}
	}`), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.ValidateFor(config.OnlyGateway); err != nil {
		t.Fatal(err)
	}
	units, err := Link(t.Context(), cfg, Parts{}, daemon.Process{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Abandon(units); err != nil {
		t.Error(err)
	}
}

// TestLinkGivesBackWhatItOpened fails if a start that did not succeed leaves the
// store locked.
func TestLinkGivesBackWhatItOpened(t *testing.T) {
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = t.TempDir()
	cfg.HTTP.Address, cfg.HTTP.Port = "192.0.2.1", "1" // not an address of this machine (RFC 5737)
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	if _, err := Link(t.Context(), cfg, localParts(), p); err == nil {
		t.Fatal("linked on an address this machine does not have")
	}
	cfg.HTTP.Address, cfg.HTTP.Port = "127.0.0.1", "0"
	units, err := Link(t.Context(), cfg, localParts(), p)
	if err != nil {
		t.Fatalf("the store was not given back: %v", err)
	}
	if err := daemon.Abandon(units); err != nil {
		t.Error(err)
	}
}

// push uploads a blob to the repository at base and returns its digest.
func push(t *testing.T, base string, b []byte) string {
	t.Helper()
	d := digest.FromBytes(b).String()
	resp := send(t, http.MethodPost, base+"/blobs/uploads/?digest="+d, b, "application/octet-stream")
	if resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushing a blob: %s", resp.Status)
	}
	return d
}

func send(t *testing.T, method, url string, b []byte, contentType string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(fmt.Errorf("reading the answer: %w", err))
	}
	return resp
}

func body(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %s", url, resp.Status, b)
	}
	return b
}
