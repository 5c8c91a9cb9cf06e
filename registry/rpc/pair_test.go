package rpc

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// pair is a client and a server that talk through memory.
type pair struct {
	client limits
	server limits
	log    io.Writer
	pool   *countingPool // of senders; nil: the default pool
	net    *countingPool // of gRPC; nil: the default pool

	pipe atomic.Pointer[bufconn.Listener] // where clients connect to
	srv  *grpc.Server
	conn *grpc.ClientConn
	stop func()
}

func newPair() *pair { return &pair{client: clientLimits(), server: serverLimits(), log: io.Discard} }

// serve starts the server, with what register adds to it, and the client.
func (p *pair) serve(t testing.TB, register func(*grpc.Server)) {
	t.Helper()
	var serverPool []grpc.ServerOption
	var clientPool []grpc.DialOption
	if p.net != nil {
		serverPool = append(serverPool, experimental.BufferPool(p.net))
		clientPool = append(clientPool, experimental.WithBufferPool(p.net))
	}
	p.srv = newServer(ServerOptions{Log: slog.New(slog.NewTextHandler(p.log, nil))}, p.server, serverPool...)
	register(p.srv)
	p.listen(t, p.srv)
	var err error
	p.conn, err = dial([]string{"passthrough:///pipe"}, DialOptions{Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
		return p.pipe.Load().DialContext(ctx)
	}}, clientPool...)
	if err != nil {
		t.Fatal(err)
	}
	p.stop = sync.OnceFunc(func() {
		p.conn.Close()
		p.srv.Stop()
	})
	t.Cleanup(p.stop)
}

// listen makes srv the server of the pair.
func (p *pair) listen(t testing.TB, srv *grpc.Server) {
	pipe := bufconn.Listen(256 << 10)
	p.pipe.Store(pipe)
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(pipe) })
	t.Cleanup(func() {
		srv.Stop()
		running.Wait()
	})
}

// blobs returns local as seen through the pair.
func (p *pair) blobs(t testing.TB, local registry.Blobs) *blobs {
	t.Helper()
	var pool mem.BufferPool = p.pool
	if p.pool == nil {
		pool = mem.DefaultBufferPool()
	}
	p.serve(t, func(srv *grpc.Server) { serveBlobs(srv, local, p.server, pool) })
	return newBlobs(p.conn, p.client, pool)
}

// catalog returns local as seen through the pair.
func (p *pair) catalog(t testing.TB, local registry.Catalog) *catalog {
	t.Helper()
	p.serve(t, func(srv *grpc.Server) { ServeCatalog(srv, local) })
	return newCatalog(p.conn, p.client)
}

// countingPool knows which of its buffers are out. A buffer that comes back is
// spoilt, so that nobody can use it unnoticed, and never given out again.
type countingPool struct {
	t   testing.TB
	mu  sync.Mutex
	out map[*byte]int // buffers that are out, and their size
	got int           // how many were ever out
	now int           // bytes out
	max int           // most bytes ever out
}

func newCountingPool(t testing.TB) *countingPool {
	return &countingPool{t: t, out: make(map[*byte]int)}
}

func (p *countingPool) Get(n int) *[]byte {
	b := make([]byte, n, max(n, 1))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out[&b[:1][0]] = cap(b)
	p.got++
	p.now += cap(b)
	p.max = max(p.max, p.now)
	return &b
}

func (p *countingPool) Put(b *[]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := &(*b)[:1][0]
	size, ok := p.out[first]
	if !ok {
		p.t.Errorf("a buffer of %d bytes was freed that is not out", cap(*b))
		return
	}
	delete(p.out, first)
	p.now -= size
	all := (*b)[:cap(*b)]
	for i := range all {
		all[i] = 0xDB
	}
}

// check waits until no buffer is out that gRPC would have freed.
func (p *countingPool) check(t *testing.T) {
	t.Helper()
	large := func() (n int) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, size := range p.out {
			// gRPC never frees buffers of up to 1 KiB: they are not worth it.
			if !mem.IsBelowBufferPoolingThreshold(size) {
				n++
			}
		}
		return n
	}
	defer func() {
		if t.Failed() {
			t.Logf("out: %v", slices.Collect(maps.Values(p.out)))
		}
	}()
	eventually(t, "all buffers back", func() bool { return large() == 0 })
	if p.got == 0 {
		t.Error("the pool was not used")
	}
}

// eventually waits for what happens in gRPC's goroutines, where there is no event
// to wait for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not in time", what)
		case <-again.C:
		}
	}
}

// put stores data in local.
func put(t testing.TB, local registry.Blobs, data []byte) registry.Stored {
	t.Helper()
	u, err := local.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := local.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// pattern returns n bytes that repeat at no power of two.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

// faulty is a Blobs of which a test replaces what it wants to fail.
type faulty struct {
	*memory.Blobs
	open   func(context.Context, registry.Stored, registry.Range) (registry.Content, error)
	append func(context.Context, registry.Upload, io.Reader) (registry.Upload, error)
	verify func(context.Context, registry.Stored) error
	check  func(context.Context) (registry.Health, error)
}

func (f *faulty) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	if f.open == nil {
		return f.Blobs.Open(ctx, s, r)
	}
	return f.open(ctx, s, r)
}

func (f *faulty) Append(ctx context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
	if f.append == nil {
		return f.Blobs.Append(ctx, u, r)
	}
	return f.append(ctx, u, r)
}

func (f *faulty) Verify(ctx context.Context, s registry.Stored, rate int64) error {
	if f.verify == nil {
		return f.Blobs.Verify(ctx, s, rate)
	}
	return f.verify(ctx, s)
}

func (f *faulty) Check(ctx context.Context) (registry.Health, error) {
	if f.check == nil {
		return f.Blobs.Check(ctx)
	}
	return f.check(ctx)
}
