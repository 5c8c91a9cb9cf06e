package gcp_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/credentials/gcp"
)

// serve answers requests for tokens as Google does, and counts them.
func serve(t *testing.T, path string) (url string, asked *int) {
	t.Helper()
	asked = new(int)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, path) {
			http.NotFound(w, r)
			return
		}
		*asked++
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Metadata-Flavor", "Google")
		io.WriteString(w, `{"access_token":"tok","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, asked
}

func check(t *testing.T, asked *int) {
	t.Helper()
	s, err := gcp.Helper(credentials.Options{Host: "gcr.io", Client: func(...string) (*http.Client, error) { return http.DefaultClient, nil }})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := s(t.Context())
		if err != nil || c.Username != "oauth2accesstoken" || c.Password != "tok" || time.Until(c.Until) > time.Hour {
			t.Fatalf("%+v, %v", c, err)
		}
	}
	if *asked != 1 {
		t.Errorf("%d requests for one token", *asked)
	}
}

func TestServiceAccount(t *testing.T) {
	url, asked := serve(t, "/token")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file, err := json.Marshal(map[string]string{
		"type": "service_account", "client_email": "edge@example.iam", "private_key_id": "1", "token_uri": url + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
	check(t, asked)
}

func TestMachineAccount(t *testing.T) {
	url, asked := serve(t, "/computeMetadata/v1/instance/service-accounts/default/token")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(url, "http://"))
	check(t, asked)
}

// TestHosts: a token for all of Google's cloud is given to Google's registries only.
func TestHosts(t *testing.T) {
	for host, want := range map[string]bool{
		"gcr.io": true, "eu.gcr.io": true, "europe-west1-docker.pkg.dev": true,
		"mirror.example.com": false, "evilgcr.io": false, "gcr.io.example.com": false, "x.pkg.dev.example.com": false, "gcr.io:5000": false, "": false,
	} {
		_, err := gcp.Helper(credentials.Options{Host: host, Client: func(...string) (*http.Client, error) { return http.DefaultClient, nil }})
		if (err == nil) != want {
			t.Errorf("%q: %v", host, err)
		}
	}
}
