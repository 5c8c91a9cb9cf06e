package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// progress moves the write deadline of an answer along for as long as its client
// takes bytes, however few. Writes alone do not tell: the kernel has megabytes
// of an answer waiting, and wakes a writer only when a third of them are gone,
// which takes a slow client longer than the idle time. So the length of that
// queue is looked at.
//
// It is for HTTP/1, where a connection has one answer at a time. Over HTTP/2
// clients grant every few KiB they took of a stream by themselves.
type progress struct {
	queue   queue
	control *http.ResponseController
	idle    time.Duration

	mu     sync.Mutex // guards all below
	timer  *time.Timer
	queued int  // bytes, when last looked at
	ended  bool // the answer is complete: its connection is not ours any more
}

// looks is how many times in an idle time the queue is looked at.
const looks = 16

// watch begins to look at the progress of an answer that is not over at once.
func (x *exchange) watch() {
	if x.progress != nil || x.idle <= 0 || x.r.ProtoMajor != 1 {
		return
	}
	q, ok := x.r.Context().Value(queueKey{}).(queue)
	if !ok {
		return // no socket: a test
	}
	p := &progress{queue: q, control: http.NewResponseController(x.w), idle: x.idle}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(x.idle/looks, p.look)
	x.progress = p
}

// look gives the client more time if the queue became shorter. It gives twice the
// idle time: a receiver lets more in only when it has room for a good piece (on
// loopback 100 KiB), so a slow one is not seen to take anything in between.
func (p *progress) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	now, ok := p.queue()
	if !ok {
		return // the deadlines of single writes have to do
	}
	if now < p.queued {
		_ = p.control.SetWriteDeadline(time.Now().Add(2 * p.idle)) // a closed connection: the writer sees it, too
	}
	p.queued = now
	p.timer.Reset(p.idle / looks)
}

// end stops looking. The connection is not touched any more when it returns.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.timer.Stop()
}

// queue tells how many bytes of a connection the client has not taken, if that
// is known.
type queue func() (n int, ok bool)

// queueKey is the context key of a connection's queue.
type queueKey struct{}

// connKey is the context key of the connection itself.
type connKey struct{}

// withConn is an [http.Server.ConnContext] that lets watch find the connection.
func withConn(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, connKey{}, c)
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return context.WithValue(ctx, queueKey{}, queue(func() (int, bool) { return queued(raw) }))
		}
	}
	return ctx
}
