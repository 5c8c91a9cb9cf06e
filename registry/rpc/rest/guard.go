package rest

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Where the gateway authenticates clients, the API is for those whom the catalog lets.
// Else it answers those only who could as well read the store's directory: users of
// this machine. What tells them from others:
//
//   - Both ends of the connection are loopback addresses. A unix socket is none:
//     those are there for proxies.
//   - No header says that a proxy passed the request on.
//   - Host is a name of loopback. A page whose host name was made to resolve to
//     127.0.0.1 (DNS rebinding) still sends its own name.
//   - No header says that a page of another origin sent it. A form or image of
//     such a page could not read the answer, and the API gives no script leave to
//     (no CORS), but it should not even be asked.
//
// A proxy on this machine that leaves no trace and writes its own Host can't be
// told from a user. docs/api.md says not to pass this path on.

// proxied are headers that proxies add. Those that begin with X-Forwarded count,
// too.
var proxied = []string{
	"Forwarded", "Via", "X-Real-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "X-Original-Forwarded-For", "X-Original-Host",
	"X-Original-Url", "X-Rewrite-Url", "X-Envoy-External-Address", "Client-Ip", "True-Client-Ip", "Cf-Connecting-Ip",
	"Fastly-Client-Ip", "X-Proxyuser-Ip", "X-Appengine-Remote-Addr", "X-Azure-Clientip",
}

// admit returns an error that says why r may not use the API, nil if the catalog is to
// decide.
func admit(r *http.Request) error {
	if _, known := registry.ActorFrom(r.Context()); !known {
		return local(r)
	}
	// A browser may add a certificate or a password that it knows to what a page of
	// another site sends.
	if !sameOrigin(r) {
		return registry.ErrDenied.With("a page of another site sent this request")
	}
	return nil
}

// local is admit where nobody is authenticated.
func local(r *http.Request) error {
	switch {
	case !loopbackPeer(r.RemoteAddr) || !loopbackListener(r.Context()):
		return refuse("from other machines it can't be used unless users log in (http.auth)")
	case fromProxy(r.Header):
		return refuse("a proxy passed this request on, and who sent it is not known")
	case !loopbackHost(r.Host):
		return refuse("the request is for another host name; use localhost or a loopback address")
	case !sameOrigin(r):
		return refuse("a page of another site sent this request")
	}
	return nil
}

func refuse(why string) error {
	return registry.ErrDenied.With("the REST API answers on loopback only: %s", why)
}

func loopbackPeer(address string) bool {
	a, err := netip.ParseAddrPort(address)
	return err == nil && isLoopback(a.Addr())
}

func loopbackListener(ctx context.Context) bool {
	a, ok := ctx.Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && isLoopback(a.AddrPort().Addr())
}

func isLoopback(a netip.Addr) bool { return a.Zone() == "" && a.Unmap().IsLoopback() }

func fromProxy(h http.Header) bool {
	for _, key := range proxied {
		if _, ok := h[key]; ok {
			return true
		}
	}
	for key := range h {
		if strings.HasPrefix(key, "X-Forwarded") {
			return true
		}
	}
	return false
}

// loopbackHost reports whether host, with or without a port, is a name of
// loopback that no name server has a say in.
func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && isLoopback(a)
}

// sameOrigin reports whether no browser sent r on behalf of another origin. Only
// browsers send these headers; what a browser does not know it leaves out.
func sameOrigin(r *http.Request) bool {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	for _, origin := range r.Header["Origin"] {
		if !strings.EqualFold(origin, scheme+r.Host) {
			return false
		}
	}
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" {
			return false
		}
	}
	return true
}
