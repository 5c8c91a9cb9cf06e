// Package otlp sends the spans of a process to a collector, by OTLP over gRPC. It
// is configured by the environment variables of the OpenTelemetry specification
// and does nothing without them. Programs that must be small do not link it.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/tracing"
)

const (
	// flushTime is how long the spans of a process that stops may take to leave it.
	flushTime = 3 * time.Second
	// complainEvery is the time between two lines that say that nothing leaves.
	complainEvery = 5 * time.Minute
)

// Open returns the tracer that the environment asks for, and the unit that ends
// it; both are empty if it asks for none. p says who we are to the collector,
// unless OTEL_SERVICE_NAME does. getenv is os.Getenv, but for tests: the exporter
// itself reads the environment of the process.
//
// Spans wait in a bounded queue (OTEL_BSP_MAX_QUEUE_SIZE, 2048 of them) and are
// dropped when it is full: no request ever waits for the collector.
func Open(ctx context.Context, p daemon.Process, getenv func(string) string) (*tracing.Tracer, daemon.Unit, error) {
	none := daemon.Unit{Name: "traces"}
	if !Asked(getenv) {
		return nil, none, nil
	}
	for _, key := range []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"} {
		if v := getenv(key); v != "" && v != "grpc" {
			p.Log.Warn("no traces are exported: the only protocol there is is grpc", "variable", key, "value", v)
			return nil, none, nil
		} else if v != "" {
			break
		}
	}
	client, err := otlptracegrpc.New(ctx)
	if err != nil {
		return nil, none, fmt.Errorf("exporting traces: %w", err)
	}
	res, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", p.Program), attribute.String("service.version", p.Version)),
		resource.WithTelemetrySDK(),
		resource.WithFromEnv(), // last, so that it wins
	)
	if err != nil {
		p.Log.Warn("a part of the environment that describes us to the collector of traces is not used", "error", err.Error())
	}
	out := &exporter{Exporter: client, log: p.Log}
	provider := trace.NewTracerProvider(trace.WithBatcher(out), trace.WithResource(res))
	return tracing.New(provider), daemon.Unit{
		Name: "traces",
		Stop: func(ctx context.Context) error {
			// The time to stop may be over because of a client; spans still get theirs.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTime)
			defer cancel()
			if err := provider.Shutdown(ctx); err != nil {
				p.Log.Warn("the last spans did not reach the collector of traces", "error", err.Error())
			}
			return nil
		},
	}, nil
}

// Asked reports whether the environment names a collector of traces.
func Asked(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" || getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != ""
}

// exporter says now and then that spans don't reach the collector.
type exporter struct {
	*otlptrace.Exporter
	log *slog.Logger

	mu     sync.Mutex // guards the rest
	told   time.Time
	untold int // spans lost since
}

// ExportSpans sends spans. It returns no error, or the batcher would print it.
func (e *exporter) ExportSpans(ctx context.Context, spans []trace.ReadOnlySpan) error {
	err := e.Exporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.untold += len(spans)
	if now := time.Now(); now.Sub(e.told) >= complainEvery {
		e.log.Warn("spans do not reach the collector of traces", "lost", e.untold, "error", cause(err))
		e.told, e.untold = now, 0
	}
	return nil
}

// cause returns the text of the innermost error: those around it repeat it.
func cause(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}
