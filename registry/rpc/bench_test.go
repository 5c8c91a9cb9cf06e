package rpc

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// endless is content of any size without a store behind it.
type endless struct {
	size, left int64
	data       []byte
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), e.left)], e.data)
	e.left -= int64(n)
	return n, nil
}
func (e *endless) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{e}) }
func (e *endless) Size() int64                        { return e.size }
func (e *endless) Close() error                       { return nil }

const gib = 1 << 30

// overTCP returns clients of the two ports over loopback TCP.
func overTCP(b *testing.B) (registry.Blobs, registry.Catalog) {
	data := pattern(largeChunk)
	local := &faulty{Blobs: memory.NewBlobs(),
		open: func(_ context.Context, s registry.Stored, _ registry.Range) (registry.Content, error) {
			return &endless{s.Size, s.Size, data}, nil
		},
		append: func(_ context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
			n, err := io.Copy(writerFunc(func(p []byte) (int, error) { return len(p), nil }), r)
			u.Offset += n
			return u, err
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := NewServer(ServerOptions{})
	ServeBlobs(srv, local)
	ServeCatalog(srv, memory.NewCatalog(memory.CatalogOptions{}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, srv, local, time.Second) }()
	conn, err := Dial([]string{l.Addr().String()}, DialOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		conn.Close()
		cancel()
		<-ended
	})
	return NewBlobs(conn), NewCatalog(conn)
}

// reportCPU reports what both ends together needed, per gibibyte or call.
func reportCPU(b *testing.B, unit string, per float64) func() {
	cpu := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := cpu()
	return func() { b.ReportMetric(float64(cpu()-before)/float64(b.N)/per, unit) }
}

func BenchmarkOpen(b *testing.B) {
	blobs, _ := overTCP(b)
	s := registry.Stored{Digest: registry.SHA256.FromString(""), Size: gib}
	b.SetBytes(gib)
	defer reportCPU(b, "cpu-s/GiB", 1e9)()
	for b.Loop() {
		c, err := blobs.Open(b.Context(), s, registry.Whole)
		if err != nil {
			b.Fatal(err)
		}
		n, err := c.WriteTo(writerFunc(func(p []byte) (int, error) { return len(p), nil }))
		if n != gib || err != nil {
			b.Fatal(n, err)
		}
		c.Close()
	}
}

// BenchmarkForward is what a gateway does: from gRPC to a client's HTTP/1.1
// connection, with that client in the same process.
func BenchmarkForward(b *testing.B) {
	blobs, _ := overTCP(b)
	s := registry.Stored{Digest: registry.SHA256.FromString(""), Size: gib}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := blobs.Open(r.Context(), s, registry.Whole)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		w.Header().Set("Content-Length", strconv.FormatInt(c.Size(), 10))
		if _, err := io.Copy(w, c); err != nil {
			b.Error(err)
		}
	}))
	defer front.Close()
	b.SetBytes(gib)
	buf := make([]byte, 256<<10)
	defer reportCPU(b, "cpu-s/GiB", 1e9)()
	for b.Loop() {
		resp, err := front.Client().Get(front.URL)
		if err != nil {
			b.Fatal(err)
		}
		n, err := io.CopyBuffer(writerFunc(func(p []byte) (int, error) { return len(p), nil }), struct{ io.Reader }{resp.Body}, buf)
		if n != gib || err != nil {
			b.Fatal(n, err)
		}
		resp.Body.Close()
	}
}

func BenchmarkAppend(b *testing.B) {
	blobs, _ := overTCP(b)
	data := pattern(largeChunk)
	u := registry.Upload{ID: registry.NewUploadID(time.Now())}
	b.SetBytes(gib)
	defer reportCPU(b, "cpu-s/GiB", 1e9)()
	for b.Loop() {
		got, err := blobs.Append(b.Context(), u, &endless{gib, gib, data})
		if got.Offset != gib || err != nil {
			b.Fatal(got, err)
		}
	}
}

func BenchmarkOpenSmall(b *testing.B) {
	blobs, _ := overTCP(b)
	s := registry.Stored{Digest: registry.SHA256.FromString(""), Size: 1000}
	b.ReportAllocs()
	defer reportCPU(b, "cpu-µs/op", 1e3)()
	for b.Loop() {
		c, err := blobs.Open(b.Context(), s, registry.Whole)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

func BenchmarkUnary(b *testing.B) {
	_, catalog := overTCP(b)
	s := registry.Stored{Digest: registry.SHA256.FromString(""), Size: 1, Locator: "x"}
	actor := registry.Actor{ID: "alice"}
	if _, err := catalog.Link(b.Context(), actor, "a/b", s); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	defer reportCPU(b, "cpu-µs/op", 1e3)()
	for b.Loop() {
		if _, err := catalog.Blob(b.Context(), actor, "a/b", s.Digest); err != nil {
			b.Fatal(err)
		}
	}
}
