package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// internet is hosts by name and the addresses they are at. What is dialled is
// noted, and answered by the handler of the name, in memory.
type internet struct {
	t       *testing.T
	server  *httptest.Server
	handler http.HandlerFunc

	mu     sync.Mutex // guards the rest
	names  map[string][]netip.Addr
	dialed []string
	seen   []*http.Request
}

func newInternet(t *testing.T, handler http.HandlerFunc, names map[string]string) *internet {
	w := &internet{t: t, names: map[string][]netip.Addr{}, handler: handler}
	for name, list := range names {
		for a := range strings.FieldsSeq(list) {
			w.names[name] = append(w.names[name], netip.MustParseAddr(a))
		}
	}
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.seen = append(w.seen, r.Clone(context.WithoutCancel(r.Context())))
		w.mu.Unlock()
		w.handler(rw, r)
	}))
	t.Cleanup(w.server.Close)
	return w
}

func (w *internet) lookup(_ context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if a, ok := w.names[host]; ok {
		return a, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// connect stands for the network: whatever comes here would have sent a packet.
func (w *internet) connect(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	w.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, network, w.server.Listener.Addr().String())
}

func (w *internet) client(o Options) *Client {
	w.t.Helper()
	o.Purpose, o.Lookup, o.PlainHTTP = "test", w.lookup, true
	if o.Proxy == nil {
		o.Proxy = func(*http.Request) (*url.URL, error) { return nil, nil }
	}
	c, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	c.connect = w.connect
	w.t.Cleanup(c.CloseIdle)
	return c
}

// onlyPublic fails if anything was dialled that is not public.
func (w *internet) onlyPublic() {
	w.t.Helper()
	for _, d := range w.dialed {
		if a := netip.MustParseAddrPort(d).Addr(); classify(a) != public {
			w.t.Errorf("a packet went to %s", d)
		}
	}
}

func get(t *testing.T, c *Client, target string, header ...string) (*http.Response, error) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil { // what net/url does not take is never sent
		return nil, ErrRefused
	}
	r := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}).WithContext(t.Context())
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(r)
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return resp, err
}

// inside are addresses that no answer of a peer may lead to.
var inside = []string{
	"127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.1",
	"100.64.0.1", "100.100.100.200", "169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192", "224.0.0.1", "255.255.255.255", "240.0.0.1",
	"198.18.0.1", "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fec0::1", "ff02::1",
	"::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "::ffff:10.0.0.1", "::ffff:0:10.0.0.1", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1", "64:ff9b:1::7f00:1",
	"2002:a9fe:a9fe::1", "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:5601:5601", "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:a9fe:a9fe",
}

var outside = []string{"1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "169.253.1.1", "2606:4700::1111", "64:ff9b::101:101", "2002:101:101::1"}

func TestClasses(t *testing.T) {
	for _, s := range inside {
		if classify(netip.MustParseAddr(s)) == public {
			t.Errorf("%s counts as public", s)
		}
	}
	for _, s := range outside {
		if c := classify(netip.MustParseAddr(s)); c != public {
			t.Errorf("%s counts as %s", s, c)
		}
	}
}

func bracket(s string) string {
	if strings.Contains(s, ":") {
		return "[" + s + "]"
	}
	return s
}

// TestS066RedirectInside has a public host redirect to every kind of address and
// to names that are there (CVE-2026-2376, CVE-2026-58418).
func TestS066RedirectInside(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range inside {
			for _, target := range []string{"http://" + bracket(to) + "/latest/meta-data", "http://inner.example/"} {
				w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, target, status) },
					map[string]string{"outer.test": "1.1.1.1", "inner.example": to})
				_, err := get(t, w.client(Options{Named: []string{"http://outer.test"}}), "http://outer.test/v2/")
				if !errors.Is(err, ErrRefused) {
					t.Errorf("%d to %s at %s: got %v", status, target, to, err)
				} else if strings.Contains(err.Error(), to) && !strings.Contains(target, to) {
					t.Errorf("the error names what is inside: %v", err)
				}
				w.onlyPublic()
				w.server.Close()
			}
		}
	}
}

