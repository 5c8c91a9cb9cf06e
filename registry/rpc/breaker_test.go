package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// Answers of servers without a Failure, as the network gives them.
var (
	errGone     = status.Error(codes.Unavailable, "gone")
	errNoHealth = status.Error(codes.Unimplemented, "no health service")
)

func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b breaker
		enter := func(want bool, when string) {
			t.Helper()
			if got := b.enter(); got != want {
				t.Fatalf("%s: lets a call through: %v, want %v", when, got, want)
			}
		}
		for range tripAfter - 1 {
			enter(true, "in use")
			b.leave(failed)
		}
		enter(true, "after a success")
		b.leave(answered)
		for range tripAfter {
			enter(true, "in use again")
		}
		for range tripAfter {
			b.leave(failed)
		}
		enter(false, "left out")
		b.open.Add(1)
		b.leave(failed) // of a call that began before
		// The pauses double, up to the longest.
		for _, pause := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 8 * firstPause, maxPause, maxPause} {
			time.Sleep(pause - pause/5 - time.Millisecond)
			enter(false, fmt.Sprintf("before %v are over", pause))
			time.Sleep(pause/5 + 2*time.Millisecond)
			enter(true, fmt.Sprintf("after %v", pause))
			enter(false, "a second call to see")
			b.leave(unclear)
			enter(false, "another at once")
			time.Sleep(trialEvery)
			enter(true, "another a second later")
			b.leave(failed)
		}
		time.Sleep(maxPause)
		enter(true, "to see")
		b.leave(answered)
		for range tripAfter - 1 {
			enter(true, "well again")
			b.leave(failed)
		}
		enter(true, "few failures")
		b.leave(answered)
		if n := b.open.Load(); n != 0 {
			t.Errorf("%d calls in progress", n)
		}
	})
}

// A replica gets no more calls than its connection carries.
func TestBreakerBoundsTheQueue(t *testing.T) {
	var b breaker
	for range maxStreams {
		if !b.enter() {
			t.Fatal("refused")
		}
	}
	if b.enter() {
		t.Error("one too many")
	}
	b.leave(answered)
	if !b.enter() {
		t.Error("refused after one has ended")
	}
}

