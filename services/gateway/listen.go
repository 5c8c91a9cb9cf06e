package gateway

import (
	"context"
	"fmt"
	"net"

	"github.com/berth-registry/berth/registry/daemon"
)

// listen listens on what [config.HTTP.Endpoint] returns, within the bounds.
func (c *connections) listen(ctx context.Context, network, address string) (net.Listener, error) {
	if network == "unix" {
		l, err := daemon.ListenUnix(ctx, address)
		if err != nil {
			return nil, fmt.Errorf("listening for HTTP: %w", err)
		}
		return c.limit(l), nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("listening for HTTP: %w", err)
	}
	return Bulk(c.limit(l)), nil
}
