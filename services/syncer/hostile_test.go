package syncer_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// hostile is an upstream registry that records what it is asked and, if a test says
// so, behaves badly.
type hostile struct {
	*httptest.Server

	mu        sync.Mutex
	manifests map[string]stored // repo/reference
	blobs     map[registry.Digest][]byte
	referrers map[registry.Digest][]registry.Descriptor
	requests  []string
	// answer, if set, may answer a request itself; it returns whether it has.
	answer func(w http.ResponseWriter, r *http.Request) bool
	// cut, if set, is how many bytes of a blob are sent before the connection breaks.
	cut func(d registry.Digest, left int) int
	// hold, if set, is waited for before each blob's second half.
	hold chan struct{}
}

type stored struct {
	mediaType string
	content   []byte
}

func newHostile(t *testing.T) *hostile {
	h := &hostile{manifests: map[string]stored{}, blobs: map[registry.Digest][]byte{}, referrers: map[registry.Digest][]registry.Descriptor{}}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Server.Close)
	return h
}

// image adds an image with the given layers.
func (h *hostile) image(t *testing.T, repo, tag string, layers ...[]byte) (registry.Digest, []byte) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	config := []byte(`{"architecture":"amd64","os":"linux","tag":"` + tag + `"}`)
	m := map[string]any{
		"schemaVersion": 2, "mediaType": registry.TypeManifest,
		"config": h.blob("application/vnd.oci.image.config.v1+json", config),
	}
	list := []registry.Descriptor{}
	for _, l := range layers {
		list = append(list, h.blob("application/vnd.oci.image.layer.v1.tar", l))
	}
	m["layers"] = list
	return h.add(t, repo, tag, registry.TypeManifest, m)
}

func (h *hostile) blob(mediaType string, b []byte) registry.Descriptor {
	d := registry.SHA256.FromBytes(b)
	h.blobs[d] = b
	return registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func (h *hostile) add(t *testing.T, repo, tag, mediaType string, m any) (registry.Digest, []byte) {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d := registry.SHA256.FromBytes(b)
	h.manifests[repo+"/"+string(d)] = stored{mediaType, b}
	if tag != "" {
		h.manifests[repo+"/"+tag] = stored{mediaType, b}
	}
	return d, b
}

// asked counts the requests that begin with prefix, "GET /v2/x/blobs/" for instance.
func (h *hostile) asked(prefix string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

func (h *hostile) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *hostile) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.requests = append(h.requests, r.Method+" "+r.URL.Path)
	answer := h.answer
	h.mu.Unlock()
	if answer != nil && answer(w, r) {
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/")
	switch {
	case !ok:
		http.NotFound(w, r)
	case rest == "":
		fmt.Fprint(w, "{}")
	case rest == "_catalog":
		h.catalog(w)
	case strings.HasSuffix(rest, "/tags/list"):
		h.tags(w, strings.TrimSuffix(rest, "/tags/list"))
	case strings.Contains(rest, "/manifests/"):
		repo, ref, _ := strings.Cut(rest, "/manifests/")
		h.manifest(w, r, repo+"/"+ref)
	case strings.Contains(rest, "/blobs/"):
		_, d, _ := strings.Cut(rest, "/blobs/")
		h.serveBlob(w, r, registry.Digest(d))
	case strings.Contains(rest, "/referrers/"):
		_, d, _ := strings.Cut(rest, "/referrers/")
		h.mu.Lock()
		list := append([]registry.Descriptor{}, h.referrers[registry.Digest(d)]...)
		h.mu.Unlock()
		w.Header().Set("Content-Type", registry.TypeIndex)
		json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "manifests": list})
	default:
		http.NotFound(w, r)
	}
}

func (h *hostile) catalog(w http.ResponseWriter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen, list := map[string]bool{}, []string{}
	for k := range h.manifests {
		repo := k[:strings.LastIndexByte(k, '/')]
		if !seen[repo] {
			seen[repo] = true
			list = append(list, repo)
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"repositories": list})
}

func (h *hostile) tags(w http.ResponseWriter, repo string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := []string{}
	for k := range h.manifests {
		if tag, ok := strings.CutPrefix(k, repo+"/"); ok && !strings.ContainsAny(tag, ":/") {
			list = append(list, tag)
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"name": repo, "tags": list})
}

func (h *hostile) manifest(w http.ResponseWriter, r *http.Request, key string) {
	h.mu.Lock()
	m, ok := h.manifests[key]
	h.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.content)))
	w.Header().Set("Docker-Content-Digest", string(registry.SHA256.FromBytes(m.content)))
	if r.Method == http.MethodGet {
		w.Write(m.content)
	}
}

func (h *hostile) serveBlob(w http.ResponseWriter, r *http.Request, d registry.Digest) {
	h.mu.Lock()
	b, ok := h.blobs[d]
	cut, hold := h.cut, h.hold
	h.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodGet && hold != nil {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.Write(b[:len(b)/2])
		http.NewResponseController(w).Flush()
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
		w.Write(b[len(b)/2:])
		return
	}
	if r.Method == http.MethodGet && cut != nil {
		from := 0
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		if n := cut(d, len(b)-from); n < len(b)-from {
			w.Header().Set("Content-Length", strconv.Itoa(len(b)-from))
			if from > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
				w.WriteHeader(http.StatusPartialContent)
			}
			w.Write(b[from : from+n])
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
}

// drainBody reads all of a content.
func drainBody(t *testing.T, c registry.Content) ([]byte, error) {
	t.Helper()
	defer c.Close()
	var b bytes.Buffer
	_, err := io.Copy(&b, c)
	return b.Bytes(), err
}
