package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"
)

// dial connects to host:port if the rules permit the address, which is looked at
// when it is dialled. A proxy of the environment is the operator's, wherever it is.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	host = canonical(host)
	proxy, _ := ctx.Value(route{}).(*url.URL)
	d := &net.Dialer{Timeout: c.o.Dial, KeepAlive: 30 * time.Second}
	refused := false
	d.ControlContext = func(ctx context.Context, _, target string, _ syscall.RawConn) error {
		if proxy != nil {
			return nil
		}
		err := c.permitsDial(ctx, host, port, target)
		refused = refused || err != nil
		return err
	}
	var conn net.Conn
	if c.o.Lookup == nil && c.connect == nil {
		conn, err = d.DialContext(ctx, network, net.JoinHostPort(host, port))
	} else {
		conn, err = c.dialEach(ctx, d, network, host, port, proxy != nil)
	}
	if err != nil {
		if refused {
			return nil, ErrRefused // without the address that err names
		}
		return nil, err
	}
	return &connection{Conn: conn, idle: c.o.Idle}, nil
}

// permitsDial checks an address that is about to be dialled for host.
func (c *Client) permitsDial(ctx context.Context, host, port, target string) error {
	ap, err := netip.ParseAddrPort(target)
	if err != nil {
		return c.refuseHost(ctx, host, "not an address")
	}
	if !c.permits(host, port, ap.Addr()) {
		return c.refuseHost(ctx, host, fmt.Sprintf("it is at %s, which is %s", ap.Addr(), classify(ap.Addr())))
	}
	return nil
}

// dialEach resolves by [Options.Lookup] and tries one address after the other.
func (c *Client) dialEach(ctx context.Context, d *net.Dialer, network, host, port string, proxied bool) (net.Conn, error) {
	addresses := make([]netip.Addr, 0, 1)
	if a, err := netip.ParseAddr(host); err == nil {
		addresses = append(addresses, a)
	} else if c.o.Lookup != nil {
		if addresses, err = c.o.Lookup(ctx, host); err != nil {
			return nil, err
		}
	}
	err := error(&net.DNSError{Err: "no such host", Name: host, IsNotFound: true})
	for _, a := range addresses {
		target := net.JoinHostPort(a.String(), port)
		if !proxied {
			if err = c.permitsDial(ctx, host, port, target); err != nil {
				continue
			}
		}
		connect := d.DialContext
		if c.connect != nil {
			connect = c.connect
		}
		var conn net.Conn
		if conn, err = connect(ctx, network, target); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// connection is a connection on which a write that nobody takes is given up.
type connection struct {
	net.Conn
	idle time.Duration
}

func (c *connection) Write(b []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(c.idle)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}
