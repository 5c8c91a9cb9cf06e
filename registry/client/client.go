// Package client calls Berth's services over gRPC, for Go programs that automate
// a registry: it dials, and what it returns are the ports of package registry,
// the same interfaces that the services have among themselves.
//
// The rest is help for what clients do all the time: [Repositories], [Tags] and
// [Referrers] walk lists page by page, [Upload] and [PushManifest] push.
//
// What a client may do: a server without services.tls trusts everybody who
// reaches it. One with services.tls wants a certificate with a name that its
// services.tls.peers lists; a client listed under automation acts as the user of
// that name, may read, tag and delete, and pushes bytes over HTTP.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/rpc"
)

// Options say where the services are and how to talk to them. One of the two
// lists may be empty.
type Options struct {
	// Metadata and Blobstore are the addresses of the services, as
	// services.X.address of a config file has them: host:port each, or one gRPC
	// target such as dns:///host:port.
	Metadata, Blobstore []string
	// TLS names the files to use. nil: plaintext.
	TLS *TLS
	// Insecure allows plaintext to and from other machines.
	Insecure bool
	// Log gets what goes wrong in the background: a certificate that can't be read
	// again. nil: nowhere.
	Log *slog.Logger
}

// TLS is how client and servers know each other.
type TLS struct {
	// Cert and Key are files of the client's certificate chain and private key,
	// CACert of the authorities that its and the servers' certificates are of.
	// When they change the next connection has the new ones.
	Cert, Key, CACert string
	// Metadata and Blobstore are the names that the servers' certificates may
	// have, services.tls.peers of the config file. Empty: "metadata" and
	// "blobstore".
	Metadata, Blobstore []string
}

// Client holds the connections. Its ports may be used by many goroutines.
type Client struct {
	Catalog registry.Catalog // nil without [Options.Metadata]
	Blobs   registry.Blobs   // nil without [Options.Blobstore]
	close   []func() error
}

// Dial returns a client. It does not connect: the first call of each service
// does.
func Dial(o Options) (_ *Client, err error) {
	if len(o.Metadata)+len(o.Blobstore) == 0 {
		return nil, errors.New("client: no address")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	security, err := o.security()
	if err != nil {
		return nil, err
	}
	dial := rpc.DialOptions{Security: security}
	c := new(Client)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if len(o.Metadata) > 0 {
		catalog, err := rpc.DialCatalog(o.Metadata, dial)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		c.Catalog, c.close = catalog, append(c.close, catalog.Close)
	}
	if len(o.Blobstore) > 0 {
		blobs, err := rpc.DialBlobs(o.Blobstore, dial)
		if err != nil {
			return nil, fmt.Errorf("client: %w", err)
		}
		c.Blobs, c.close = blobs, append(c.close, blobs.Close)
	}
	return c, nil
}

// DialStore returns a client of the registry that serves the store at root on
// this machine, for whoever may write there. [ErrNotServed] if nobody does.
func DialStore(ctx context.Context, root string) (*Client, error) {
	control, err := rpc.DialControl(ctx, root)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return &Client{Catalog: control.Catalog, Blobs: control.Blobs, close: []func() error{control.Close}}, nil
}

// ErrNotServed says that no process of this machine serves a store.
var ErrNotServed = rpc.ErrNoControl

// Close closes the connections.
func (c *Client) Close() error {
	var errs []error
	for _, f := range c.close {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

// security returns nil for plaintext, which must have been meant.
func (o Options) security() (*rpc.Security, error) {
	if o.TLS == nil {
		for _, a := range append(append([]string(nil), o.Metadata...), o.Blobstore...) {
			if !o.Insecure && !loopback(a) {
				return nil, fmt.Errorf("client: %s is another machine: use TLS, or set Insecure on a network you trust", a)
			}
		}
		return nil, nil
	}
	s, err := rpc.Secure(config.Services{TLS: &config.MutualTLS{
		Cert: o.TLS.Cert, Key: o.TLS.Key, CACert: o.TLS.CACert,
		Peers: config.Peers{
			Metadata:  or(o.TLS.Metadata, "metadata"),
			Blobstore: or(o.TLS.Blobstore, "blobstore"),
			// What the client's own certificate may do is for the servers to say.
			Automation: []string{"*"},
		},
	}}, o.Log)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return s, nil
}

func or(names []string, standard string) []string {
	if len(names) == 0 {
		return []string{standard}
	}
	return names
}

// loopback reports whether only this machine is at an address, whatever name
// servers say.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