// TestS067Direct asks for addresses inside directly, in all spellings (CVE-2020-13788,
// CVE-2026-22874, CVE-2025-22870).
func TestS067Direct(t *testing.T) {
	targets := []string{
		"http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/", "http://0x7f000001/", "http://017700000001/",
		"http://127.0.0.1.:80/", "http://1.0x7f/", "http://localhost/", "http://localhost./", "http://LOCALHOST:80/", "http://a.localhost/",
		"http://[::ffff:a9fe:a9fe]/", "http://[::ffff:127.0.0.1]/", "http://[fe80::1%25eth0]/", "http://[::1%25lo]/", "http://[2606:4700::1%25.example.com]/",
		"gopher://one.test/", "file:///etc/passwd", "unix:///run/x.sock", "ftp://one.test/", "http:one.test", "http:///x", "//one.test/", "http://",
		"http://user@one.test/", "http://user:secret@one.test/", "http://one.test:80@169.254.169.254/", "http://①②⑦.⓪.⓪.①/",
		"http://" + strings.Repeat("a", 300) + "/", "http://one.test/" + strings.Repeat("a", maxURL),
	}
	for _, a := range inside {
		targets = append(targets, "http://"+bracket(a)+"/", "http://"+bracket(a)+":8080/")
	}
	names := map[string]string{"one.test": "1.1.1.1", "localhost": "127.0.0.1 ::1", "a.localhost": "127.0.0.1"}
	for _, target := range targets {
		w := newInternet(t, func(http.ResponseWriter, *http.Request) {}, names)
		for _, proxied := range []bool{false, true} {
			o := Options{}
			if proxied { // it must not be left to the proxy either
				o.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse("http://10.1.1.1:3128") }
			}
			_, err := get(t, w.client(o), target)
			if err == nil {
				t.Errorf("%.60s (proxied: %v) was requested", target, proxied)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the error holds the password: %v", target, err)
			}
		}
		if len(w.dialed) > 0 {
			t.Errorf("%.60s: dialled %s", target, w.dialed)
		}
		w.server.Close()
	}
}

// TestS067NoPacket uses the real network of this machine: nothing arrives.
func TestS067NoPacket(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(arrived)
				return
			}
			arrived <- struct{}{}
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for name, lookup := range map[string]func(context.Context, string) ([]netip.Addr, error){
		"own resolver": func(context.Context, string) ([]netip.Addr, error) { return []netip.Addr{ipv4Loopback}, nil },
		"system":       nil,
	} {
		c, err := New(Options{PlainHTTP: true, Lookup: lookup, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }})
		if err != nil {
			t.Fatal(err)
		}
		// ip6-localhost stands in /etc/hosts of Debian, and is not a name that is refused before.
		for _, host := range []string{"rebound.example", "ip6-localhost", "127.0.0.1", "localhost"} {
			if _, err := get(t, c, "http://"+host+":"+port+"/"); err == nil {
				t.Errorf("%s: %s was reached", name, host)
			}
		}
	}
	l.Close()
	if _, some := <-arrived; some {
		t.Error("a connection was made")
	}
}

// TestS068Rebinding has a name be public first and inside then, and both at once.
func TestS068Rebinding(t *testing.T) {
	for _, to := range inside {
		w := newInternet(t, func(http.ResponseWriter, *http.Request) {}, map[string]string{"one.test": "1.1.1.1"})
		c := w.client(Options{})
		if _, err := get(t, c, "http://one.test/"); err != nil {
			t.Fatal(err)
		}
		w.names["one.test"] = []netip.Addr{netip.MustParseAddr(to)}
		c.CloseIdle() // or the old connection would be used, which is right
		if _, err := get(t, c, "http://one.test/"); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", to, err)
		}
		w.names["one.test"] = []netip.Addr{netip.MustParseAddr(to), netip.MustParseAddr("1.0.0.1")}
		if _, err := get(t, c, "http://one.test/"); err != nil {
			t.Errorf("%s and a public one: got %v", to, err)
		}
		w.onlyPublic()
		if len(w.dialed) != 2 {
			t.Errorf("dialled %s", w.dialed)
		}
		w.server.Close()
	}
}

