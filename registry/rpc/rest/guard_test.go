package rest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// untouched is a catalog that nobody may ask.
type untouched struct {
	registry.Catalog
	t *testing.T
}

func (u untouched) Repositories(context.Context, registry.Actor, registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	u.t.Error("the catalog was asked")
	return registry.List[registry.Name]{}, nil
}

func (u untouched) DeleteTag(context.Context, registry.Actor, registry.Name, registry.Tag, registry.Condition) error {
	u.t.Error("the catalog was changed")
	return nil
}

// TestS048S068S098LoopbackOnly: from elsewhere, through a proxy, for another
// host or from another site's page, no path of the API says anything.
func TestS048S068S098LoopbackOnly(t *testing.T) {
	w := newWorld(t)
	w.catalog = untouched{memory.NewCatalog(memory.CatalogOptions{}), t}
	h, err := Handler(Options{Blobs: w.blobs, Catalog: w.catalog})
	if err != nil {
		t.Fatal(err)
	}
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000}
	for name, test := range map[string]struct {
		peer   string
		local  net.Addr
		host   string
		header string
		want   string // in the message
	}{
		"another machine":              {peer: "192.0.2.1:4000", want: "other machines"},
		"another machine, IPv6":        {peer: "[2001:db8::1]:4000", want: "other machines"},
		"a link":                       {peer: "[fe80::1%lo]:4000", want: "other machines"},
		"no address":                   {peer: "@", want: "other machines"},
		"a unix socket":                {peer: "127.0.0.1:1", local: &net.UnixAddr{Name: "/s"}, want: "other machines"},
		"to an address of the network": {peer: "127.0.0.1:1", local: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)}, want: "other machines"},
		"rebound name":                 {host: "evil.example:5000", want: "another host name"},
		"almost localhost":             {host: "localhost.evil.example", want: "another host name"},
		"almost an address":            {host: "127.0.0.1.nip.example", want: "another host name"},
		"any address":                  {host: "0.0.0.0:5000", want: "another host name"},
		"short address":                {host: "127.1:5000", want: "another host name"},
		"decimal address":              {host: "2130706433", want: "another host name"},
		"no host":                      {host: "none", want: "another host name"},
		"forwarded":                    {header: "Forwarded: for=127.0.0.1", want: "proxy"},
		"x-forwarded-for":              {header: "X-Forwarded-For: 127.0.0.1", want: "proxy"},
		"x-forwarded-host":             {header: "X-Forwarded-Host: localhost", want: "proxy"},
		"x-forwarded-anything":         {header: "X-Forwarded-Client-Cert: x", want: "proxy"},
		"empty x-forwarded-for":        {header: "X-Forwarded-For: ", want: "proxy"},
		"via":                          {header: "Via: 1.1 x", want: "proxy"},
		"x-real-ip":                    {header: "X-Real-Ip: 127.0.0.1", want: "proxy"},
		"another origin":               {header: "Origin: https://evil.example", want: "another site"},
		"another port":                 {header: "Origin: http://localhost:3000", want: "another site"},
		"another scheme":               {header: "Origin: https://localhost:5000", want: "another site"},
		"no origin at all":             {header: "Origin: null", want: "another site"},
		"a form of another site":       {header: "Sec-Fetch-Site: cross-site", want: "another site"},
		"a sibling":                    {header: "Sec-Fetch-Site: same-site", want: "another site"},
		"an unknown relation":          {header: "Sec-Fetch-Site: friendly", want: "another site"},
	} {
		for _, request := range []string{
			"GET " + Base + "/repositories", "DELETE " + Base + "/repositories/a/-/tags/v1", "OPTIONS " + Base + "/repositories",
			"GET " + Base + "/openapi.json", "GET " + Base + "/nothing", "POST " + Base + "/repositories", "GET " + Base + "/repositories?bad=1",
		} {
			method, path, _ := strings.Cut(request, " ")
			r := httptest.NewRequest(method, path, nil)
			r.RemoteAddr, r.Host = "127.0.0.1:4000", "localhost:5000"
			if test.peer != "" {
				r.RemoteAddr = test.peer
			}
			if test.host != "" {
				r.Host = strings.TrimPrefix(test.host, "none")
			}
			listener := net.Addr(local)
			if test.local != nil {
				listener = test.local
			}
			if key, value, ok := strings.Cut(test.header, ": "); ok {
				r.Header[key] = []string{value}
			}
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, listener))
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			o := object(t, rec.Body.String())
			if text, _ := o["message"].(string); rec.Code != 403 || o["code"] != "Denied" || !strings.Contains(text, test.want) {
				t.Errorf("%s, %s: got %d %s", name, request, rec.Code, rec.Body)
			}
			for key := range rec.Header() {
				if strings.HasPrefix(key, "Access-Control") {
					t.Errorf("%s, %s: answered %s", name, request, key)
				}
			}
		}
	}
}

