package vulndb

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestS148PinnedDatabase: of a database that is pinned by digest nothing else is taken,
// whatever the registry sends.
func TestS148PinnedDatabase(t *testing.T) {
	manifestOf := func(layer string) []byte {
		b, err := json.Marshal(map[string]any{"schemaVersion": 2, "layers": []any{map[string]any{"mediaType": layerType, "digest": registry.SHA256.FromString(layer), "size": len(layer)}}})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	layer := "reviewed"
	pinned := registry.SHA256.FromBytes(manifestOf(layer))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			_, _ = io.WriteString(w, layer)
			return
		}
		_, _ = w.Write(manifestOf(layer))
	}))
	defer server.Close()
	ref, err := ParseRef(server.URL + "/trivy-db@" + string(pinned))
	if err != nil || !strings.HasSuffix(ref.String(), "/trivy-db@"+string(pinned)) {
		t.Fatal(ref, err)
	}
	p := &Puller{Client: server.Client(), Ref: ref}
	r, _, err := p.Pull(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != layer {
		t.Errorf("got %q, %v", b, err)
	}
	layer = "malware"
	if r, d, err := p.Pull(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "another one") {
		t.Errorf("got %v, %s, %v", r, d, err)
	}
	p.Ref.Tag = "2" // who pins nothing takes what there is
	r, _, err = p.Pull(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
}
