package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/grpc"

	scannerv1 "github.com/berth-registry/berth/proto/gen/berth/scanner/v1"
	syncerv1 "github.com/berth-registry/berth/proto/gen/berth/syncer/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
)

// A process that has a store's catalog in it serves the store's ports on a unix
// socket below the root directory, so that commands for the store work while it
// is in use. There is no other check than who may open the socket: its mode is
// 0600, in a directory of mode 0700.
const controlSocket = ".berth/control.sock"

// maxUnixPath is how long an address of a unix socket may be on Linux, in bytes
// (sun_path in unix(7), less its end).
const maxUnixPath = 107

// ErrNoControl is the error of [DialControl] if no process serves the store.
var ErrNoControl = errors.New("no process serves this store")

// ControlUnit returns a unit that serves the ports of the store at root, and m and
// s; calls to one that is nil are [registry.ErrUnsupported]. The
// process owns the store: a socket that is there already is of one that died.
func ControlUnit(ctx context.Context, root string, b registry.Blobs, c registry.Catalog, m registry.Mirror, s registry.Scans, o ServerOptions) (daemon.Unit, error) {
	o.Security, o.owned = nil, true
	if o.Audit == nil {
		o.Audit = c
	}
	var l net.Listener
	err := atSocket(root, func(path string) (err error) {
		l, err = daemon.ListenUnix(ctx, path)
		return err
	})
	if err != nil {
		return daemon.Unit{}, fmt.Errorf("listening for commands: %w", err)
	}
	srv := NewServer(o)
	ServeBlobs(srv, b)
	ServeCatalog(srv, c)
	if m != nil {
		ServeMirror(srv, m, c)
	} else {
		refuse(srv, &syncerv1.SyncService_ServiceDesc, registry.ErrUnsupported.With("this process mirrors no other registries: its config file has no extensions.sync, or a syncer does it"))
	}
	if s != nil {
		ServeScans(srv, s, c)
	} else {
		refuse(srv, &scannerv1.ScanService_ServiceDesc, registry.ErrUnsupported.With("this process scans no images: its config file has no extensions.search.cve, or a scanner does it"))
	}
	l = newRemoving(l, filepath.Join(root, controlSocket))
	u := Unit("control socket", l, srv, c)
	u.Abandon = l.Close
	return u, nil
}

// refuse serves a service all of whose calls fail with why.
func refuse(srv *grpc.Server, service *grpc.ServiceDesc, why error) {
	d := grpc.ServiceDesc{ServiceName: service.ServiceName, HandlerType: (*any)(nil), Metadata: service.Metadata}
	failure := toStatus(why).Err()
	for _, m := range service.Methods {
		m.Handler = func(any, context.Context, func(any) error, grpc.UnaryServerInterceptor) (any, error) {
			return nil, failure
		}
		d.Methods = append(d.Methods, m)
	}
	for _, m := range service.Streams {
		m.Handler = func(any, grpc.ServerStream) error { return why }
		d.Streams = append(d.Streams, m)
	}
	srv.RegisterService(&d, nil)
}

// removing is a listener that removes its socket by its true name: the one it
// was bound by may mean another file by now.
type removing struct {
	net.Listener
	path string
}

func newRemoving(l net.Listener, path string) net.Listener {
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	return removing{l, path}
}

// Accept returns the next connection, with who is at its other end in place of an
// address: such sockets have none.
func (r removing) Accept() (net.Conn, error) {
	c, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if user := userOf(c); user != "" {
		c = ownedConn{c, ownerAddr(user)}
	}
	return c, nil
}

// ownedConn is a connection with the name of the user who made it.
type ownedConn struct {
	net.Conn
	from net.Addr
}

// RemoteAddr returns the user.
func (c ownedConn) RemoteAddr() net.Addr { return c.from }

// ownerAddr is a user as an address.
type ownerAddr string

// Network implements [net.Addr].
func (ownerAddr) Network() string { return "unix" }

// String implements [net.Addr].
func (a ownerAddr) String() string { return string(a) }

// Close ends the listener.
func (r removing) Close() error {
	err := os.Remove(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(r.Listener.Close(), err)
}

// Control is the ports of a store that another process of this machine serves.
type Control struct {
	Blobs   registry.Blobs
	Catalog registry.Catalog
	// Mirror's calls are [registry.ErrUnsupported] if the process has none.
	Mirror registry.Mirror
	// Scans' calls are [registry.ErrUnsupported] if the process has none.
	Scans registry.Scans
	conn  *grpc.ClientConn
}

// Close ends the connection.
func (c *Control) Close() error { return c.conn.Close() }

// DialControl connects to the process that serves the store at root, or returns
// [ErrNoControl].
func DialControl(ctx context.Context, root string) (*Control, error) {
	probe, err := dialSocket(ctx, root)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNoControl
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the process that serves %s: %w", root, err)
	}
	if err := probe.Close(); err != nil {
		return nil, fmt.Errorf("connecting to the process that serves %s: %w", root, err)
	}
	conn, err := Dial([]string{"passthrough:///control"}, DialOptions{
		Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return dialSocket(ctx, root) },
	})
	if err != nil {
		return nil, err
	}
	return &Control{Blobs: NewBlobs(conn), Catalog: NewCatalog(conn), Mirror: NewMirror(conn), Scans: NewScans(conn), conn: conn}, nil
}

func dialSocket(ctx context.Context, root string) (conn net.Conn, err error) {
	err = atSocket(root, func(path string) (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
		return err
	})
	return conn, err
}

// atSocket calls use with an address of the socket. If its path is too long for
// one, it goes by way of an open directory.
func atSocket(root string, use func(path string) error) error {
	path := filepath.Join(root, controlSocket)
	if len(path) <= maxUnixPath {
		return use(path)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	err = use(fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), strings.TrimPrefix(path, filepath.Dir(path)+"/")))
	return errors.Join(err, dir.Close())
}
