package otlp

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/tracing"
)

// sink is a collector that keeps what it gets.
type sink struct {
	collector.UnimplementedTraceServiceServer
	answer error         // what exporters get, nil if all is well
	hold   chan struct{} // if not nil: answers wait until it is closed

	mu    sync.Mutex // guards spans and from
	spans []string
	from  map[string]string // attributes of the resource
}

func (s *sink) Export(ctx context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, a := range r.GetResource().GetAttributes() {
			s.from[a.GetKey()] = a.GetValue().GetStringValue()
		}
		for _, sc := range r.GetScopeSpans() {
			for _, span := range sc.GetSpans() {
				s.spans = append(s.spans, span.GetName())
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, s.answer
}

// serve starts a collector and points the environment at it.
func (s *sink) serve(t *testing.T) {
	t.Helper()
	s.from = make(map[string]string)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, s)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://"+l.Addr().String())
}

func open(t *testing.T, log *slog.Logger) (*tracing.Tracer, daemon.Unit) {
	t.Helper()
	tracer, unit, err := Open(t.Context(), daemon.Process{Program: "berth-test", Version: "v1", Log: log}, os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	return tracer, unit
}

func TestExport(t *testing.T) {
	s := new(sink)
	s.serve(t)
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
	tracer, unit := open(t, slog.New(slog.DiscardHandler))
	ctx, outer := tracer.Enter(t.Context(), "outer", "", "")
	_, inner := tracing.Start(ctx, "inner", tracing.Inside)
	inner.End(nil)
	outer.End(nil)
	// The time to stop is over already, and yet nothing is lost.
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := unit.Stop(done); err != nil {
		t.Error(err)
	}
	if got := strings.Join(s.spans, " "); got != "inner outer" {
		t.Errorf("the collector got %q", got)
	}
	for key, want := range map[string]string{"service.name": "berth-test", "service.version": "v1", "deployment.environment": "test"} {
		if s.from[key] != want {
			t.Errorf("%s is %q, want %q", key, s.from[key], want)
		}
	}
}

func TestEnvironmentNamesTheService(t *testing.T) {
	s := new(sink)
	s.serve(t)
	t.Setenv("OTEL_SERVICE_NAME", "mine")
	tracer, unit := open(t, slog.New(slog.DiscardHandler))
	_, span := tracer.Enter(t.Context(), "x", "", "")
	span.End(nil)
	unit.Stop(t.Context())
	if s.from["service.name"] != "mine" {
		t.Errorf("service.name is %q", s.from["service.name"])
	}
}

// TestSampler takes its ratio from the environment, as every OpenTelemetry SDK.
func TestSampler(t *testing.T) {
	s := new(sink)
	s.serve(t)
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	tracer, unit := open(t, slog.New(slog.DiscardHandler))
	if _, span := tracer.Enter(t.Context(), "x", "", ""); span.On() {
		t.Error("recorded")
	}
	unit.Stop(t.Context())
	if len(s.spans) != 0 {
		t.Errorf("the collector got %v", s.spans)
	}
}

func TestOff(t *testing.T) {
	for _, env := range []map[string]string{
		{},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
	} {
		var out bytes.Buffer
		p := daemon.Process{Log: slog.New(slog.NewTextHandler(&out, nil))}
		tracer, unit, err := Open(t.Context(), p, func(key string) string { return env[key] })
		if err != nil || tracer != nil || unit.Stop != nil {
			t.Errorf("%v: got %v, %v", env, tracer, err)
		}
		if _, odd := env["OTEL_EXPORTER_OTLP_PROTOCOL"]; odd != strings.Contains(out.String(), "only protocol") {
			t.Errorf("%v: the log says %q", env, out.String())
		}
	}
}

// TestDeadCollector: nobody waits for it, one line tells, and the process ends.
func TestDeadCollector(t *testing.T) {
	for name, s := range map[string]*sink{
		"refuses": {answer: status.Error(codes.PermissionDenied, "go away")},
		"hangs":   {hold: make(chan struct{})},
	} {
		t.Run(name, func(t *testing.T) {
			s.serve(t)
			if s.hold != nil {
				t.Cleanup(func() { close(s.hold) }) // before the server stops
			}
			t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
			t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
			t.Setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "16")
			t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "500")
			var out lockedBuffer
			tracer, unit := open(t, slog.New(slog.NewTextHandler(&out, nil)))
			for range 10_000 { // many times what the queue holds
				_, span := tracer.Enter(context.Background(), "x", "", "")
				span.End(nil)
			}
			if err := unit.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if n := strings.Count(out.String(), "do not reach"); n != 1 {
				t.Errorf("%d lines tell of it: %s", n, out.String())
			}
		})
	}
}

type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
