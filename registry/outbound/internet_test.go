package outbound

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
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

func bracket(s string) string {
	if strings.Contains(s, ":") {
		return "[" + s + "]"
	}
	return s
}
