package gateway

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// countConn counts the reads of a connection.
type countConn struct {
	*net.TCPConn
	reads int
}

func (c *countConn) Read(p []byte) (int, error) {
	c.reads++
	return c.TCPConn.Read(p)
}

func bulkOf(c tcpConn) *bulkConn {
	return &bulkConn{tcpConn: c, buffers: &sync.Pool{New: func() any { return new([bulkRead]byte) }}}
}

// tcpPair returns both ends of a TCP connection.
func tcpPair(t *testing.T) (server, client *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// TestBulkReadsTheSame reads with pieces of all sizes what was sent.
func TestBulkReadsTheSame(t *testing.T) {
	server, client := tcpPair(t)
	sent := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{1}).Read(sent)
	go func() {
		client.Write(sent)
		client.CloseWrite()
	}()
	counted := &countConn{TCPConn: server}
	c := bulkOf(counted)
	hash, rnd := sha256.New(), rand.New(rand.NewPCG(1, 2))
	sizes := []int{1, 100, probeRead, probeRead, probeRead, 28 << 10, bulkRead, 200 << 10}
	asked := 0
	for {
		p := make([]byte, sizes[rnd.IntN(len(sizes))])
		n, err := c.Read(p)
		asked++
		hash.Write(p[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := sha256.Sum256(sent)
	if !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("other bytes arrived than were sent")
	}
	if counted.reads >= asked {
		t.Errorf("%d reads took %d system calls", asked, counted.reads)
	}
	if c.buf != nil {
		t.Error("the buffer was kept")
	}
}

// TestBulkIdle makes sure that a connection that waits holds no buffer: it reads
// into what it was given after a read that was short.
func TestBulkIdle(t *testing.T) {
	server, client := tcpPair(t)
	c := bulkOf(&countConn{TCPConn: server})
	if _, err := client.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, probeRead)); err != nil {
		t.Fatal(err)
	}
	if c.more || c.buf != nil {
		t.Error("a short request made the connection expect many bytes")
	}
}
