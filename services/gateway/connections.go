package gateway

import (
	"container/list"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/berth-registry/berth/registry/metrics"
)

// connections bounds the connections to a server. When there are as many as may be,
// one more takes the place of the one that waits longest for its client: idle, or
// with a header that is not complete. Only if all are at work does it wait, and
// those behind it wait to be accepted.
//
// It does not wrap connections: that would cost sendfile(2).
type connections struct {
	mu         sync.Mutex // guards the rest
	most       int        // 0: no limit
	perAddress int        // 0: no limit

	all     map[net.Conn]*connection
	from    map[netip.Addr]int
	waiting *list.List // of net.Conn, the longest first
	room    *sync.Cond
	closed  bool

	evicted, refused *metrics.Counter
}

type connection struct {
	address netip.Addr
	place   *list.Element // in waiting; nil while a request is in progress
}

func (c *connections) init(m *metrics.Set) {
	c.all, c.from, c.waiting = map[net.Conn]*connection{}, map[netip.Addr]int{}, list.New()
	c.room = sync.NewCond(&c.mu)
	const name, help = "berth_http_connections_closed_total", "Connections that were closed because there were too many, by whether of all or of one address."
	c.evicted = m.Counter(name, help, "limit", "all")
	c.refused = m.Counter(name, help, "limit", "address")
	m.Func(metrics.GaugeKind, "berth_http_connections", "Connections that are open.", func() float64 {
		c.mu.Lock()
		defer c.mu.Unlock()
		return float64(len(c.all))
	})
}

// setLimits replaces the bounds. Connections that are too many by new ones stay.
func (c *connections) setLimits(most, perAddress int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most, c.perAddress = most, perAddress
	c.room.Broadcast()
}

// state is an [http.Server.ConnState].
func (c *connections) state(conn net.Conn, s http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s {
	case http.StateNew:
		n := &connection{address: addressOf(conn)}
		n.place = c.waiting.PushBack(conn)
		c.all[conn] = n
		c.from[n.address]++
	case http.StateIdle:
		if n := c.all[conn]; n != nil && n.place == nil {
			n.place = c.waiting.PushBack(conn)
			c.room.Signal()
		}
	case http.StateClosed, http.StateHijacked:
		c.drop(conn)
	case http.StateActive: // a byte has come; it is at work when the header has
	}
}

// drop forgets a connection. c.mu must be held.
func (c *connections) drop(conn net.Conn) {
	n := c.all[conn]
	if n == nil {
		return
	}
	delete(c.all, conn)
	if n.place != nil {
		c.waiting.Remove(n.place)
	}
	if c.from[n.address]--; c.from[n.address] == 0 {
		delete(c.from, n.address)
	}
	c.room.Signal()
}

// busy notes that a request has come.
func (c *connections) busy(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.all[conn]; n != nil && n.place != nil {
		c.waiting.Remove(n.place)
		n.place = nil
	}
}

// makeRoom returns when there may be one more connection, or the listener is closed.
func (c *connections) makeRoom() {
	c.mu.Lock()
	for c.most > 0 && len(c.all) >= c.most && !c.closed {
		front := c.waiting.Front()
		if front == nil {
			c.room.Wait()
			continue
		}
		conn := front.Value.(net.Conn)
		c.drop(conn)
		c.evicted.Inc()
		c.mu.Unlock()
		_ = socket(conn).Close() // its server notices
		c.mu.Lock()
	}
	c.mu.Unlock()
}

// admits reports whether an address may have one more connection.
func (c *connections) admits(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.perAddress <= 0 {
		return true
	}
	if a := addressOf(conn); !a.IsValid() || c.from[a] < c.perAddress {
		return true
	}
	c.refused.Inc()
	return false
}

func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.room != nil {
		c.room.Broadcast()
	}
}

// limit returns a listener that accepts within the bounds.
func (c *connections) limit(l net.Listener) net.Listener { return &limitedListener{l, c} }

type limitedListener struct {
	net.Listener
	c *connections
}

// Accept implements [net.Listener].
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.c.admits(conn) {
			l.c.makeRoom()
			return conn, nil
		}
		if t, ok := conn.(*net.TCPConn); ok {
			_ = t.SetLinger(0) // or the kernel would keep it a while
		}
		_ = conn.Close()
	}
}

// Close implements [net.Listener].
func (l *limitedListener) Close() error {
	l.c.close()
	return l.Listener.Close()
}

// addressOf returns where a connection comes from: an IPv4 address, or an IPv6
// network of 64 bits, whose owner has as many addresses as they like. Not valid for
// unix sockets.
func addressOf(conn net.Conn) netip.Addr {
	t, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := t.AddrPort().Addr().Unmap().WithZone("")
	if a.Is6() {
		network, _ := a.Prefix(64) // fails for more bits than there are
		return network.Addr()
	}
	return a
}

// socket returns the connection below TLS, whose Close would talk to the client first.
func socket(conn net.Conn) net.Conn {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return conn
}

// connectionsFor returns how many connections go with so many descriptors.
func connectionsFor(descriptors uint64) int {
	const rest = 128 // databases, logs, calls of other services
	if descriptors > 1<<21 {
		descriptors = 1 << 21
	}
	return max(int(descriptors)-rest, 64) / 2
}
