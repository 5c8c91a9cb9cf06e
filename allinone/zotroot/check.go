package zotroot

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Get returns the status and the body of an answer.
func Get(t testing.TB, url string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

// Check pulls all that there is by digest and by tag, from the registry at url.
func (r *Root) Check(t testing.TB, url string) {
	t.Helper()
	for _, m := range r.Manifests {
		for _, ref := range append([]string{m.Digest.String()}, m.Tags...) {
			if code, b := Get(t, url+"/v2/"+m.Repo+"/manifests/"+ref); code != http.StatusOK || !bytes.Equal(b, m.Bytes) {
				t.Errorf("%s %s: %d %.200s", m.Repo, ref, code, b)
			}
		}
		_, list := Get(t, url+"/v2/"+m.Repo+"/referrers/"+m.Digest.String())
		for _, d := range m.Referrers {
			if !strings.Contains(string(list), d.String()) {
				t.Errorf("%s: %s does not refer to %s: %s", m.Repo, d, m.Digest, list)
			}
		}
	}
	for _, b := range r.Blobs {
		if code, got := Get(t, url+"/v2/"+b.Repo+"/blobs/"+b.Digest.String()); code != http.StatusOK || b.Digest.Algorithm().FromBytes(got) != b.Digest {
			t.Errorf("%s %s: %d", b.Repo, b.Digest, code)
		}
	}
	for repo, d := range r.Missing {
		if code, _ := Get(t, url+"/v2/"+repo+"/manifests/"+d.String()); code != http.StatusNotFound {
			t.Errorf("damaged manifest %s: %d", d, code)
		}
	}
	_, list := Get(t, url+"/v2/_catalog?n=1000")
	for _, name := range r.Repositories {
		if !strings.Contains(string(list), `"`+name+`"`) {
			t.Errorf("%s is not in %s", name, list)
		}
	}
}
