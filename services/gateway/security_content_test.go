package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

const emptyConfig = `{"mediaType":"application/vnd.oci.empty.v1+json","digest":"` + digestA + `","size":2}`

// putManifest pushes a manifest to repository a, which has the blob "{}".
func putManifest(t *testing.T, url, mediaType, body string) answer {
	t.Helper()
	headers := []string{"Content-Type: " + mediaType}
	if mediaType == "" {
		headers = nil
	}
	return do(t, "PUT", url+"/v2/a/manifests/t", strings.NewReader(body), headers...)
}

// TestS080S081S082AmbiguousManifests pushes what two clients could read in two
// ways.
func TestS080S081S082AmbiguousManifests(t *testing.T) {
	url := newWorld().serve(t)
	pushBlob(t, url, "a", "{}")
	const head = `{"schemaVersion":2,`
	for name, m := range map[string]struct{ mediaType, body string }{
		"S-080 image and index as image":   {registry.TypeManifest, head + `"config":` + emptyConfig + `,"layers":[],"manifests":[]}`},
		"S-080 image and index as index":   {registry.TypeIndex, head + `"config":` + emptyConfig + `,"layers":[],"manifests":[]}`},
		"S-080 layers and manifests":       {registry.TypeIndex, head + `"layers":[],"manifests":[]}`},
		"S-080 schema 1 and 2":             {registry.TypeManifest, head + `"config":` + emptyConfig + `,"layers":[],"fsLayers":[]}`},
		"S-081 another mediaType":          {registry.TypeManifest, head + `"mediaType":"` + registry.TypeDockerManifest + `","config":` + emptyConfig + `,"layers":[]}`},
		"S-081 index in mediaType":         {registry.TypeManifest, head + `"mediaType":"` + registry.TypeIndex + `","config":` + emptyConfig + `,"layers":[]}`},
		"S-081 docker without a mediaType": {registry.TypeDockerManifest, head + `"config":` + emptyConfig + `,"layers":[]}`},
		"S-082 mediaType twice":            {registry.TypeManifest, strings.Replace(emptyImage, `"config"`, `"mediaType":"`+registry.TypeManifest+`","config"`, 1)},
		"S-082 MediaType":                  {registry.TypeManifest, strings.Replace(emptyImage, `"config"`, `"MediaType":"`+registry.TypeIndex+`","config"`, 1)},
		"S-082 data behind the object":     {registry.TypeManifest, emptyImage + "{}"},
		"S-082 byte order mark":            {registry.TypeManifest, "\ufeff" + emptyImage},
		"S-082 NUL":                        {registry.TypeManifest, emptyImage + "\x00"},
		"S-082 not UTF-8":                  {registry.TypeManifest, strings.Replace(emptyImage, `"config"`, "\"x\":\"\xff\",\"config\"", 1)},
	} {
		got := putManifest(t, url, m.mediaType, m.body)
		if got.status != 400 || !strings.Contains(got.body, `"MANIFEST_INVALID"`) {
			t.Errorf("%s: got %d %s", name, got.status, got.body)
		}
		do(t, "GET", url+"/v2/a/manifests/"+registry.SHA256.FromString(m.body).String(), nil).want(t, 404)
	}
	// S-081: nothing says what it is, and a type that no manifest has.
	for mediaType, status := range map[string]int{"": 400, "application/json": 415} {
		for _, body := range []string{head + `"config":` + emptyConfig + `,"layers":[]}`, emptyImage} {
			if got := putManifest(t, url, mediaType, body).want(t, status); !strings.Contains(got.body, `"MANIFEST_INVALID"`) {
				t.Errorf("Content-Type %q: got %s", mediaType, got.body)
			}
		}
	}
	do(t, "GET", url+"/v2/a/manifests/t", nil).want(t, 404)
}

