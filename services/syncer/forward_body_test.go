package syncer_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// breaking is a transport whose uploads break off. It keeps the bodies: a transport may
// read one when the request has failed already.
type breaking struct{ bodies chan io.ReadCloser }

func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	status, header := http.StatusNotFound, http.Header{}
	switch r.Method {
	case http.MethodPost:
		status = http.StatusAccepted
		header.Set("Location", "/v2/a/blobs/uploads/1")
	case http.MethodPatch:
		b.bodies <- r.Body
		return nil, errors.New("connection reset by peer")
	}
	return &http.Response{StatusCode: status, Header: header, Body: http.NoBody, Request: r}, nil
}

// TestUploadBreaksOff: an upload that breaks off while its body is read is a failed
// attempt, and nothing else: who reads on finds no bytes of another place.
func TestUploadBreaksOff(t *testing.T) {
	transport := &breaking{make(chan io.ReadCloser, 100)}
	w := open(t, forwarding(t, transport))
	ctx := t.Context()
	w.announced(t, "a", w.pushImage(t, "a", "v1", "layer"), "v1")
	var body io.ReadCloser
	select {
	case body = <-transport.bodies:
	case <-time.After(time.Minute):
		t.Fatal("nothing is uploaded")
	}
	waitFor(t, "the attempt has failed", func() bool {
		all, err := w.Forwards(ctx, registry.ForwardQuery{Limit: 10})
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].Attempts > 0
	})
	got, err := io.ReadAll(body)
	if !strings.HasPrefix("layer", string(got)) {
		t.Errorf("who reads on gets %q, %v", got, err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
}

// pushImage stores an image with a layer of its own, which is its config, too.
func (w *world) pushImage(t *testing.T, repo registry.Name, tag registry.Tag, layer string) registry.Digest {
	t.Helper()
	desc := w.pushBlob(t, repo, layer)
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": desc, "layers": []registry.Descriptor{desc}})
	if err != nil {
		t.Fatal(err)
	}
	put := registry.ManifestPut{Digest: registry.SHA256.FromBytes(b), MediaType: registry.TypeManifest, Bytes: b, Tags: []registry.Tag{tag}}
	if _, err := w.catalog.PutManifest(t.Context(), nobody, repo, put); err != nil {
		t.Fatal(err)
	}
	return put.Digest
}