// TestS077Metadata: the services that clouds give credentials away at are reached
// by nothing but their own entry in the list.
func TestS077Metadata(t *testing.T) {
	for _, a := range []string{"169.254.169.254", "169.254.170.2", "fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "64:ff9b::a9fe:a9fe", "::ffff:a9fe:a9fe"} {
		target := "http://" + bracket(a) + "/latest/meta-data/"
		for name, rules := range map[string][]string{
			"nothing listed":  nil,
			"the name listed": {"meta.example", "*.example"},
			"other networks":  {"10.0.0.0/8", "192.168.0.0/16"},
		} {
			w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, target, http.StatusFound) },
				map[string]string{"meta.example": a, "one.test": "1.1.1.1"})
			r, err := ParseRules(rules, false)
			if err != nil {
				t.Fatal(err)
			}
			c := w.client(Options{Rules: r, Named: []string{target, "http://meta.example", "http://one.test"}})
			for _, try := range []string{target, "http://meta.example/", "http://one.test/"} {
				if _, err := get(t, c, try); !errors.Is(err, ErrRefused) {
					t.Errorf("%s, %s: got %v", name, try, err)
				}
			}
			w.onlyPublic()
			w.server.Close()
		}
		w := newInternet(t, func(http.ResponseWriter, *http.Request) {}, nil)
		r, _ := ParseRules([]string{a}, true)
		if _, err := get(t, w.client(Options{Rules: r}), target); err != nil {
			t.Errorf("%s is listed: got %v", a, err)
		}
		w.server.Close()
	}
}

// TestNamedHosts says what the configuration's own hosts may be.
func TestNamedHosts(t *testing.T) {
	names := map[string]string{
		"registry.corp.example": "10.1.1.1", "auth.corp.example": "10.1.1.2", "other.example": "10.1.1.3", "lan": "192.168.0.9", "other": "192.168.0.8",
		"localhost": "127.0.0.1", "here.corp.example": "127.0.0.1", "cloud.corp.example": "169.254.169.254",
	}
	named := []string{"http://registry.corp.example", "http://lan:5000", "http://10.2.2.2:5000", "http://localhost:5000", "http://127.0.0.1:5001"}
	for _, test := range []struct {
		allow  []string
		strict bool
		yes    string
		no     string
	}{
		{nil, false, "registry.corp.example auth.corp.example registry.corp.example:8443 lan:5000 10.2.2.2:5000 localhost:5000 127.0.0.1:5001",
			"other.example other 10.2.2.3 localhost:6379 127.0.0.1:6379 127.0.0.1:5000 here.corp.example cloud.corp.example"},
		{nil, true, "", "registry.corp.example auth.corp.example lan:5000 10.2.2.2:5000 localhost:5000 127.0.0.1:5001"},
		{[]string{"10.0.0.0/8"}, true, "registry.corp.example auth.corp.example other.example 10.2.2.3", "lan:5000 localhost:5000"},
		{[]string{"other.example:80", "*.corp.example"}, true, "other.example registry.corp.example here.corp.example", "other.example:81 lan:5000 cloud.corp.example"},
		{[]string{"localhost", "Other."}, true, "localhost:6379 other", "127.0.0.1:5001 lan"},
		{[]string{"127.0.0.0/8"}, true, "localhost:6379 127.0.0.1:9 here.corp.example", "lan"},
	} {
		r, err := ParseRules(test.allow, test.strict)
		if err != nil {
			t.Fatal(err)
		}
		w := newInternet(t, func(http.ResponseWriter, *http.Request) {}, names)
		c := w.client(Options{Rules: r, Named: named})
		for host := range strings.FieldsSeq(test.yes) {
			if _, err := get(t, c, "http://"+host+"/"); err != nil {
				t.Errorf("%v strict %v: %s: %v", test.allow, test.strict, host, err)
			}
		}
		for host := range strings.FieldsSeq(test.no) {
			if _, err := get(t, c, "http://"+host+"/"); !errors.Is(err, ErrRefused) {
				t.Errorf("%v strict %v: %s: got %v", test.allow, test.strict, host, err)
			}
		}
		w.server.Close()
	}
}

