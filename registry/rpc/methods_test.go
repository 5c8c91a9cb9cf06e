package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/memory"
)

// TestS019EveryMethodHasARow lists what a server serves: what is not in the table
// nobody may call, and what is in it and not served is a mistake.
func TestS019EveryMethodHasARow(t *testing.T) {
	srv := NewServer(ServerOptions{})
	ServeBlobs(srv, memory.NewBlobs())
	ServeCatalog(srv, memory.NewCatalog(memory.CatalogOptions{}))
	ServeMirror(srv, nil, nil)
	ServeScans(srv, nil, nil)
	reflection.Register(srv)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Serve(ctx, l, srv, memory.NewBlobs(), time.Second); err != nil { // it adds health
		t.Fatal(err)
	}
	served := map[string]bool{}
	for service, info := range srv.GetServiceInfo() {
		for _, m := range info.Methods {
			name := "/" + service + "/" + m.Name
			served[name] = true
			if methods[name] == noRole {
				t.Errorf("no row says who may call %s", name)
			}
		}
	}
	for name := range methods {
		if !served[name] {
			t.Errorf("nobody serves %s", name)
		}
	}
	if len(served) < 30 {
		t.Errorf("%d methods only", len(served))
	}
}

// A method without a row is refused to everyone.
func TestS019MethodWithoutARow(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	const service, name = "test.Unlisted", "/test.Unlisted/Do"
	var called atomic.Bool
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "blobstore")}, func(srv *grpc.Server) {
		srv.RegisterService(&grpc.ServiceDesc{ServiceName: service, HandlerType: (*any)(nil), Streams: []grpc.StreamDesc{{
			StreamName: "Do", ServerStreams: true, ClientStreams: true,
			Handler: func(any, grpc.ServerStream) error { called.Store(true); return nil },
		}}}, struct{}{})
	})
	conn := connect(t, address, DialOptions{Security: named(t, ca, "gateway", "metadata", "syncer", "scanner", "ci.example.org"), Server: Blobstore})
	s, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name)
	if err == nil {
		err = s.RecvMsg(new(chunk))
	}
	if status.Code(err) != codes.PermissionDenied || called.Load() {
		t.Errorf("got %v; called: %v", err, called.Load())
	}
}

// TestS019RawPaths sends frames whose :path is nearly that of a method.
func TestS019RawPaths(t *testing.T) {
	ca := certstest.NewAuthority(t, "ours")
	var calls atomic.Int32
	blobs := &faulty{Blobs: memory.NewBlobs(), check: func(context.Context) (registry.Health, error) {
		calls.Add(1)
		return registry.Health{}, nil
	}}
	address := overNetwork(t, ServerOptions{Security: named(t, ca, "blobstore")}, func(srv *grpc.Server) { ServeBlobs(srv, blobs) })
	cert, key := ca.Issue(t, certstest.Request{Names: []string{"ci.example.org"}})
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	const unimplemented, denied = "12", "7"
	for path, want := range map[string]string{
		"/berth.blobstore.v1.BlobService/Check":                                   denied, // what it is about
		"berth.blobstore.v1.BlobService/Check":                                    unimplemented,
		"//berth.blobstore.v1.BlobService/Check":                                  unimplemented,
		"/berth.blobstore.v1.BlobService%2FCheck":                                 unimplemented,
		"/berth.blobstore.v1.BlobService/%43heck":                                 unimplemented,
		"/berth.blobstore.v1.BlobService//Check":                                  unimplemented,
		"/berth.blobstore.v1.BlobService/Check/":                                  unimplemented,
		"/berth.blobstore.v1.BlobService/check":                                   unimplemented,
		"/berth.blobstore.v1.blobservice/Check":                                   unimplemented,
		"/berth.blobstore.v1.BlobService/Check?a":                                 unimplemented,
		"/berth.blobstore.v1.BlobService/./Check":                                 unimplemented,
		"/x/../berth.blobstore.v1.BlobService/Check":                              unimplemented,
		"/berth.blobstore.v1.BlobService\\Check":                                  unimplemented,
		"/grpc.health.v1.Health/Check/../../berth.blobstore.v1.BlobService/Check": unimplemented,
		"/":  unimplemented,
		"//": unimplemented,
		"":   unimplemented,
	} {
		got, err := rawCall(address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}, path)
		if err != nil && want != "" || got != want {
			t.Errorf("%q: got gRPC status %q, %v, want %q", path, got, err, want)
		}
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("the method was called %d times", n)
	}
}

// rawCall makes a call with an empty message and returns its grpc-status, "" if
// the stream was reset.
func rawCall(address string, c *tls.Config, path string) (string, error) {
	conn, err := tls.Dial("tcp", address, c)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		return "", err
	}
	f := http2.NewFramer(conn, conn)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", "blobstore"}, {":path", path}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			return "", err
		}
	}
	if err := errors.Join(f.WriteSettings(),
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true}),
		f.WriteData(1, true, []byte{0, 0, 0, 0, 0})); err != nil {
		return "", err
	}
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return "", err
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "", nil
		case *http2.MetaHeadersFrame:
			for _, h := range frame.Fields {
				if h.Name == "grpc-status" {
					return h.Value, nil
				}
			}
			if frame.StreamEnded() {
				return "", nil
			}
		}
	}
}
