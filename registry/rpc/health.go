package rpc

import (
	"context"
	"fmt"
	"net"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// CheckHealth asks the server that listens on address, of this machine, whether
// it serves, by the gRPC health service. nil means yes. It shows the same
// certificate as the server, whose config file it has.
func CheckHealth(ctx context.Context, address string, o DialOptions) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	conn, err := Dial([]string{net.JoinHostPort(host, port)}, o)
	if err != nil {
		return fmt.Errorf("asking for health: %w", err)
	}
	defer conn.Close()
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("asking %s for health: %w", address, err)
	}
	if s := answer.GetStatus(); s != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("%s answered %s", address, s)
	}
	return nil
}