func TestParseRules(t *testing.T) {
	for _, bad := range []string{"", "*", "*.", "http://x", "a/b", "10.0.0.0/33", "127.1", "a b", "user@x", "*x", "fe80::1%eth0", "x:y:z"} {
		if _, err := ParseRules([]string{bad}, false); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", bad)) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// TestS060NoSecretElsewhere follows redirects to other origins (CVE-2026-33540,
// CVE-2026-48978, CVE-2020-15157): by name, port, subdomain, and back again.
func TestS060NoSecretElsewhere(t *testing.T) {
	const secret = "canary-7c1f"
	names := map[string]string{"one.test": "1.1.1.1", "evil.test": "2.2.2.2", "sub.one.test": "3.3.3.3"}
	for name, test := range map[string]struct {
		path []string // URLs in turn
		last bool     // whether the last one gets the secret
	}{
		"same origin":    {[]string{"http://one.test/a", "http://one.test/b", "http://ONE.test:80/c"}, true},
		"other host":     {[]string{"http://one.test/a", "http://evil.test/b"}, false},
		"other port":     {[]string{"http://one.test/a", "http://one.test:8080/b"}, false},
		"subdomain":      {[]string{"http://one.test/a", "http://sub.one.test/b"}, false},
		"parent":         {[]string{"http://sub.one.test/a", "http://one.test/b"}, false},
		"back again":     {[]string{"http://one.test/a", "http://evil.test/b", "http://one.test/c"}, false},
		"twice the same": {[]string{"http://one.test/a", "http://evil.test/b", "http://evil.test/c"}, false},
	} {
		step := 0
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) {
			if step++; step < len(test.path) {
				http.Redirect(rw, r, test.path[step], http.StatusTemporaryRedirect)
			}
		}, names)
		_, err := get(t, w.client(Options{}), test.path[0]+"?sig="+secret, "Authorization", "Bearer "+secret, "Cookie", "s="+secret,
			"X-Registry-Auth", secret, "Private-Token", secret, "Proxy-Authorization", secret, "Accept", "application/json", "Referer", "http://x/"+secret)
		if err != nil || len(w.seen) != len(test.path) {
			t.Fatalf("%s: %d requests, %v", name, len(w.seen), err)
		}
		for i, r := range w.seen[1:] {
			text := fmt.Sprint(r.Header)
			last := i == len(test.path)-2
			if has := strings.Contains(text, secret); has && (!last || !test.last) && name != "same origin" || !has && test.last {
				t.Errorf("%s: request %d has %s", name, i+2, text)
			}
			if r.Header.Get("Referer") != "" {
				t.Errorf("%s: Referer %s", name, r.Header.Get("Referer"))
			}
			if r.Header.Get("Accept") == "" {
				t.Errorf("%s: Accept is lost", name)
			}
		}
		w.server.Close()
	}
}

// TestS060BodyStays: a form with a client secret is not sent to where a 307 leads.
func TestS060BodyStays(t *testing.T) {
	for _, status := range []int{307, 308} {
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "http://evil.test/", status) },
			map[string]string{"one.test": "1.1.1.1", "evil.test": "2.2.2.2"})
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://one.test/token", strings.NewReader("client_secret=x"))
		resp, err := w.client(Options{}).Do(r)
		if !errors.Is(err, ErrRedirects) || len(w.seen) != 1 {
			t.Errorf("%d: got %v, %v after %d requests", status, resp, err, len(w.seen))
		}
		if err == nil {
			resp.Body.Close()
		}
		w.server.Close()
	}
}