// TestS083MalformedDigests puts them wherever a request can have one.
func TestS083MalformedDigests(t *testing.T) {
	url := newWorld().serve(t)
	pushBlob(t, url, "a", "{}")
	loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
	hex := strings.TrimPrefix(digestA, "sha256:")
	for _, d := range []string{
		"sha256:../../x", "sha256:%2e%2e", "sha256:" + strings.ToUpper(hex), "sha256:" + hex[1:], "sha256:" + hex + "a", "sha256:" + hex + "%00",
		"md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:", "sha256:ab/..", "sha256", ":", "SHA256:" + hex, "sha512:" + hex, "sha256:" + hex[:63] + "g",
	} {
		for _, request := range []string{
			"GET /v2/a/blobs/" + strings.ReplaceAll(d, "/", "%2F"), "DELETE /v2/a/blobs/" + strings.ReplaceAll(d, "/", "%2F"),
			"GET /v2/a/referrers/" + strings.ReplaceAll(d, "/", "%2F"), "PUT " + loc + "&digest=" + d,
			"POST /v2/a/blobs/uploads/?digest=" + d, "POST /v2/b/blobs/uploads/?from=a&mount=" + d,
		} {
			method, target, _ := strings.Cut(request, " ")
			if got := do(t, method, url+target, nil); got.status != 400 || !strings.Contains(got.body, `"DIGEST_INVALID"`) {
				t.Errorf("%s: got %d %s", request, got.status, got.body)
			}
		}
		if strings.Contains(d, "%") {
			continue
		}
		for _, m := range []string{
			strings.Replace(emptyImage, digestA, d, 1),
			strings.Replace(emptyImage, `"layers":[]`, `"layers":[{"mediaType":"a/b","size":1,"digest":"`+d+`"}]`, 1),
			strings.Replace(emptyImage, `"layers"`, `"subject":{"mediaType":"a/b","size":1,"digest":"`+d+`"},"layers"`, 1),
		} {
			if got := putManifest(t, url, registry.TypeManifest, m); got.status != 400 || !strings.Contains(got.body, `"DIGEST_INVALID"`) {
				t.Errorf("descriptor %s: got %d %s", d, got.status, got.body)
			}
		}
	}
	do(t, "GET", url+loc, nil).want(t, 204)
}

// TestS084DigestOfOtherContent leaves nothing readable under either digest.
func TestS084DigestOfOtherContent(t *testing.T) {
	url := newWorld().serve(t)
	pushBlob(t, url, "a", "{}")
	x, y := registry.SHA256.FromString(emptyImage+" "), registry.SHA256.FromString(emptyImage)
	do(t, "PUT", url+"/v2/a/manifests/"+x.String(), strings.NewReader(emptyImage), "Content-Type: "+registry.TypeManifest).want(t, 400)
	do(t, "POST", url+"/v2/a/blobs/uploads/?digest="+x.String(), strings.NewReader(emptyImage)).want(t, 400)
	loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
	if got := do(t, "PUT", url+loc+"&digest="+x.String(), strings.NewReader(emptyImage)).want(t, 400); !strings.Contains(got.body, `"DIGEST_INVALID"`) {
		t.Errorf("got %s", got.body)
	}
	for _, d := range []registry.Digest{x, y} {
		for _, collection := range []string{"blobs", "manifests"} {
			do(t, "GET", url+"/v2/a/"+collection+"/"+d.String(), nil).want(t, 404)
		}
	}
}

// TestS085TwoNamesOfTheSameBytes: delete takes a manifest away under both of its
// digests. It is the only rule there is that could be got around so far.
func TestS085TwoNamesOfTheSameBytes(t *testing.T) {
	url := newWorld().serve(t)
	short := pushImage(t, url, "a", "t")
	long := registry.SHA512.FromString(emptyImage)
	at := func(d registry.Digest) string { return url + "/v2/a/manifests/" + d.String() }
	do(t, "GET", at(long), nil).want(t, 404) // one that nobody pushed is not made up
	do(t, "PUT", at(long)+"?tag=l", strings.NewReader(emptyImage), "Content-Type: "+registry.TypeManifest).want(t, 201)
	if got := do(t, "GET", at(long), nil).want(t, 200); got.body != emptyImage || got.header.Get("Docker-Content-Digest") != long.String() {
		t.Errorf("got %v", got)
	}
	do(t, "DELETE", at(long), nil).want(t, 202)
	for _, target := range []string{at(short), at(long), url + "/v2/a/manifests/t", url + "/v2/a/manifests/l", url + "/v2/a/blobs/" + short.String(), url + "/v2/a/blobs/" + long.String()} {
		do(t, "GET", target, nil).want(t, 404)
	}
}

