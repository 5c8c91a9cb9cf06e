package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestPagesOfOtherSites: what a page of another site has a browser send, with what the
// browser knows of the user, changes nothing: no key is trusted, no upload begins.
// Clients that are no browsers say nothing of sites, and may.
func TestPagesOfOtherSites(t *testing.T) {
	x := newGated(t)
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(mine.Public())
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	trusted := func() int {
		all, err := x.deps.Catalog.Trusted(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	content := []byte("x")
	whole := "/v2/a/blobs/uploads/?digest=" + string(registry.SHA256.FromBytes(content))
	for _, from := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: https://evil.example.org", "Origin: null"} {
		do(t, "POST", x.url+"/v2/_zot/ext/cosign", strings.NewReader(key), from, "Content-Type: text/plain").want(t, 403)
		do(t, "POST", x.url+"/v2/_zot/ext/notation", strings.NewReader(key), from, "Content-Type: text/plain").want(t, 403)
		do(t, "POST", x.url+"/v2/a/blobs/uploads/", nil, from).want(t, 403)
		do(t, "POST", x.url+whole, strings.NewReader("x"), from, "Content-Type: text/plain").want(t, 403)
		if n := trusted(); n != 0 {
			t.Fatalf("%s: %d keys are trusted", from, n)
		}
	}
	do(t, "POST", x.url+whole, strings.NewReader("x"), "Sec-Fetch-Site: same-origin").want(t, 201)
	do(t, "POST", x.url+"/v2/_zot/ext/cosign", strings.NewReader(key)).want(t, 200)
	if n := trusted(); n != 1 {
		t.Errorf("%d keys are trusted", n)
	}
}