func TestRedirectsAreBounded(t *testing.T) {
	for _, test := range []struct{ limit, want int }{{0, 6}, {2, 3}, {-1, 1}} {
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/again", http.StatusFound) }, map[string]string{"one.test": "1.1.1.1"})
		resp, err := get(t, w.client(Options{Redirects: test.limit}), "http://one.test/")
		if len(w.seen) != test.want || (test.limit < 0) != (err == nil) || err == nil && resp.StatusCode != http.StatusFound {
			t.Errorf("limit %d: %d requests, %v", test.limit, len(w.seen), err)
		}
		w.server.Close()
	}
}

// TestS071NoHTTPAfterHTTPS: https that fails, or redirects to http, is not tried
// without (CVE-2019-10214, CVE-2014-5277).
func TestS071NoHTTPAfterHTTPS(t *testing.T) {
	plain := newInternet(t, func(http.ResponseWriter, *http.Request) {}, map[string]string{"one.test": "1.1.1.1"})
	if _, err := get(t, plain.client(Options{}), "https://one.test/", "Authorization", "x"); err == nil || len(plain.seen) > 0 {
		t.Errorf("a peer without TLS: got %v and %d requests", err, len(plain.seen))
	}

	secure := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "http://one.test/", http.StatusFound)
	}))
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	for _, skip := range []bool{false, true} {
		c, err := New(Options{PlainHTTP: true, TLS: TLS{SkipVerify: skip}, Lookup: plain.lookup})
		if err != nil {
			t.Fatal(err)
		}
		c.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasSuffix(address, ":443") {
				address = secure.Listener.Addr().String()
			} else {
				address = plain.server.Listener.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		if _, err := get(t, c, "https://one.test/"); err == nil || skip != errors.Is(err, ErrRedirects) {
			t.Errorf("unverified allowed: %v: got %v", skip, err)
		}
	}
	if len(plain.seen) > 0 {
		t.Error("the redirect to http was followed")
	}

	c, err := New(Options{Lookup: plain.lookup})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, "http://one.test/"); !errors.Is(err, ErrRefused) {
		t.Errorf("http without PlainHTTP: got %v", err)
	}
}

// TestS063S065SameOrigin resolves what a peer says comes next (CVE-2026-50151,
// GHSA-h7vf-4x9w-h99v).
func TestS063S065SameOrigin(t *testing.T) {
	base, _ := url.Parse("https://one.test/v2/a/b/tags/list?n=1")
	for ref, want := range map[string]string{
		"/v2/a/b/tags/list?last=x":     "https://one.test/v2/a/b/tags/list?last=x",
		"list?last=y#z":                "https://one.test/v2/a/b/tags/list?last=y",
		"https://one.test:443/x":       "https://one.test:443/x",
		"https://ONE.test./x":          "https://ONE.test./x",
		"http://one.test/x":            "",
		"https://one.test:8443/x":      "",
		"https://evil.test/x":          "",
		"//evil.test/x":                "",
		"https://user@one.test/x":      "",
		"https://one.test@evil.test/x": "",
		"file:///etc/passwd":           "",
		"https://one.test.evil.test/x": "",
		"\x00":                         "",
	} {
		got, err := SameOrigin(base, ref)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%s: got %v, %v", ref, got, err)
		}
	}
}

// TestS072Origin: what a credential is kept under names scheme, host and port.
func TestS072Origin(t *testing.T) {
	all := map[string]bool{}
	for _, s := range []string{"https://one.test", "https://one.test:8443", "http://one.test", "https://sub.one.test", "https://one.test.evil", "http://[::1]:80", "http://127.0.0.1"} {
		u, _ := url.Parse(s)
		all[Origin(u)] = true
	}
	if len(all) != 7 {
		t.Errorf("got %v", all)
	}
	a, _ := url.Parse("https://ONE.test.:443/a")
	b, _ := url.Parse("https://one.test/b?c")
	if Origin(a) != Origin(b) {
		t.Errorf("%s is not %s", Origin(a), Origin(b))
	}
}

