package rpc

import (
	"crypto/tls"
	"testing"

	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/http2test"
	"github.com/berth-registry/berth/registry/memory"
)

// TestS109AbuseOfHTTP2 does to a port between services what hostile clients of HTTP/2 do:
// each costs its own connection at most; others go on.
func TestS109AbuseOfHTTP2(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "metadata")}, func(srv *grpc.Server) {
		ServeCatalog(srv, memory.NewCatalog(memory.CatalogOptions{}))
	})
	client := named(t, ca, "gateway")
	good := NewCatalog(connect(t, address, DialOptions{Security: client, Server: Metadata}))
	http2test.Abuse(t, http2test.Target{
		Address: address,
		Config: &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return client.pair.Current(), nil
		}},
		Header: [][2]string{
			{":method", "POST"}, {":scheme", "https"}, {":authority", "metadata"}, {":path", "/berth.metadata.v1.CatalogService/ListRepositories"}, {"content-type", "application/grpc"}, {"te", "trailers"},
		},
		Well: func(when string) {
			t.Helper()
			if _, err := good.Repositories(t.Context(), registry.Actor{}, registry.Page[registry.Name]{Limit: 1}); err != nil {
				t.Errorf("%s others are not served: %v", when, err)
			}
		},
	})
}
