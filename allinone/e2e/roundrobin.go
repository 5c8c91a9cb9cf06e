package e2e

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// roundRobin serves HTTP on a loopback address and passes each request to the
// next of the backends, also within one client connection: nothing about an
// upload may depend on which gateway began it. A backend that nobody listens at is
// passed over, as any load balancer does. It returns host:port.
func roundRobin(t testing.TB, backends ...string) string {
	var turn atomic.Uint64
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			backend := backends[turn.Add(1)%uint64(len(backends))]
			r.SetURL(&url.URL{Scheme: "http", Host: backend})
			r.Out.Host = r.In.Host // as an ingress does: the client's name for us
		},
		FlushInterval: -1,
		// Compression would be asked for on the client's behalf otherwise.
		Transport: passOver{&http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32}, backends},
		ErrorLog:  log.New(io.Discard, "", 0), // the client sees the 502
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	return strings.TrimPrefix(front.URL, "http://")
}

// passOver sends a request that could not even be connected to the next backend.
type passOver struct {
	http.RoundTripper
	backends []string
}

func (p passOver) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil { // a transport that can't connect closes it; the proxy does so at the end
		r.Body = io.NopCloser(r.Body)
	}
	for range p.backends[1:] {
		resp, err := p.RoundTripper.RoundTrip(r)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return resp, err
		}
		r = r.Clone(r.Context())
		r.URL.Host = p.backends[(slices.Index(p.backends, r.URL.Host)+1)%len(p.backends)]
	}
	return p.RoundTripper.RoundTrip(r)
}
