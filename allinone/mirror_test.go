package allinone

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/gateway"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
)

// serveMirror returns the address of a gateway over stores in memory and a mirror.
func serveMirror(t *testing.T, blobs registry.Blobs, catalog registry.Catalog, m registry.Mirror) *httptest.Server {
	t.Helper()
	g, err := gateway.New(gateway.Defaults(), gateway.Deps{Blobs: blobs, Catalog: catalog, Mirror: m}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	t.Cleanup(func() { srv.Close(); g.Close() })
	return srv
}

// TestMirrorOfBerth: clients of one Berth pull what another has, by its config file,
// with the syncer in the same process and behind gRPC.
func TestMirrorOfBerth(t *testing.T) {
	for _, topology := range []string{"linked", "split"} {
		t.Run(topology, func(t *testing.T) { testMirrorOfBerth(t, topology == "split") })
	}
}

func testMirrorOfBerth(t *testing.T, split bool) {
	ctx := t.Context()
	upBlobs, upCatalog := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{})
	up := serveMirror(t, upBlobs, upCatalog, nil)
	layer := make([]byte, 2<<20)
	rand.Read(layer)
	push := func(b []byte) registry.Descriptor {
		d := registry.SHA256.FromBytes(b)
		u, err := upBlobs.Start(ctx, "", registry.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		s, err := upBlobs.Commit(ctx, u, bytes.NewReader(b), d)
		if err == nil {
			_, err = upCatalog.Link(ctx, operator, "team/app", s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(b))}
	}
	image, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": push([]byte("{}")), "layers": []registry.Descriptor{push(layer)}})
	if err != nil {
		t.Fatal(err)
	}
	put := registry.ManifestPut{Digest: registry.SHA256.FromBytes(image), MediaType: registry.TypeManifest, Bytes: image, Tags: []registry.Tag{"v1"}}
	if _, err := upCatalog.PutManifest(ctx, operator, "team/app", put); err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	file := filepath.Join(dir, "config.json")
	text := fmt.Sprintf(`{"storage":{"rootDirectory":%q},"http":{"port":"0"},"extensions":{"sync":{"registries":[
		{"urls":[%q],"onDemand":true,"content":[{"prefix":"**","destination":"/hq"}],"localPushes":"deny"},
		{"urls":[%q],"onDemand":true,"content":[{"prefix":"**"}]}]}}}`, dir, up.URL, up.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	blobs, catalog := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{})
	s, err := syncer.OpenConfigured(ctx, cfg, syncer.Parts{Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer}}, blobs, catalog, func(err error) { t.Error(err) },
		daemon.Process{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	var mirror registry.Mirror = s
	if split {
		mirror = rpctest.Mirror(t, s)
	}
	srv := serveMirror(t, blobs, catalog, mirror)
	do := func(method, path, ranged string) (int, http.Header, []byte) {
		req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if ranged != "" {
			req.Header.Set("Range", ranged)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Error(err)
			return 0, nil, nil
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, resp.Header, b
	}

	if status, _, b := do("GET", "/v2/hq/team/app/manifests/v1", ""); status != 200 || !bytes.Equal(b, image) {
		t.Errorf("manifest: %d, %q", status, b)
	}
	blob := "/v2/hq/team/app/blobs/" + string(registry.SHA256.FromBytes(layer))
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if status, _, b := do("GET", blob, ""); status != 200 || !bytes.Equal(b, layer) {
				t.Errorf("blob: %d, %d bytes", status, len(b))
			}
		})
		all.Go(func() {
			status, h, b := do("GET", blob, "bytes=-1000")
			if status != 206 || !bytes.Equal(b, layer[len(layer)-1000:]) || h.Get("Content-Range") != fmt.Sprintf("bytes %d-%d/%d", len(layer)-1000, len(layer)-1, len(layer)) {
				t.Errorf("a Range: %d, %d bytes, %q", status, len(b), h.Get("Content-Range"))
			}
		})
	}
	all.Wait()

	ns := up.Listener.Addr().String()
	for request, want := range map[string]int{
		"POST /v2/hq/team/app/blobs/uploads/":                                     403, // the rule denies pushes
		"POST /v2/team/app/blobs/uploads/":                                        202,
		"POST /v2/team/app/blobs/uploads/?ns=" + ns:                               405,
		"GET /v2/team/app/manifests/v1?ns=" + ns:                                  200,
		"GET /v2/team/app/manifests/v1?ns=quay.io":                                404,
		"GET /v2/team/app/manifests/v2":                                           404,
		"GET /v2/team/other/manifests/v1":                                         404,
		"GET /v2/team/app/referrers/" + string(put.Digest):                        200,
		"GET /v2/hq/team/app/blobs/" + string(registry.SHA256.FromString("none")): 404,
	} {
		var method, path string
		fmt.Sscan(request, &method, &path)
		if status, _, b := do(method, path, ""); status != want {
			t.Errorf("%s: %d %s, want %d", request, status, b, want)
		}
	}

	// The upstream goes: what was pulled stays.
	up.Close()
	if status, _, b := do("GET", "/v2/hq/team/app/manifests/v1", ""); status != 200 || !bytes.Equal(b, image) {
		t.Errorf("with the upstream gone: %d, %q", status, b)
	}
	if status, _, _ := do("GET", "/v2/hq/team/app/manifests/v3", ""); status != 503 {
		t.Errorf("what was not pulled, with the upstream gone: %d", status)
	}
}
