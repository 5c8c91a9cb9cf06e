package gateway

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/tracing"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// exchange is one request and what is known of its answer. It lives on one
// goroutine, and its header values until the server has written them.
type exchange struct {
	w http.ResponseWriter
	r *http.Request
	route
	settings *settings
	ctx      tracing.Request // see context
	span     tracing.Span
	actor    registry.Actor
	known    bool                  // somebody was asked who the actor is
	narrow   bool                  // the token that came is not good for this
	events   []identity.Event      // that the identity service told of
	asks     registry.ActorRequest // of actor
	body     body

	status   int   // sent to the client, 0 while nothing is
	sent     int64 // bytes of the body
	renewed  time.Time
	idle     time.Duration
	progress *progress // nil unless watched
	pins     *pins

	query    url.Values // see param
	parsed   bool
	queryErr error

	// values backs the header values, so that setting one allocates nothing.
	values [16]string
	used   int
}

// set sets a header. The key must be in canonical form.
func (x *exchange) set(key, value string) {
	if x.used == len(x.values) {
		x.w.Header()[key] = []string{value}
		return
	}
	x.values[x.used] = value
	x.used++
	x.w.Header()[key] = x.values[x.used-1 : x.used : x.used]
}

// length sets Content-Length, without which a body can't be sent by sendfile.
func (x *exchange) length(n int64) {
	x.set("Content-Length", strconv.FormatInt(n, 10))
}

// start sends the header.
func (x *exchange) start(status int) {
	if x.r.ContentLength != 0 && !x.body.done {
		x.leaveBody()
	}
	x.renewWrite()
	x.status = status
	x.w.WriteHeader(status)
}

// renewWrite gives the client another idle time to take some bytes. There is no
// deadline before the answer starts: over HTTP/2 one that passes ends the stream,
// a long upload say, even if nothing waits to be written. net/http lifts the
// deadline when the answer is complete.
func (x *exchange) renewWrite() {
	if x.idle <= 0 {
		return
	}
	now := time.Now()
	if now.Sub(x.renewed) < x.idle/32 {
		return
	}
	x.renewed = now
	// A writer without deadlines is a test's.
	_ = http.NewResponseController(x.w).SetWriteDeadline(now.Add(x.idle))
}

// empty answers with a status and no body.
func (x *exchange) empty(status int) {
	if status != http.StatusNoContent && status != http.StatusNotModified {
		x.length(0)
	}
	x.start(status)
}

// bytes answers with a whole body that is in memory.
func (x *exchange) bytes(status int, contentType string, b []byte) error {
	x.set("Content-Type", contentType)
	x.length(int64(len(b)))
	x.start(status)
	return x.write(b)
}

// write sends a part of the body.
func (x *exchange) write(b []byte) error {
	if x.r.Method == http.MethodHead {
		return nil
	}
	if len(b) > writeChunk || x.sent > 0 {
		x.watch()
	}
	n, err := sender{x}.Write(b)
	x.sent += int64(n)
	return err
}

// param returns the first value of a query parameter, "" if there is none. A
// malformed query is reported by [exchange.badQuery].
func (x *exchange) param(key string) string {
	if v := x.params(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

// params returns all values of a query parameter.
func (x *exchange) params(key string) []string {
	if x.r.URL.RawQuery == "" {
		return nil
	}
	if !x.parsed {
		x.query, x.queryErr = url.ParseQuery(x.r.URL.RawQuery)
		x.parsed = true
	}
	return x.query[key]
}

// header returns the first value of a request header whose key is canonical.
func (x *exchange) header(key string) string {
	if v := x.r.Header[key]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// reading reports whether the method is GET or HEAD.
func (x *exchange) reading() bool {
	return x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
}
