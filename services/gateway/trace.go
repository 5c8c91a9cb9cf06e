package gateway

import (
	"context"
	"net/http"

	"github.com/berth-registry/berth/registry/tracing"
)

// requestID is the header by which a proxy tells the id it has given a request,
// and an answer the id that its log lines have.
const requestID = "X-Request-Id"

// enter gives the request an id and begins its span.
func (g *Gateway) enter(x *exchange) {
	id := x.header(requestID)
	if !tracing.ValidID(id) {
		id = g.ids.Next()
	}
	ctx, span := g.tracer.Enter(x.r.Context(), verbs[verbOf(x.r.Method)], x.header("Traceparent"), x.header("Tracestate"))
	x.ctx = tracing.Request{Context: ctx, ID: id}
	x.span = span
}

// context returns the context of the request: that of the connection, with the
// request's id and span.
func (x *exchange) context() context.Context { return &x.ctx }

// leave ends the request's span.
func (x *exchange) leave(err error) {
	s := x.span
	if !s.On() {
		return
	}
	method := verbs[verbOf(x.r.Method)]
	s.Name(method + " " + patterns[x.resource])
	s.Text("http.request.method", method)
	s.Text("http.route", patterns[x.resource])
	s.Int("http.response.status_code", int64(x.status))
	s.Int("http.request.body.size", x.body.got)
	s.Int("http.response.body.size", x.sent)
	if x.repo != "" {
		s.Text("berth.repository", string(x.repo))
	}
	if x.ref.Tag != "" {
		s.Text("berth.tag", string(x.ref.Tag))
	} else if x.ref.Digest != "" {
		s.Text("berth.digest", string(x.ref.Digest))
	}
	if x.status >= 500 {
		s.Fail(http.StatusText(x.status))
		return
	}
	s.End(err)
}
