package outbound

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

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
