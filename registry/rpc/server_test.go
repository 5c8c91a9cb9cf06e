package rpc

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// A client goes where the health check says that all is well.
func TestHealthDrivesClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var sick atomic.Bool
		pipes := map[string]*bufconn.Listener{"a:1": bufconn.Listen(1 << 16), "b:1": bufconn.Listen(1 << 16)}
		ended := make(chan error, len(pipes))
		calls := map[string]*atomic.Int32{}
		for name, pipe := range pipes {
			n := new(atomic.Int32)
			calls[name] = n
			check := &faulty{Blobs: memory.NewBlobs(), check: func(context.Context) (registry.Health, error) {
				if name == "a:1" && sick.Load() {
					return registry.Health{}, errors.New("sick")
				}
				return registry.Health{}, nil
			}}
			srv := NewServer(ServerOptions{})
			ServeBlobs(srv, &faulty{Blobs: memory.NewBlobs(), check: func(context.Context) (registry.Health, error) {
				n.Add(1)
				return registry.Health{ReadOnly: "for a test"}, nil
			}})
			go func() { ended <- Serve(ctx, pipe, srv, check, time.Minute) }()
		}
		conn, err := Dial([]string{"a:1", "b:1"}, DialOptions{Dialer: func(ctx context.Context, address string) (net.Conn, error) {
			return pipes[address].DialContext(ctx)
		}})
		if err != nil {
			t.Fatal(err)
		}
		b := NewBlobs(conn)
		ask := func(wantA, wantB int32) {
			t.Helper()
			synctest.Wait()
			calls["a:1"].Store(0)
			calls["b:1"].Store(0)
			for range 10 {
				if h, err := b.Check(t.Context()); err != nil || h.ReadOnly != "for a test" {
					t.Errorf("got %+v, %v", h, err)
				}
			}
			if a, b := calls["a:1"].Load(), calls["b:1"].Load(); a != wantA || b != wantB {
				t.Errorf("got %d and %d calls, want %d and %d", a, b, wantA, wantB)
			}
		}
		conn.Connect()
		ask(5, 5)
		sick.Store(true)
		time.Sleep(checkEvery + time.Second)
		ask(0, 10)
		sick.Store(false)
		time.Sleep(checkAgain + time.Millisecond) // sooner than of one that was well
		ask(5, 5)

		// Clients that only watch don't hold up the end.
		start := time.Now()
		cancel()
		for range pipes {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the servers took %v to end", took)
		}
		if _, err := b.Check(context.Background()); !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("with no server: got %v", err)
		}
		conn.Close()
	})
}

// At the end of a server a transfer goes on as long as drain allows.
func TestServeDrains(t *testing.T) {
	for name, drain := range map[string]time.Duration{"ends": time.Minute, "is cut": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				local := memory.NewBlobs()
				s := put(t, local, pattern(8<<20))
				pipe := bufconn.Listen(1 << 16)
				srv := NewServer(ServerOptions{})
				ServeBlobs(srv, local)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- Serve(ctx, pipe, srv, local, drain) }()
				conn, err := Dial([]string{"passthrough:///pipe"}, DialOptions{Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
					return pipe.DialContext(ctx)
				}})
				if err != nil {
					t.Fatal(err)
				}
				c, err := NewBlobs(conn).Open(t.Context(), s, registry.Whole)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				cancel()
				time.Sleep(30 * time.Second)
				n, err := io.Copy(io.Discard, c)
				if name == "ends" && (err != nil || n != 8<<20) {
					t.Errorf("got %d bytes, %v", n, err)
				}
				if name == "is cut" && !errors.Is(err, registry.ErrUnavailable) {
					t.Errorf("got %d bytes, %v, want ErrUnavailable", n, err)
				}
				c.Close()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > 35*time.Second { // the client has tried again for 3 s
					t.Errorf("the server took %v to end", took)
				}
				conn.Close()
			})
		})
	}
}

func TestServeFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	local := memory.NewBlobs()
	if err := Serve(t.Context(), l, NewServer(ServerOptions{}), local, time.Second); err == nil {
		t.Error("no error from a closed listener")
	}
}

func TestTargets(t *testing.T) {
	for _, test := range []struct {
		addresses []string
		target    string
		list      []string // address and server name
		bad       bool
	}{
		{addresses: []string{"host:7001"}, target: "host:7001"},
		{addresses: []string{"dns:///host:7001"}, target: "dns:///host:7001"},
		{addresses: []string{"10.0.0.1:7001", "dns:///b:7002", "[::1]:7003"}, target: "list:///10.0.0.1:7001",
			list: []string{"10.0.0.1:7001", "10.0.0.1", "b:7002", "b", "[::1]:7003", "::1"}},
		{addresses: nil, bad: true},
		{addresses: []string{"a:1", "b"}, bad: true},
	} {
		target, list, err := targetOf(test.addresses)
		if (err != nil) != test.bad {
			t.Errorf("%q: got error %v, want one: %v", test.addresses, err, test.bad)
		}
		var got []string
		for _, a := range list {
			got = append(got, a.Addr, a.ServerName)
		}
		if target != test.target {
			t.Errorf("%q: got target %q, want %q", test.addresses, target, test.target)
		}
		if diff := cmp.Diff(test.list, got); diff != "" {
			t.Errorf("%q: %s", test.addresses, diff)
		}
	}
}

// A connection to no server fails at the first call, not later.
func TestDialNobody(t *testing.T) {
	conn, err := dial([]string{"passthrough:///nobody"}, DialOptions{Dialer: func(context.Context, string) (net.Conn, error) {
		return nil, errors.New("nobody there")
	}}, grpc.WithUserAgent("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = NewCatalog(conn).UploadKeys(t.Context())
	wantErr(t, "UploadKeys", err, registry.ErrUnavailable)
}
