package rpc

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
)

// Unit returns a unit that serves srv on l as [Serve] does, and gives calls in
// progress the time that the process has to stop.
func Unit(name string, l net.Listener, srv *grpc.Server, check registry.Checker) daemon.Unit {
	serving, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	return daemon.Unit{
		Name: name,
		Run: func() error {
			defer close(ended)
			return Serve(serving, l, srv, check, daemon.DefaultDrain)
		},
		Stop: func(ctx context.Context) error {
			end()
			select {
			case <-ended:
			case <-ctx.Done():
				srv.Stop()
				<-ended
			}
			return nil
		},
	}
}

// BlobsUnit returns a unit that serves b on address.
func BlobsUnit(ctx context.Context, address string, b registry.Blobs, o ServerOptions) (daemon.Unit, error) {
	return unit(ctx, Blobstore, address, b, o, func(srv *grpc.Server) { ServeBlobs(srv, b) })
}

// CatalogUnit returns a unit that serves c on address.
func CatalogUnit(ctx context.Context, address string, c registry.Catalog, o ServerOptions) (daemon.Unit, error) {
	return unit(ctx, Metadata, address, c, o, func(srv *grpc.Server) { ServeCatalog(srv, c) })
}

// MirrorUnit returns a unit that serves m on address; for rights see [ServeMirror].
func MirrorUnit(ctx context.Context, address string, m registry.Mirror, rights registry.Access, o ServerOptions) (daemon.Unit, error) {
	return unit(ctx, Syncer, address, m, o, func(srv *grpc.Server) { ServeMirror(srv, m, rights) })
}

// ScansUnit returns a unit that serves s on address; for rights see [ServeScans].
func ScansUnit(ctx context.Context, address string, s registry.Scans, rights ScanRights, o ServerOptions) (daemon.Unit, error) {
	return unit(ctx, Scanner, address, s, o, func(srv *grpc.Server) { ServeScans(srv, s, rights) })
}

func unit(ctx context.Context, role Role, address string, check registry.Checker, o ServerOptions, register func(*grpc.Server)) (daemon.Unit, error) {
	name := role.String() + " gRPC"
	if err := o.Security.mayServe(role); err != nil {
		return daemon.Unit{}, err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return daemon.Unit{}, fmt.Errorf("listening for %s: %w", name, err)
	}
	srv := NewServer(o)
	register(srv)
	if o.Reflect != nil {
		o.Reflect(srv)
	}
	u := Unit(name, l, srv, check)
	u.Abandon = l.Close
	if o.Log != nil {
		o.Log.Info("listening for "+name, "address", l.Addr().String(), "tls", o.Security != nil)
	}
	return u, nil
}

// RemoteBlobs is [registry.Blobs] behind a connection of its own.
type RemoteBlobs struct {
	*blobs
	conn *grpc.ClientConn
}

// DialBlobs returns the blobstore at addresses, see [Dial].
func DialBlobs(addresses []string, o DialOptions) (*RemoteBlobs, error) {
	o.Server = Blobstore
	conn, err := Dial(addresses, o)
	if err != nil {
		return nil, err
	}
	return &RemoteBlobs{newBlobs(conn, clientLimits(), newPool()), conn}, nil
}

// Close closes the connection.
func (r *RemoteBlobs) Close() error { return r.conn.Close() }

// RemoteCatalog is [registry.Catalog] behind a connection of its own.
type RemoteCatalog struct {
	registry.Catalog
	conn *grpc.ClientConn
}

// DialCatalog returns the catalog at addresses, see [Dial].
func DialCatalog(addresses []string, o DialOptions) (*RemoteCatalog, error) {
	o.Server = Metadata
	conn, err := Dial(addresses, o)
	if err != nil {
		return nil, err
	}
	return &RemoteCatalog{NewCatalog(conn), conn}, nil
}

// Close closes the connection.
func (r *RemoteCatalog) Close() error { return r.conn.Close() }

// RemoteMirror is [registry.Mirror] behind a connection of its own.
type RemoteMirror struct {
	registry.Mirror
	conn *grpc.ClientConn
}

// DialMirror returns the syncer at addresses, see [Dial].
func DialMirror(addresses []string, o DialOptions) (*RemoteMirror, error) {
	o.Server = Syncer
	conn, err := Dial(addresses, o)
	if err != nil {
		return nil, err
	}
	return &RemoteMirror{NewMirror(conn), conn}, nil
}

// Close closes the connection.
func (r *RemoteMirror) Close() error { return r.conn.Close() }

// RemoteScans is [registry.Scans] behind a connection of its own.
type RemoteScans struct {
	registry.Scans
	conn *grpc.ClientConn
}

// DialScans returns the scanner at addresses, see [Dial].
func DialScans(addresses []string, o DialOptions) (*RemoteScans, error) {
	o.Server = Scanner
	conn, err := Dial(addresses, o)
	if err != nil {
		return nil, err
	}
	return &RemoteScans{NewScans(conn), conn}, nil
}

// Close closes the connection.
func (r *RemoteScans) Close() error { return r.conn.Close() }
