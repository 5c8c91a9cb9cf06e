package outbound

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
)

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
