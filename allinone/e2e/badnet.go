package e2e

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// NetFault is what is wrong with a network.
type NetFault string

// The faults. Bytes that are lost in a black hole are sent again by TCP and so
// arrive when it has been filled up, if both ends are still there.
const (
	Refused   NetFault = "refused"    // connections are reset, and new ones refused
	BlackHole NetFault = "black hole" // nothing arrives, and nobody is told
	OneWay    NetFault = "one-way"    // the same, of what the server sends
	OtherWay  NetFault = "other way"  // the same, of what the client sends
	Delayed   NetFault = "delayed"    // by 10 s
	Trickle   NetFault = "1 KiB/s"    // of each connection, in each direction
	Reset     NetFault = "reset"      // after some bytes, again and again
)

var netFaults = []NetFault{Refused, BlackHole, OneWay, OtherWay, Delayed, Trickle, Reset}

const (
	delay        = 10 * time.Second
	trickleBytes = 64 // every trickleEvery
	trickleEvery = time.Second / 16
	resetAfter   = 32 << 10 // bytes at most
)

// Cable is a TCP proxy between the programs of one kind and a server. It can be
// damaged, and mended again. It works on whole connections, not on packets: it
// stands on both ends of the hole, so neither kernel sees that nothing arrives.
type Cable struct {
	Addr   string // host:port where it listens
	target string

	hits atomic.Int64 // connections and pieces of data that met a fault

	mu       sync.Mutex // guards what follows
	listener net.Listener
	fault    NetFault      // "": none
	changed  chan struct{} // closed when fault changes
	conns    map[*net.TCPConn]bool
	closed   bool
	serving  sync.WaitGroup
}

// NewCable returns a cable to target for as long as the test.
func NewCable(t testing.TB, target string) *Cable {
	t.Helper()
	return newCable(t, loopback(freePort(t)), target)
}

// newCable does so at an address.
func newCable(t testing.TB, addr, target string) *Cable {
	t.Helper()
	c := &Cable{Addr: addr, target: target, changed: make(chan struct{}), conns: map[*net.TCPConn]bool{}}
	if err := c.listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// listen accepts connections. The caller holds c.mu, or is alone.
func (c *Cable) listen() error {
	l, err := net.Listen("tcp", c.Addr)
	if err != nil {
		return err
	}
	c.listener = l
	c.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.serving.Go(func() { c.serve(conn.(*net.TCPConn)) })
		}
	})
	return nil
}

func (c *Cable) close() {
	c.mu.Lock()
	c.closed = true
	c.set("")
	c.listener.Close()
	c.resetAll()
	c.mu.Unlock()
	c.serving.Wait()
}

// Damage makes the network between both ends as bad as f from now on.
func (c *Cable) Damage(f NetFault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(f)
	if f == Refused {
		c.listener.Close()
		c.hits.Add(int64(len(c.conns)) / 2)
		c.resetAll()
	}
}

// Mend makes all well again. It returns how often the fault was met.
func (c *Cable) Mend(t testing.TB) int64 {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault == Refused {
		if err := c.listen(); err != nil {
			t.Fatal(err)
		}
	}
	c.set("")
	return c.hits.Swap(0)
}

// set changes the fault. The caller holds c.mu.
func (c *Cable) set(f NetFault) {
	c.fault = f
	close(c.changed)
	c.changed = make(chan struct{})
}

// resetAll breaks all connections. The caller holds c.mu.
func (c *Cable) resetAll() {
	for conn := range c.conns {
		_ = conn.SetLinger(0)
		conn.Close()
	}
}

// now returns the fault, and what closes when it changes.
func (c *Cable) now() (NetFault, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fault, c.changed
}

// track notes a connection, unless there should be none.
func (c *Cable) track(conn *net.TCPConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.fault == Refused {
		_ = conn.SetLinger(0)
		conn.Close()
		return false
	}
	c.conns[conn] = true
	return true
}

func (c *Cable) untrack(conn *net.TCPConn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// serve passes the bytes of one connection on in both directions.
func (c *Cable) serve(client *net.TCPConn) {
	if !c.track(client) {
		return
	}
	defer c.untrack(client)
	c.await(BlackHole, OneWay, OtherWay)
	conn, err := new(net.Dialer).DialContext(context.Background(), "tcp", c.target)
	if err != nil {
		_ = client.SetLinger(0) // as if it were refused
		return
	}
	server := conn.(*net.TCPConn)
	if !c.track(server) {
		return
	}
	defer c.untrack(server)
	var both sync.WaitGroup
	both.Go(func() { c.pass(server, client, OtherWay) })
	both.Go(func() { c.pass(client, server, OneWay) })
	both.Wait()
}

// await waits until none of these is the fault.
func (c *Cable) await(faults ...NetFault) {
	for met := false; ; met = true {
		now, changed := c.now()
		if !slices.Contains(faults, now) {
			return
		}
		if !met {
			c.hits.Add(1)
		}
		<-changed
	}
}

// pass copies from one end to the other, in the direction in which that fault
// loses everything.
func (c *Cable) pass(to, from *net.TCPConn, lost NetFault) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !c.deliver(to, buf[:n], lost) {
			_ = to.SetLinger(0)
			_ = from.SetLinger(0)
			to.Close()
			from.Close()
			return
		}
		if err == nil {
			continue
		}
		c.await(BlackHole, lost) // an end is lost like anything else
		if err == io.EOF {
			_ = to.CloseWrite() // or it is gone, too
			return
		}
		_ = to.SetLinger(0)
		to.Close()
		return
	}
}

// deliver sends b the way the network is. It reports whether the connection
// goes on.
func (c *Cable) deliver(to *net.TCPConn, b []byte, lost NetFault) bool {
	for waited := false; len(b) > 0; {
		c.await(BlackHole, lost)
		now, changed := c.now()
		n := len(b)
		switch now {
		case Refused:
			return false
		case Reset:
			c.hits.Add(1)
			_, _ = to.Write(b[:rand.IntN(min(len(b), resetAfter))])
			return false
		case Delayed:
			if !waited {
				c.hits.Add(1)
				waited = true
				sleep(delay, changed)
				continue
			}
		case Trickle:
			c.hits.Add(1)
			n = min(n, trickleBytes)
			sleep(trickleEvery, changed)
		}
		if _, err := to.Write(b[:n]); err != nil {
			return false
		}
		b = b[n:]
	}
	return true
}

// sleep waits for d, or until the network changes.
func sleep(d time.Duration, changed <-chan struct{}) {
	select {
	case <-time.After(d):
	case <-changed:
	}
}

// hostPort returns where a URL's server listens.
func hostPort(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// portOf returns the port of host:port.
func portOf(t testing.TB, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}