// TestLoopbackIsEnough: what users of this machine send is answered, whatever
// address family and spelling of the host.
func TestLoopbackIsEnough(t *testing.T) {
	h, err := Handler(Options{Blobs: memory.NewBlobs(), Catalog: memory.NewCatalog(memory.CatalogOptions{})})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ peer, local, host, header string }{
		{"127.0.0.1:4000", "127.0.0.1:5000", "127.0.0.1:5000", ""},
		{"127.0.0.1:4000", "127.8.8.8:5000", "localhost", ""},
		{"[::1]:4000", "[::1]:5000", "[::1]:5000", ""},
		{"[::1]:4000", "[::1]:5000", "[::1]", ""},
		{"[::ffff:127.0.0.1]:4000", "[::ffff:127.0.0.1]:5000", "LocalHost:8080", ""}, // an SSH tunnel
		{"127.0.0.1:4000", "127.0.0.1:5000", "localhost:5000", "Origin: http://localhost:5000"},
		{"127.0.0.1:4000", "127.0.0.1:5000", "localhost:5000", "Sec-Fetch-Site: same-origin"},
		{"127.0.0.1:4000", "127.0.0.1:5000", "localhost:5000", "Sec-Fetch-Site: none"},
	} {
		r := httptest.NewRequest("GET", Base+"/repositories", nil)
		r.RemoteAddr, r.Host = test.peer, test.host
		local, err := net.ResolveTCPAddr("tcp", test.local)
		if err != nil {
			t.Fatal(err)
		}
		if key, value, ok := strings.Cut(test.header, ": "); ok {
			r.Header.Set(key, value)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local)))
		if rec.Code != 200 {
			t.Errorf("%+v: got %d %s", test, rec.Code, rec.Body)
		}
	}
}

// TestS048NoForms: what a form or script of another site could send without
// asking first never gets to a handler: bodies, POST, and POST in the clothes of
// another method. Headers that grpc-gateway knows have no effect.
func TestS048NoForms(t *testing.T) {
	base := newWorld(t).serve(t)
	tag := base + "/repositories/a/-/tags/v1"
	for _, test := range []struct {
		method, body, header, want string
	}{
		{"POST", "", "X-Http-Method-Override: DELETE", "405 Unsupported"},
		{"POST", "_method=DELETE", "Content-Type: application/x-www-form-urlencoded", "400 ParameterInvalid"},
		{"POST", "", "Content-Type: application/x-www-form-urlencoded", "405 Unsupported"},
		{"GET", "{}", "Content-Type: application/json", "400 ParameterInvalid"},
		{"DELETE", "{}", "Content-Type: application/json", "400 ParameterInvalid"},
		{"DELETE", "{}", "Content-Type: text/plain", "400 ParameterInvalid"},
		{"GET", "", "X-Http-Method-Override: DELETE", "200 <nil>"},
		{"GET", "", "Grpc-Timeout: nonsense", "200 <nil>"},
		{"GET", "", "Grpc-Metadata-X-Bin: %%%", "200 <nil>"},
		{"GET", "", "Te: trailers", "200 <nil>"},
		{"GET", "", "Accept: text/html", "200 <nil>"},
	} {
		req, err := http.NewRequest(test.method, tag, strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		if test.body == "" {
			req.Body = nil
		}
		key, value, _ := strings.Cut(test.header, ": ")
		req.Header.Set(key, value)
		res, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if got := fmt.Sprintf("%d %v", res.StatusCode, object(t, string(b))["code"]); got != test.want || res.Header.Get("Transfer-Encoding") != "" {
			t.Errorf("%s with %s and body %q: got %s, want %s", test.method, test.header, test.body, got, test.want)
		}
	}
}

// TestChunkedBody: a body of no announced length is one, too.
func TestChunkedBody(t *testing.T) {
	base := newWorld(t).serve(t)
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(base, "http://"), Base))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "DELETE %s/repositories/a/-/tags/v1 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Base)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 400 {
		t.Fatalf("got %v, %v", res, err)
	}
	if got := ask(t, "GET", base+"/repositories/a/-/tags/v1"); got.status != 200 {
		t.Errorf("the tag is gone: %s", got.body)
	}
}
