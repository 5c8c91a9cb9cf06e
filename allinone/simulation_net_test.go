package allinone

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// simNet is a network in memory. What is sent comes later, in its order; now and
// then a connection stalls or breaks. When it does so is in the seed, second by
// second, so that a run that goes another way meets the same.
type simNet struct {
	seed uint64

	mu        sync.Mutex // guards what follows
	listeners map[string]*simListener
	conns     map[*simConn]bool
	faulty    bool
	broken    int // connections that the network broke
	stalled   int // times it stalled
}

func newSimNet(seed uint64) *simNet {
	return &simNet{seed: seed, listeners: map[string]*simListener{}, conns: map[*simConn]bool{}}
}

// chance returns random numbers of something at this time, which go on for so long.
func (n *simNet) chance(what string, long time.Duration) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, what, time.Now().UnixNano()/int64(long))
	return rand.New(rand.NewPCG(n.seed, h.Sum64()))
}

// setFaulty says whether the network stalls and breaks connections.
func (n *simNet) setFaulty(faulty bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faulty = faulty
}

// simListener is where a host is reached.
type simListener struct {
	host     string
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
}

func (l *simListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.incoming:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *simListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *simListener) Addr() net.Addr { return &net.UnixAddr{Name: l.host, Net: "sim"} }

// listen lets a host be reached.
func (n *simNet) listen(host string) *simListener {
	l := &simListener{host: host, incoming: make(chan net.Conn), closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[host] = l
	return l
}

// cut breaks all connections of a host, which can't be reached any more.
func (n *simNet) cut(host string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.listeners, host)
	for c := range n.conns {
		if c.from == host || c.to == host {
			c.reset()
			delete(n.conns, c)
		}
	}
}

// dialer makes connections from one host to another.
func (n *simNet) dialer(from, to string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		if err := simSleep(ctx, n.latency(from+to)); err != nil {
			return nil, err
		}
		n.mu.Lock()
		l := n.listeners[to]
		n.mu.Unlock()
		if l == nil {
			return nil, syscall.ECONNREFUSED
		}
		c := &simConn{net: n, from: from, to: to, over: make(chan struct{})}
		near, nearEnd := net.Pipe()
		far, farEnd := net.Pipe()
		c.ends = []net.Conn{near, nearEnd, far, farEnd}
		select {
		case l.incoming <- far:
		case <-l.closed:
			c.reset()
			return nil, syscall.ECONNREFUSED
		case <-ctx.Done():
			c.reset()
			return nil, ctx.Err()
		}
		n.mu.Lock()
		n.conns[c] = true
		n.mu.Unlock()
		go c.carry(nearEnd, farEnd, "there")
		go c.carry(farEnd, nearEnd, "back")
		return near, nil
	}
}

func (n *simNet) latency(what string) time.Duration {
	return 50*time.Microsecond + time.Duration(n.chance(what, 100*time.Millisecond).Int64N(int64(3*time.Millisecond)))
}

// simConn is a connection.
type simConn struct {
	net      *simNet
	from, to string
	ends     []net.Conn
	over     chan struct{} // closed when it breaks
	once     sync.Once
}

func (c *simConn) reset() {
	c.once.Do(func() {
		close(c.over)
		for _, e := range c.ends {
			e.Close()
		}
	})
}

// carry takes bytes from one end to the other.
func (c *simConn) carry(from, to net.Conn, way string) {
	type parcel struct {
		due  time.Time
		data []byte
	}
	queue := make(chan parcel, 1024)
	go func() {
		defer c.reset()
		for p := range queue {
			if simUntil(c.over, p.due) != nil {
				return
			}
			if _, err := to.Write(p.data); err != nil {
				return
			}
		}
	}()
	defer close(queue)
	var last time.Time
	for buf := make([]byte, 32<<10); ; {
		n, err := from.Read(buf)
		if n > 0 {
			due := time.Now().Add(c.delay(way))
			if due.Before(last) {
				due = last
			}
			last = due
			select {
			case queue <- parcel{due, append([]byte(nil), buf[:n]...)}:
			case <-c.over:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// delay returns how long something takes that is sent now. It may break the
// connection.
func (c *simConn) delay(way string) time.Duration {
	r := c.net.chance(c.from+c.to+way, time.Second)
	d := c.net.latency(c.from + c.to + way)
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	switch what := r.IntN(100); {
	case !c.net.faulty:
	case what == 0:
		c.net.stalled++
		d += time.Duration(r.Int64N(int64(40 * time.Second)))
	case what == 1 && time.Duration(r.Int64N(int64(time.Second))) < time.Duration(time.Now().Nanosecond()):
		c.net.broken++
		delete(c.net.conns, c)
		c.reset()
	}
	return d
}

var errSimOver = errors.New("over")

// simUntil waits for a moment, unless over is closed before.
func simUntil(over <-chan struct{}, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-over:
		return errSimOver
	}
}

func simSleep(ctx context.Context, d time.Duration) error {
	if simUntil(ctx.Done(), time.Now().Add(d)) != nil {
		return ctx.Err()
	}
	return nil
}
