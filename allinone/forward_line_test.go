package allinone

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// line is a TCP connection to a registry that can be down, and cut after some bytes.
type line struct {
	net.Listener
	to   string
	down atomic.Bool
	cut  func() int64 // how many bytes a connection passes on in a direction; nil: all
	cuts atomic.Int64
	mu   sync.Mutex // guards open
	open map[net.Conn]bool
}

func newLine(t *testing.T, url string) *line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &line{Listener: l, open: map[net.Conn]bool{}, to: strings.TrimPrefix(url, "http://")}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { x.pass(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		x.mu.Lock()
		for c := range x.open {
			c.Close()
		}
		x.mu.Unlock()
		serving.Wait()
	})
	return x
}

// breaks has connections break after as many bytes as f says, which is asked for each.
func (x *line) breaks(f func() int64) {
	x.mu.Lock() // which pass takes before it looks
	defer x.mu.Unlock()
	x.cut = f
}

func (x *line) url() string { return "http://" + x.Addr().String() }

func (x *line) pass(from net.Conn) {
	defer from.Close()
	if x.down.Load() {
		return
	}
	to, err := net.Dial("tcp", x.to)
	if err != nil {
		return
	}
	defer to.Close()
	x.mu.Lock()
	x.open[from] = true
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.open, from)
		x.mu.Unlock()
	}()
	if x.down.Load() { // it went down meanwhile, and has not seen this one
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		if x.cut == nil {
			io.Copy(to, from)
		} else if limit := x.cut(); limit >= 0 {
			if n, _ := io.CopyN(to, from, limit); n == limit {
				x.cuts.Add(1)
			}
		}
		from.Close()
		to.Close()
	})
	both.Go(func() {
		if x.cut == nil {
			io.Copy(from, to)
		} else if limit := x.cut(); limit >= 0 {
			if n, _ := io.CopyN(from, to, limit); n == limit {
				x.cuts.Add(1)
			}
		}
		from.Close()
		to.Close()
	})
	both.Wait()
}

// setDown ends all connections, and lets no other one through while it is down.
func (x *line) setDown(down bool) {
	x.down.Store(down)
	x.mu.Lock()
	defer x.mu.Unlock()
	for c := range x.open {
		c.Close()
	}
}
