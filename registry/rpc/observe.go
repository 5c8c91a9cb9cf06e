package rpc

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/tracing"
)

// Metadata that goes with each call: the id of the request that it is made for,
// and where it stands in a trace (W3C Trace Context).
const (
	requestKey = "x-request-id"
	parentKey  = "traceparent"
	stateKey   = "tracestate"
)

// observer counts calls and makes them spans, at either end. It implements
// [stats.Handler].
type observer struct {
	meters   map[string]*callMeter // by method; what is not in it counts as unknownMethod
	inFlight *metrics.Gauge
	set      *metrics.Set
	side     string // client or server
	tracer   *tracing.Tracer
}

// unknownMethod is the label of methods that we don't have, which anybody who
// gets through to a server may ask for.
const unknownMethod = "unknown"

// callMeter counts the calls of one method.
type callMeter struct {
	method string // label
	// Made when first used: two that make one at once get the same from the set.
	took  atomic.Pointer[metrics.Histogram]
	ended [codes.Unauthenticated + 1]atomic.Pointer[metrics.Counter] // by code
}

func (o *observer) took(c *callMeter) *metrics.Histogram {
	h := c.took.Load()
	if h == nil {
		h = o.set.Durations("berth_grpc_"+o.side+"_duration_seconds", "Time of gRPC calls, streams included.", metrics.Latency, "method", c.method)
		c.took.Store(h)
	}
	return h
}

func (o *observer) ended(c *callMeter, code codes.Code) *metrics.Counter {
	code = min(code, codes.Unauthenticated) // the last there is
	n := c.ended[code].Load()
	if n == nil {
		n = o.set.Counter("berth_grpc_"+o.side+"_calls_total", "gRPC calls that have ended.", "method", c.method, "code", code.String())
		c.ended[code].Store(n)
	}
	return n
}

// observeServer returns the observer of a server.
func observeServer(m *metrics.Set, t *tracing.Tracer) *observer { return newObserver(m, "server", t) }

// observeClient returns the observer of a client. Its spans belong to the traces
// of those who call.
func observeClient(m *metrics.Set) *observer { return newObserver(m, "client", nil) }

func newObserver(m *metrics.Set, side string, t *tracing.Tracer) *observer {
	o := &observer{
		meters:   make(map[string]*callMeter, len(methods)+1),
		inFlight: m.Gauge("berth_grpc_"+side+"_calls_in_flight", "gRPC calls in progress."),
		set:      m,
		side:     side,
		tracer:   t,
	}
	for method := range methods {
		o.meters[method] = &callMeter{method: method}
	}
	o.meters[unknownMethod] = &callMeter{method: unknownMethod}
	return o
}

type callKey struct{}

// call is a call in progress.
type call struct {
	meter *callMeter
	began time.Time
	span  tracing.Span
}

// TagRPC begins a call.
func (o *observer) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	c := &call{meter: o.meters[info.FullMethodName], began: time.Now()}
	if c.meter == nil {
		c.meter = o.meters[unknownMethod]
	}
	o.inFlight.Add(1)
	name := strings.TrimPrefix(c.meter.method, "/")
	if o.side == "server" {
		ctx, c.span = o.arrive(ctx, name)
	} else {
		ctx, c.span = depart(ctx, name)
	}
	c.span.Text("rpc.system", "grpc")
	return context.WithValue(ctx, callKey{}, c)
}

// arrive takes over what came with a call.
func (o *observer) arrive(ctx context.Context, name string) (context.Context, tracing.Span) {
	md, _ := metadata.FromIncomingContext(ctx)
	if id := only(md, requestKey); tracing.ValidID(id) {
		ctx = &tracing.Request{Context: ctx, ID: id}
	}
	return o.tracer.Enter(ctx, name, only(md, parentKey), only(md, stateKey))
}

// depart sends with a call what its server needs to know.
func depart(ctx context.Context, name string) (context.Context, tracing.Span) {
	ctx, span := tracing.Start(ctx, name, tracing.Client)
	var pairs []string
	if id := tracing.RequestID(ctx); id != "" {
		pairs = append(pairs, requestKey, id)
	}
	if parent, state := tracing.Parent(ctx); parent != "" {
		pairs = append(pairs, parentKey, parent)
		if state != "" {
			pairs = append(pairs, stateKey, state)
		}
	}
	if pairs != nil {
		ctx = metadata.AppendToOutgoingContext(ctx, pairs...)
	}
	return ctx, span
}

func only(md metadata.MD, key string) string {
	if v := md[key]; len(v) == 1 {
		return v[0]
	}
	return ""
}

// HandleRPC ends a call.
func (o *observer) HandleRPC(ctx context.Context, s stats.RPCStats) {
	end, ok := s.(*stats.End)
	if !ok {
		return
	}
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return
	}
	err := end.Error
	if errors.Is(err, io.EOF) {
		err = nil // a stream that ended well
	}
	code := status.Code(err)
	c.span.Int("rpc.grpc.status_code", int64(code))
	switch code {
	case codes.Unknown, codes.DeadlineExceeded, codes.Unimplemented, codes.Internal, codes.Unavailable, codes.DataLoss:
		c.span.Fail(code.String())
	default:
		c.span.End(nil)
	}
	// Counted last: who sees the call in the metrics finds its span ended, too.
	o.took(c.meter).Since(c.began)
	o.ended(c.meter, code).Inc()
	o.inFlight.Add(-1)
}

// TagConn and HandleConn implement [stats.Handler].
func (o *observer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (o *observer) HandleConn(context.Context, stats.ConnStats) {}