const markup = `<img src=x onerror=alert(1)><script>alert(1)</script>`

// TestS090S091S092NothingIsAPage: no text and no file that somebody pushed is
// HTML to a browser.
func TestS090S091S092NothingIsAPage(t *testing.T) {
	url := newWorld().serve(t)
	image := pushImage(t, url, "a", "t")
	page := pushBlob(t, url, "a", "<!DOCTYPE html>"+markup)
	quoted := strings.ReplaceAll(markup, `"`, `\"`)
	referrer := strings.Replace(emptyImage, `"layers"`, fmt.Sprintf(`"annotations":{"org.opencontainers.image.title":"%s"},"subject":{"mediaType":"a/b","size":1,"digest":"%s"},"layers"`, quoted, image), 1)
	do(t, "PUT", url+"/v2/a/manifests/x", strings.NewReader(referrer), "Content-Type: "+registry.TypeManifest).want(t, 201)

	types := map[string]string{
		"/v2/a/blobs/" + page.String():      octets,
		"/v2/a/manifests/x":                 registry.TypeManifest,
		"/v2/a/referrers/" + image.String(): registry.TypeIndex,
		"/v2/a/tags/list":                   "application/json",
		"/v2/_catalog?x=" + markup:          "application/json",
		"/v2/" + markup + "/tags/list":      "application/json",
		"/" + markup:                        "application/json",
		"/v2/a/manifests/" + markup:         "application/json",
		"/livez":                            plainText,
	}
	for target, want := range types {
		target := strings.NewReplacer("<", "%3C", ">", "%3E", " ", "%20").Replace(target)
		got := do(t, "GET", url+target, nil, "Accept: text/html")
		if got.header.Get("Content-Type") != want || got.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got %d %v", target, got.status, got.header)
		}
		if want == "application/json" && strings.Contains(got.body, "<script") {
			t.Errorf("%s: %s", target, got.body)
		}
	}
	got := do(t, "GET", url+"/v2/a/blobs/"+page.String(), nil).want(t, 200).header
	if got.Get("Content-Disposition") != "attachment" || got.Get("Content-Security-Policy") != "sandbox" {
		t.Errorf("S-091: %v", got)
	}
	for _, mediaType := range []string{"text/html", "image/svg+xml", "text/html; charset=utf-8", "TEXT/HTML"} {
		putManifest(t, url, mediaType, emptyImage).want(t, 415) // S-092
	}
	root := do(t, "GET", url+"/", nil).want(t, 200)
	for key, want := range map[string]string{
		"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if root.header.Get(key) != want {
			t.Errorf("the page: %s: %q", key, root.header.Get(key))
		}
	}
	if csp := root.header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(root.body, "<script") {
		t.Errorf("the page: %s\n%s", csp, root.body)
	}
}

// TestS094SizeLies: see also ContentSize in registrytest.
func TestS094SizeLies(t *testing.T) {
	url := newWorld().serve(t)
	pushBlob(t, url, "a", "{}")
	for _, size := range []string{"1", "3", "0", "-1", "-2", "2.5", "9223372036854775808", "18446744073709551618", "1e40", `"2"`, "null"} {
		got := putManifest(t, url, registry.TypeManifest, strings.Replace(emptyImage, `"size":2`, `"size":`+size, 1))
		if got.status != 400 || !strings.Contains(got.body, `"MANIFEST_INVALID"`) {
			t.Errorf("%s: got %d %s", size, got.status, got.body)
		}
		if len(size) == 1 && !strings.Contains(got.body, digestA) {
			t.Errorf("%s: the blob is not named: %s", size, got.body)
		}
	}
	putManifest(t, url, registry.TypeManifest, emptyImage).want(t, 201)

	// The switch lets through what is only a lie, not what is no size.
	w := newWorld()
	w.deps.Catalog = memory.NewCatalog(memory.CatalogOptions{AllowWrongSizes: true})
	url = w.serve(t)
	pushBlob(t, url, "a", "{}")
	for size, want := range map[string]int{"3": 201, "0": 201, "-1": 400, "2.5": 400} {
		putManifest(t, url, registry.TypeManifest, strings.Replace(emptyImage, `"size":2`, `"size":`+size, 1)).want(t, want)
	}
}

