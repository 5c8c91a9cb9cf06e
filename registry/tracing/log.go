package tracing

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// Keys of log lines that tell which request and which span they are about.
const (
	RequestKey = "requestId"
	TraceKey   = "trace_id"
	SpanKey    = "span_id"
)

// Handler returns a handler that adds to each record which request and which span
// its context belongs to.
func Handler(h slog.Handler) slog.Handler { return handler{h} }

type handler struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h handler) Handle(ctx context.Context, rec slog.Record) error {
	var room [3]slog.Attr
	if attrs := AppendAttrs(room[:0], ctx); len(attrs) > 0 {
		rec = rec.Clone()
		rec.AddAttrs(attrs...)
	}
	return h.Handler.Handle(ctx, rec)
}

// WithAttrs implements [slog.Handler].
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h handler) WithGroup(name string) slog.Handler { return handler{h.Handler.WithGroup(name)} }

// AppendAttrs appends what [Handler] adds.
func AppendAttrs(attrs []slog.Attr, ctx context.Context) []slog.Attr {
	if id := RequestID(ctx); id != "" {
		attrs = append(attrs, slog.String(RequestKey, id))
	}
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		attrs = append(attrs, slog.String(TraceKey, sc.TraceID().String()), slog.String(SpanKey, sc.SpanID().String()))
	}
	return attrs
}
