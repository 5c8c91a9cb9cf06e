package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// roundRobin serves HTTP on a loopback address and passes each request to the
// next of the backends, also within one client connection: nothing about an
// upload may depend on which gateway began it. It returns host:port.
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
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	return strings.TrimPrefix(front.URL, "http://")
}
