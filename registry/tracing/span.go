package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-registry/berth/registry"
)

// Kind says which end of a call a span is.
type Kind = trace.SpanKind

// The kinds.
const (
	Inside = trace.SpanKindInternal
	Server = trace.SpanKindServer
	Client = trace.SpanKindClient
)

// scope names the source of our spans to whoever shows them.
const scope = "github.com/berth-registry/berth"

// Tracer begins traces, or goes on with those that callers began. nil is one that
// does neither.
type Tracer struct{ tracer trace.Tracer }

// New returns a tracer that hands its spans to p.
func New(p trace.TracerProvider) *Tracer { return &Tracer{p.Tracer(scope)} }

// Enter begins the span of a request that enters the process. parent is the value
// of its traceparent header (W3C Trace Context) and state that of tracestate; what
// can't be understood is as if it were not there.
func (t *Tracer) Enter(ctx context.Context, name, parent, state string) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	if sc, ok := parseParent(parent, state); ok {
		ctx = trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	ctx, s := t.tracer.Start(ctx, name, trace.WithSpanKind(Server))
	return ctx, Span{recording(s)}
}

// Start begins a span below the one in ctx. It does nothing if there is none, or
// if nobody will see it.
func Start(ctx context.Context, name string, kind Kind) (context.Context, Span) {
	above := trace.SpanFromContext(ctx)
	if !above.IsRecording() {
		return ctx, Span{}
	}
	ctx, s := above.TracerProvider().Tracer(scope).Start(ctx, name, trace.WithSpanKind(kind))
	return ctx, Span{recording(s)}
}

func recording(s trace.Span) trace.Span {
	if !s.IsRecording() {
		return nil
	}
	return s
}

// Parent returns the headers that make a callee's spans part of the trace of ctx,
// "" if there is none.
func Parent(ctx context.Context) (parent, state string) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return "", ""
	}
	return formatParent(sc), sc.TraceState().String()
}

// Span is a piece of work in a trace. The zero value is one that nobody sees.
type Span struct{ span trace.Span }

// On reports whether somebody will see the span. Ask before building attributes.
func (s Span) On() bool { return s.span != nil }

// Name gives the span another name.
func (s Span) Name(name string) {
	if s.span != nil {
		s.span.SetName(name)
	}
}

// Text sets an attribute to a text, cut to 256 bytes.
func (s Span) Text(key, value string) {
	if s.span != nil {
		s.span.SetAttributes(attribute.String(key, value[:min(len(value), 256)]))
	}
}

// Int sets an attribute to a number.
func (s Span) Int(key string, value int64) {
	if s.span != nil {
		s.span.SetAttributes(attribute.Int64(key, value))
	}
}

// End ends the span. err, if it is a fault of ours or of what we rely on, marks
// it as failed; an answer such as "no such blob" does not. Its text is not told.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		code := registry.AsError(err).Code
		s.span.SetAttributes(attribute.String("error.type", code.String()))
		if k := code.Kind(); k == registry.Fault || k == registry.Passing {
			s.span.SetStatus(codes.Error, code.String())
		}
	}
	s.span.End()
}

// Fail ends the span as failed, for the reason named.
func (s Span) Fail(reason string) {
	if s.span == nil {
		return
	}
	s.span.SetAttributes(attribute.String("error.type", reason))
	s.span.SetStatus(codes.Error, reason)
	s.span.End()
}
