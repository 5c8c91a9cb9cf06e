package gateway

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// maxForwarded is how many addresses of X-Forwarded-For access conditions are told.
const maxForwarded = 20

// asks returns what access conditions may ask of a request.
func asks(r *http.Request) registry.ActorRequest {
	how := registry.ActorRequest{Method: r.Method, UserAgent: r.UserAgent()}
	how.ClientIP, _, _ = net.SplitHostPort(r.RemoteAddr) // "" behind a unix socket
	for _, line := range r.Header["X-Forwarded-For"] {
		for one := range strings.SplitSeq(line, ",") {
			if len(how.ForwardedFor) < maxForwarded {
				how.ForwardedFor = append(how.ForwardedFor, strings.TrimSpace(one))
			}
		}
	}
	if r.TLS != nil {
		how.TLS = strings.TrimPrefix(tls.VersionName(r.TLS.Version), "TLS ")
	}
	return how
}