// TestS098ForgedHosts: no answer is made of what a client says it was reached by.
func TestS098ForgedHosts(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	guard.deny("secret", registry.ErrUnauthorized)
	w.deps.Catalog = guard
	w.cfg.Host = "registry.example"
	url := w.serve(t)
	image := pushImage(t, url, "a", "t")
	for _, request := range []string{
		"POST /v2/a/blobs/uploads/", "POST /v2/b/blobs/uploads/?from=a&mount=" + digestA, "GET /v2/a/tags/list?n=0", "GET /v2/_catalog?n=1",
		"GET /v2/secret/manifests/t", "GET /v2/a/manifests/" + image.String(), "GET /v2/_oci/ext/discover", "GET /v2/_zot/ext/mgmt", "GET /v2/", "GET /",
	} {
		method, target, _ := strings.Cut(request, " ")
		req, _ := http.NewRequest(method, url+target, nil)
		req.Host = "evil.example"
		for _, h := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Forwarded-For", "Forwarded", "X-Original-Url", "X-Rewrite-Url"} {
			req.Header.Set(h, "evil.example")
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		res.Header.Write(&text)
		res.Write(&text)
		res.Body.Close()
		if strings.Contains(text.String(), "evil") || strings.Contains(text.String(), strings.TrimPrefix(url, "http://")) {
			t.Errorf("%s: %s", request, text.String())
		}
		if loc := res.Header.Get("Location"); loc != "" && !strings.HasPrefix(loc, "/v2/") {
			t.Errorf("%s: Location %s", request, loc)
		}
	}
}

// TestS099CacheRules holds what a cache on the way may do with each answer.
func TestS099CacheRules(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	guard.deny("secret", registry.ErrUnauthorized)
	w.deps.Catalog = guard
	url := w.serve(t)
	image := pushImage(t, url, "a", "t")
	for request, want := range map[string]string{
		"GET /v2/a/manifests/t":                 revalidated,
		"HEAD /v2/a/manifests/t":                revalidated,
		"GET /v2/a/manifests/" + image.String(): immutable,
		"GET /v2/a/blobs/" + digestA:            immutable,
		"GET /v2/a/tags/list":                   unkept,
		"GET /v2/_catalog":                      unkept,
		"GET /v2/a/referrers/" + image.String(): unkept,
		"GET /v2/":                              unkept,
		"GET /v2/_zot/ext/mgmt":                 unkept,
		"POST /v2/a/blobs/uploads/":             unkept,
		"GET /v2/a/manifests/none":              unkept,
		"GET /v2/a/blobs/sha256:none":           unkept,
		"HEAD /v2/secret/blobs/" + digestA:      unkept,
		"GET /nothing":                          unkept,
		"GET /v2/a/blobs/" + digestA + "?x=%zz": unkept,
		"BREW /v2/a/blobs/" + digestA:           unkept,
	} {
		method, target, _ := strings.Cut(request, " ")
		got := do(t, method, url+target, nil).header
		if got.Get("Cache-Control") != want {
			t.Errorf("%s: got %s, want %s", request, got.Get("Cache-Control"), want)
		}
		if strings.HasPrefix(target, "/v2") && got.Get("Vary") != "Authorization" {
			t.Errorf("%s: Vary %s", request, got.Get("Vary"))
		}
	}
	if got := do(t, "GET", url+"/v2/a/manifests/t", nil, "If-None-Match: "+etag(image)).want(t, 304).header; got.Get("Cache-Control") != revalidated || got.Get("Vary") == "" {
		t.Errorf("304: %v", got)
	}
}