func TestSameSite(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"auth.docker.io", "registry-1.docker.io:443", true},
		{"docker.io", "auth.docker.io", true},
		{"a.github.io", "b.github.io", false},
		{"a.co.uk", "b.co.uk", false},
		{"evildocker.io", "docker.io", false},
		{"10.0.0.1", "10.0.0.1:5000", true},
		{"10.0.0.1", "11.0.0.1", false},
		{"registry", "registry:5000", true},
		{"registry", "auth", false},
		{"", "", false},
	} {
		if got := SameSite(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: got %v", test.a, test.b, got)
		}
	}
}

func TestLimits(t *testing.T) {
	names := map[string]string{"one.test": "1.1.1.1"}
	for _, chunked := range []bool{false, true} {
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) {
			if chunked {
				rw.(http.Flusher).Flush()
			}
			_, _ = io.WriteString(rw, strings.Repeat("x", 100))
		}, names)
		for _, test := range []struct {
			limit int64
			ok    bool
		}{{0, true}, {100, true}, {101, true}, {99, false}} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://one.test/", nil)
			resp, err := w.client(Options{MaxBody: test.limit}).Do(r)
			var n int
			if err == nil {
				var b []byte
				b, err = io.ReadAll(resp.Body)
				n = len(b)
				resp.Body.Close()
			}
			if test.ok != (err == nil) || !test.ok && !errors.Is(err, ErrTooLarge) || test.ok && n != 100 {
				t.Errorf("chunked %v, limit %d: %d bytes, %v", chunked, test.limit, n, err)
			}
		}
		for limit, ok := range map[int64]bool{99: false, 100: true} {
			r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://one.test/", nil)
			resp, err := w.client(Options{}).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ReadAll(resp, limit); ok != (err == nil) {
				t.Errorf("ReadAll of %d: %v", limit, err)
			}
		}
		w.server.Close()
	}
	w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { rw.Header().Set("X", strings.Repeat("x", 100<<10)) }, names)
	if _, err := get(t, w.client(Options{}), "http://one.test/"); err == nil {
		t.Error("a header of 100 KiB was taken")
	}
}

// TestStalls gives up transfers in which nothing moves, and no other.
func TestStalls(t *testing.T) {
	const idle = 1500 * time.Millisecond
	names := map[string]string{"one.test": "1.1.1.1"}
	release := make(chan struct{})
	w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow": // longer than idle in all, never without a byte for as long
			for range 12 {
				_, _ = io.WriteString(rw, "x")
				rw.(http.Flusher).Flush()
				time.Sleep(idle / 10)
			}
		case "/stall":
			_, _ = io.WriteString(rw, "x")
			rw.(http.Flusher).Flush()
			<-release
		case "/silent", "/deaf":
			<-release
		}
	}, names)
	defer w.server.CloseClientConnections()
	defer close(release)
	c := w.client(Options{Idle: idle, Header: idle})
	for path, ok := range map[string]bool{"/slow": true, "/stall": false, "/silent": false} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://one.test"+path, nil)
		resp, err := c.Do(r)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if ok != (err == nil) || path == "/stall" && !errors.Is(err, ErrStalled) {
			t.Errorf("%s: %v", path, err)
		}
	}
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://one.test/deaf", io.LimitReader(zeros{}, 1<<30))
	resp, err := c.Do(r)
	if err == nil {
		resp.Body.Close()
		t.Error("a peer that reads nothing got a gigabyte")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestScrub(t *testing.T) {
	w := newInternet(t, func(http.ResponseWriter, *http.Request) {}, nil)
	_, err := get(t, w.client(Options{}), "http://none.test/blob?X-Amz-Signature=secret")
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "none.test/blob") {
		t.Errorf("got %v", err)
	}
	if Scrub(nil) != nil {
		t.Error("nil became an error")
	}
}

