package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/berth-registry/berth/registry"
)

// body is the body of a request. A read fails when no byte arrives for the idle
// time, however long the whole may take. It remembers what went wrong, because
// a port may not return a reader's own error.
type body struct {
	src     io.Reader
	chunked bool // the request has chunked transfer coding
	control *http.ResponseController
	idle    time.Duration
	small   bool // all of it has to come within idle
	renewed time.Time
	want    int64 // bytes that must come, -1 if any number may
	got     int64
	err     error // why it ended early, nil if it hasn't
	done    bool
}

// open prepares x's body. want is the length the client announced, or -1.
func (x *exchange) open(idle time.Duration, want int64) *body {
	x.body = body{src: x.r.Body, chunked: len(x.r.TransferEncoding) > 0, idle: idle, want: want}
	if idle > 0 {
		x.body.control = http.NewResponseController(x.w)
	}
	return &x.body
}

// handOver returns x's request for who answers it in the gateway's place, with ctx. Bodies
// that are read there are small, and some are read before it is known who sends them: all
// of one has to come within the idle time, or a byte now and then would keep a connection
// for days.
func (x *exchange) handOver(ctx context.Context) *http.Request {
	r := x.r.WithContext(ctx)
	if r.ContentLength == 0 {
		return r
	}
	b := x.open(x.settings.ReadIdle, -1)
	b.small = true
	r.Body = struct {
		io.Reader
		io.Closer
	}{b, x.r.Body}
	return r
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.done {
		return 0, io.EOF
	}
	b.renew()
	n, err := b.src.Read(p)
	b.got += int64(n)
	switch {
	case b.want >= 0 && b.got > b.want:
		n -= int(b.got - b.want)
		err = registry.ErrSizeInvalid.With("the body is longer than Content-Range says")
	case err == io.EOF && b.want >= 0 && b.got < b.want:
		err = registry.ErrSizeInvalid.With("the body is shorter than Content-Range says")
	case err == io.EOF:
		b.done = true
		b.release()
		return n, io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded) && b.small:
		err = registry.ErrStalled.With("the body has not come within %v", b.idle).Because(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = registry.ErrStalled.With("no byte arrived for %v: what came before is kept, go on from there", b.idle).Because(err)
	case err != nil && b.chunked && misframed(err):
		err = registry.ErrSizeInvalid.With("the body's chunked transfer coding is malformed").Because(err)
	case err != nil:
		err = clientGone(err)
	}
	if err != nil {
		b.err = err
		b.release()
	}
	return n, err
}

// renew moves the deadline when a good part of it is over: an honest client
// reads many times a second.
func (b *body) renew() {
	if b.control == nil {
		return
	}
	if b.small && !b.renewed.IsZero() {
		return
	}
	if now := time.Now(); now.Sub(b.renewed) >= b.idle/32 {
		b.renewed = now
		_ = b.control.SetReadDeadline(now.Add(b.idle)) // unsupported in tests only
	}
}

// release lifts the deadline: the server goes on reading the connection, to see
// whether the client leaves, while a handler may take its time.
func (b *body) release() {
	if b.control != nil {
		_ = b.control.SetReadDeadline(time.Time{})
	}
}

// cause returns the reason why reading the body failed, or err if it did not.
func (b *body) cause(err error) error {
	if err != nil && b.err != nil {
		return b.err
	}
	return err
}

// misframed reports whether err, from a body in chunked transfer coding (RFC
// 9112 §7.1), says that the client sent something else. net/http has no type for
// that: it is what neither the connection nor its end accounts for.
func misframed(err error) bool {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
		return false
	}
	_, connection := errors.AsType[net.Error](err)
	return !connection
}

// clientGone marks an error of the client's connection.
func clientGone(err error) error {
	return registry.ErrCanceled.Because(fmt.Errorf("the client went away: %w", err))
}

// unread is how long a client that is refused may take to send the rest of what
// it is sending. The server reads a little of it, so that the client gets to
// read the answer.
const unread = 5 * time.Second

// leaveBody prepares the connection for an answer before the end of the body. A
// little of it is read away so that the connection can be used again; if more
// than that may follow, the connection ends with the answer.
func (x *exchange) leaveBody() {
	if n := x.r.ContentLength; x.r.ProtoMajor == 1 && (n < 0 || n > 64<<10) {
		x.set("Connection", "close")
	}
	_ = http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(unread))
}
