package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/resolver/manual"

	"github.com/berth-registry/berth/registry/metrics"
)

// DialOptions are what a connection may need besides an address. The zero value
// is a plaintext connection over TCP.
type DialOptions struct {
	// Security encrypts, and says who we are. nil: plaintext.
	Security *Security
	// Server is the role that the server's certificate must name.
	Server Role
	// Metrics is where calls are counted. nil: nobody wants to know.
	Metrics *metrics.Set
	// Dialer makes connections, in tests. nil: TCP.
	Dialer func(ctx context.Context, address string) (net.Conn, error)
}

const (
	// streamWindow bounds what a stream holds whose reader does not read, and
	// with the round-trip time its speed: 1 GB/s at 1 ms. The buffers of the
	// transport are left at 32 KiB: larger ones cost a third of the speed.
	streamWindow = 1 << 20
	connWindow   = 16 << 20
)

// pickAndProbe spreads calls over all addresses whose server says it is well.
const pickAndProbe = `{"loadBalancingConfig":[{"` + replicas + `":{}}],"healthCheckConfig":{"serviceName":""}}`

// reconnect is how connections that failed are made again: soon, so that a
// service is back within seconds of a restart. A server that accepts and says
// nothing is given up after the timeout.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// init makes gRPC ask DNS more often than every 30 s when connections fail:
// addresses change as fast as containers start.
func init() { dns.SetMinResolutionInterval(5 * time.Second) }

// Dial returns a connection to the service at addresses. One address is host:port
// or a gRPC target: dns:///host:port follows every address the name has. Several
// are host:port each. Calls go to all of them in turn, except those whose health
// check fails or whose calls do, see balancer.go. Dial does not connect; the first
// call does.
func Dial(addresses []string, o DialOptions) (*grpc.ClientConn, error) {
	return dial(addresses, o)
}

func dial(addresses []string, o DialOptions, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if o.Security != nil {
		creds = o.Security.client(o.Server)
	}
	o.Security.observe(o.Metrics)
	opts := []grpc.DialOption{
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableServiceConfig(), // DNS TXT records have no say
		grpc.WithDefaultServiceConfig(pickAndProbe),
		grpc.WithStatsHandler(observeClient(o.Metrics)),
		grpc.WithDisableRetry(), // package rpc knows what may be repeated
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			// Servers of ours take pings every 10 s. One that is gone without a word is
			// noticed after both together, and its calls fail.
			Time:                12 * time.Second,
			Timeout:             5 * time.Second,
			PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(reconnect),
	}
	if o.Dialer != nil {
		opts = append(opts, grpc.WithContextDialer(o.Dialer))
	}
	target, list, err := targetOf(addresses)
	if err != nil {
		return nil, err
	}
	if list != nil {
		r := manual.NewBuilderWithScheme("list")
		r.InitialState(resolver.State{Addresses: list})
		opts = append(opts, grpc.WithResolvers(r))
	}
	conn, err := grpc.NewClient(target, append(opts, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", strings.Join(addresses, ", "), err)
	}
	return conn, nil
}

// targetOf returns the gRPC target for addresses and, if they are several, what
// it resolves to.
func targetOf(addresses []string) (target string, list []resolver.Address, err error) {
	switch len(addresses) {
	case 0:
		return "", nil, errors.New("dialling a service: no address")
	case 1:
		return addresses[0], nil, nil
	}
	for _, a := range addresses {
		a = strings.TrimPrefix(a, "dns:///")
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			return "", nil, fmt.Errorf("dialling a service: one of several addresses must be host:port: %w", err)
		}
		list = append(list, resolver.Address{Addr: a, ServerName: host})
	}
	return "list:///" + addresses[0], list, nil
}