// TestTLS believes a directory like Docker's certs.d, and shows its certificate.
func TestTLS(t *testing.T) {
	ca, other := certstest.NewAuthority(t, "ca"), certstest.NewAuthority(t, "other")
	dir := t.TempDir()
	server := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"one.test"}})
	client := ca.Save(t, t.TempDir(), certstest.Request{Subject: "us"})
	link := func(from, to string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		certstest.Write(t, filepath.Join(dir, to), b)
	}
	certstest.Write(t, filepath.Join(dir, "ca.crt"), ca.Cert)
	link(client.Cert, "client.cert")
	link(client.Key, "client.key")
	wrong := filepath.Join(t.TempDir(), "other.pem")
	certstest.Write(t, wrong, other.Cert)

	pair, err := tls.LoadX509KeyPair(server.Cert, server.Key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			_, _ = io.WriteString(rw, r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	for name, test := range map[string]struct {
		tls  TLS
		host string
		want string
	}{
		"directory":       {TLS{CertDir: dir}, "one.test", "us"},
		"another name":    {TLS{CertDir: dir}, "two.test", "!"},
		"by its address":  {TLS{CertDir: dir}, "1.1.1.1", "!"},
		"file":            {TLS{CAFile: filepath.Join(dir, "ca.crt"), CertFile: client.Cert, KeyFile: client.Key}, "one.test", "us"},
		"only":            {TLS{CAFile: filepath.Join(dir, "ca.crt"), CAOnly: true}, "one.test", ""},
		"other authority": {TLS{CAFile: wrong}, "one.test", "!"},
		"system":          {TLS{}, "one.test", "!"},
		"unverified":      {TLS{SkipVerify: true}, "two.test", ""},
	} {
		c, err := New(Options{TLS: test.tls, Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("1.1.1.1")}, nil
		}})
		if err != nil {
			t.Fatal(name, err)
		}
		c.connect = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		}
		got := "!"
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+test.host+"/", nil)
		if resp, err := c.Do(r); err == nil {
			b, _ := ReadAll(resp, 1<<10)
			got = string(b)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		c.CloseIdle()
	}
	for _, bad := range []TLS{{CertDir: filepath.Join(dir, "none")}, {CAFile: client.Key}, {CertFile: client.Cert, KeyFile: server.Key}} {
		if _, err := New(Options{TLS: bad}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// TestProxy sends through the proxy that the environment names, wherever it is.
func TestProxy(t *testing.T) {
	w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) {}, nil)
	c := w.client(Options{Proxy: func(r *http.Request) (*url.URL, error) { return url.Parse("http://10.1.1.1:3128") }})
	if _, err := get(t, c, "http://one.test/x"); err != nil {
		t.Fatal(err)
	}
	if len(w.dialed) != 1 || w.dialed[0] != "10.1.1.1:3128" || w.seen[0].Host != "one.test" {
		t.Errorf("dialled %s", w.dialed)
	}
	none := w.client(Options{})
	if _, err := get(t, none, "http://10.1.1.1:3128/"); !errors.Is(err, ErrRefused) {
		t.Errorf("the proxy as a target: got %v", err)
	}
}

// TestLongHost compares a host of 4 MB, which must cost no more than to read it.
func TestLongHost(t *testing.T) {
	long := strings.Repeat("ü", 2<<20)
	if got := canonical(long); got != long {
		t.Error("a host that is too long was converted")
	}
	if _, err := ParseRules([]string{long}, false); err == nil {
		t.Error("a host that is too long was taken into the rules")
	}
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://one.test/a", "https://[::1]:80/", "http://127.1", "http://a@b", "//x", "http://①.com"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://one.test/v2/")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := SameOrigin(base, s); err == nil && (u.Scheme != "https" || canonical(u.Hostname()) != "one.test" || u.User != nil) {
			t.Errorf("%q became %s", s, u)
		}
		if u, err := parse(s); err == nil {
			host, port := hostPort(u)
			if host == "" || port == "" && u.Port() != "" || canonical(host) != host || disguised(host) {
				t.Errorf("%q: host %q, port %q", s, host, port)
			}
		}
		_, _ = ParseRules([]string{s}, false)
	})
}
