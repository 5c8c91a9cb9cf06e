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
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/identity"
	"github.com/berth-registry/berth/services/gateway/search"
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

// TestSessionsSearch: who has logged in to the web UI finds by the cookie what he may
// read; without the UI's header, or from another site, the cookie is nothing.
func TestSessionsSearch(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{})
	s := w.deps.Identity
	w.deps.Auth = auth.New(auth.Options{Closed: true, Admit: s.Admit, Methods: auth.Methods{Basic: []auth.Method{s.Basic(), passwords{"alice"}}, Session: []auth.Method{s.Session()}}})
	var err error
	if w.deps.Search, err = search.New(search.Options{Catalog: w.deps.Catalog}); err != nil {
		t.Fatal(err)
	}
	at := w.serve(t)
	const ui = "X-Zot-Api-Client: zot-ui"
	a := do(t, "GET", at+"/v2/", nil, append(basic("alice", "alice"), ui)...).want(t, 200)
	cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	cookie = "Cookie: " + cookie
	const asked = "/v2/_zot/ext/search?query=%7BImageList%7BTags%7D%7D"
	do(t, "GET", at+asked, nil, cookie, ui).want(t, 200)
	const body = `{"query":"{ImageList{Tags}}"}`
	do(t, "POST", at+"/v2/_zot/ext/search", strings.NewReader(body), cookie, ui, "Content-Type: application/json").want(t, 200)
	do(t, "GET", at+asked, nil, cookie).want(t, 401)
	do(t, "POST", at+"/v2/_zot/ext/search", strings.NewReader(body), cookie, ui, "Content-Type: application/json", "Sec-Fetch-Site: cross-site").want(t, 403)
	do(t, "POST", at+"/v2/_zot/ext/search", strings.NewReader(body), cookie, ui, "Content-Type: text/plain").want(t, 403)
	do(t, "GET", at+"/v2/_catalog", nil, cookie, ui).want(t, 401)
}
