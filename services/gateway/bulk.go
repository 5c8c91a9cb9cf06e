package gateway

import (
	"io"
	"net"
	"sync"
	"syscall"
)

const (
	// probeRead is what net/http reads at a time when it reads ahead.
	probeRead = 4 << 10
	// bulkRead is what a bulkConn reads at a time instead.
	bulkRead = 64 << 10
)

// Bulk returns a listener whose connections read in large pieces while a client
// sends much. net/http reads the framing of a chunked body (which docker sends)
// through a buffer of 4 KiB: some three system calls for each 32 KiB of a layer,
// half of the CPU time of such a push. Connections that are idle, or send little,
// hold no buffer. The way to sendfile(2) stays open.
//
// l must be a TCP listener, or hand out connections with the methods of
// [net.TCPConn] that net/http looks for; others are left as they are.
func Bulk(l net.Listener) net.Listener {
	return &bulkListener{l, &sync.Pool{New: func() any { return new([bulkRead]byte) }}}
}

type bulkListener struct {
	net.Listener
	buffers *sync.Pool // of *[bulkRead]byte
}

// Accept implements [net.Listener].
func (l *bulkListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t, ok := c.(tcpConn)
	if !ok {
		return c, nil
	}
	return &bulkConn{tcpConn: t, buffers: l.buffers}, nil
}

// tcpConn is what net/http and this package use of a [net.TCPConn].
type tcpConn interface {
	net.Conn
	io.ReaderFrom
	syscall.Conn
	CloseWrite() error
}

// bulkConn is a connection of a bulkListener. As with any connection of net/http,
// only one goroutine reads at a time.
type bulkConn struct {
	tcpConn
	buffers *sync.Pool
	buf     *[bulkRead]byte // nil if nothing is unread
	rest    []byte          // what is unread of buf
	more    bool            // the last read got all it asked for: there may be much more
}

// Read implements [io.Reader].
func (c *bulkConn) Read(p []byte) (int, error) {
	if len(c.rest) > 0 {
		return c.take(p), nil
	}
	if !c.more || len(p) >= bulkRead {
		n, err := c.tcpConn.Read(p)
		c.more = n == len(p) && n >= probeRead
		return n, err
	}
	buf := c.buffers.Get().(*[bulkRead]byte)
	n, err := c.tcpConn.Read(buf[:])
	c.more = n == len(buf)
	c.buf, c.rest = buf, buf[:n]
	if n == 0 {
		c.release()
		return 0, err
	}
	// An error that came with bytes comes again.
	return c.take(p), nil
}

// take copies what is unread to p.
func (c *bulkConn) take(p []byte) int {
	n := copy(p, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.release()
	}
	return n
}

func (c *bulkConn) release() {
	c.buffers.Put(c.buf)
	c.buf, c.rest = nil, nil
}