func TestOutcomes(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	stalled, stop := context.WithCancelCause(t.Context())
	stop(errStalled)
	for name, test := range map[string]struct {
		ctx  context.Context
		info balancer.DoneInfo
		want outcome
	}{
		"well":                  {t.Context(), balancer.DoneInfo{BytesSent: true, BytesReceived: true}, answered},
		"never made":            {t.Context(), balancer.DoneInfo{}, unclear},
		"the network":           {t.Context(), balancer.DoneInfo{Err: errGone}, failed},
		"the service":           {t.Context(), balancer.DoneInfo{Err: toStatus(registry.ErrUnavailable).Err()}, answered},
		"a bug of the service":  {t.Context(), balancer.DoneInfo{Err: toStatus(registry.ErrInternal).Err()}, answered},
		"no answer in time":     {t.Context(), balancer.DoneInfo{Err: status.Error(codes.DeadlineExceeded, "")}, failed},
		"the caller left":       {canceled, balancer.DoneInfo{Err: status.Error(codes.Canceled, "")}, unclear},
		"we gave up the stream": {stalled, balancer.DoneInfo{Err: status.Error(codes.Canceled, "")}, failed},
	} {
		if got := outcomeOf(test.ctx, test.info); got != test.want {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// cluster is replicas of a blobstore that come and go.
type cluster struct {
	resolver *manual.Resolver
	conn     *grpc.ClientConn

	mu       sync.Mutex
	replicas map[string]*member
}

type member struct {
	pipe  *bufconn.Listener
	srv   *grpc.Server
	calls atomic.Int32
	hangs atomic.Bool // handlers never answer
	ended chan error
	stop  context.CancelFunc
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{resolver: manual.NewBuilderWithScheme("cluster"), replicas: map[string]*member{}}
	c.resolver.InitialState(resolver.State{})
	var err error
	c.conn, err = dial([]string{"cluster:///"}, DialOptions{Dialer: func(ctx context.Context, address string) (net.Conn, error) {
		c.mu.Lock()
		m := c.replicas[address]
		c.mu.Unlock()
		if m == nil {
			return nil, errors.New("connection refused")
		}
		return m.pipe.DialContext(ctx)
	}}, grpc.WithResolvers(c.resolver))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// start runs a server at address that counts checks.
func (c *cluster) start(t *testing.T, address string) *member {
	var m *member
	m = c.startBlobs(t, address, &faulty{Blobs: memory.NewBlobs(), check: func(ctx context.Context) (registry.Health, error) {
		m.calls.Add(1)
		if m.hangs.Load() {
			<-ctx.Done()
			return registry.Health{}, ctx.Err()
		}
		return registry.Health{ReadOnly: "for a test"}, nil
	}})
	return m
}

// startBlobs serves b at address.
func (c *cluster) startBlobs(t *testing.T, address string, b registry.Blobs) *member {
	m := &member{pipe: bufconn.Listen(1 << 16), srv: NewServer(ServerOptions{}), ended: make(chan error, 1)}
	ServeBlobs(m.srv, b)
	ctx, cancel := context.WithCancel(t.Context())
	m.stop = cancel
	go func() { m.ended <- Serve(ctx, m.pipe, m.srv, memory.NewBlobs(), time.Second) }()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replicas[address] = m
	return m
}

// kill ends the server at address without a word.
func (c *cluster) kill(address string) {
	c.mu.Lock()
	m := c.replicas[address]
	delete(c.replicas, address)
	c.mu.Unlock()
	m.srv.Stop()
	m.stop()
	<-m.ended
}

// publish says what the name resolves to.
func (c *cluster) publish(addresses ...string) {
	var list []resolver.Address
	for _, a := range addresses {
		list = append(list, resolver.Address{Addr: a})
	}
	c.resolver.UpdateState(resolver.State{Addresses: list})
	synctest.Wait()
}

func (c *cluster) end() {
	c.conn.Close()
	for a := range c.replicas {
		c.kill(a)
	}
}

// TestReplicasComeAndGo changes what a name resolves to, and kills.
func TestReplicasComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		b := NewBlobs(c.conn)
		ask := func(want map[*member]int32) {
			t.Helper()
			synctest.Wait()
			for m := range want {
				m.calls.Store(0)
			}
			for range 12 {
				if _, err := b.Check(t.Context()); err != nil {
					t.Errorf("Check: %v", err)
				}
			}
			i := 0
			for m, n := range want {
				i++
				if got := m.calls.Load(); got != n {
					t.Errorf("one of the replicas got %d calls, want %d", got, n)
				}
			}
		}
		one := c.start(t, "one:1")
		c.publish("one:1")
		c.conn.Connect()
		ask(map[*member]int32{one: 12})
		two, three := c.start(t, "two:1"), c.start(t, "three:1")
		c.publish("one:1", "two:1", "three:1")
		ask(map[*member]int32{one: 4, two: 4, three: 4})
		c.publish("two:1", "three:1")
		ask(map[*member]int32{one: 0, two: 6, three: 6})
		c.kill("three:1")
		ask(map[*member]int32{two: 12})
		// It is found again soon after it is back, though it was away for long.
		time.Sleep(10 * time.Minute)
		three = c.start(t, "three:1")
		time.Sleep(reconnect.Backoff.MaxDelay + 2*time.Second)
		ask(map[*member]int32{two: 6, three: 6})
		c.kill("two:1")
		c.kill("three:1")
		synctest.Wait()
		start := time.Now()
		_, err := b.Check(t.Context())
		wantErr(t, "with nobody there", err, registry.ErrUnavailable)
		if took := time.Since(start); took > time.Second {
			t.Errorf("took %v", took)
		}
		c.end()
	})
}

// TestHungReplicaIsLeftOut has one of two that takes calls and never answers,
// while its health check says that all is well.
func TestHungReplicaIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		b := NewBlobs(c.conn)
		well, hung := c.start(t, "well:1"), c.start(t, "hung:1")
		c.publish("well:1", "hung:1")
		c.conn.Connect()
		synctest.Wait()
		hung.hangs.Store(true)

		// Calls in parallel, until it has had its five failures.
		var failures atomic.Int32
		load := func(n int) {
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					if _, err := b.Check(t.Context()); err != nil {
						failures.Add(1)
					}
				})
			}
			all.Wait()
		}
		load(10)
		if n := failures.Load(); n != 5 {
			t.Fatalf("%d of 10 calls failed, want 5", n)
		}
		failures.Store(0)
		well.calls.Store(0)
		hung.calls.Store(0)
		start := time.Now()
		load(100)
		if n := failures.Load(); n != 0 || well.calls.Load() != 100 || hung.calls.Load() != 0 || time.Since(start) > 0 {
			t.Errorf("left out: %d failures in %v, %d and %d calls", n, time.Since(start), well.calls.Load(), hung.calls.Load())
		}
		time.Sleep(maxPause)
		load(100)
		if n := failures.Load(); n > 1 || hung.calls.Load() != 1 {
			t.Errorf("after the pause: %d failures, %d calls, want one of each", n, hung.calls.Load())
		}
		hung.hangs.Store(false)
		time.Sleep(maxPause)
		load(1)
		load(1) // one of them is the trial
		hung.calls.Store(0)
		load(100)
		if n := hung.calls.Load(); n != 50 {
			t.Errorf("well again: %d of 100 calls", n)
		}

		// With all of them hung calls fail at once, instead of piling up.
		well.hangs.Store(true)
		hung.hangs.Store(true)
		load(10)
		start = time.Now()
		failures.Store(0)
		load(1000)
		if n := failures.Load(); n != 1000 || time.Since(start) > time.Second {
			t.Errorf("all hung: %d of 1000 calls failed, after %v", n, time.Since(start))
		}
		well.hangs.Store(false)
		hung.hangs.Store(false)
		time.Sleep(maxPause)
		load(4)
		failures.Store(0)
		load(100)
		if n := failures.Load(); n != 0 {
			t.Errorf("at the end %d calls fail", n)
		}
		c.end()
	})
}
