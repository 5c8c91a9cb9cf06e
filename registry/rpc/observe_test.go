package rpc

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/tracing"
)

// brokenCatalog fails as a machine does.
type brokenCatalog struct{ registry.Catalog }

func (brokenCatalog) Tags(context.Context, registry.Actor, registry.Name, registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	return registry.List[registry.Tag]{}, registry.ErrInternal.With("broken")
}

// observed is a client and a server that count, trace and log.
type observed struct {
	client, server *metrics.Set
	spans          *tracetest.SpanRecorder
	tracer         *tracing.Tracer
	log            lockedBuffer
	catalog        *RemoteCatalog
	blobs          *RemoteBlobs
}

func observe(t *testing.T) *observed {
	t.Helper()
	o := &observed{client: metrics.New(), server: metrics.New(), spans: tracetest.NewSpanRecorder()}
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(o.spans))
	t.Cleanup(func() { p.Shutdown(context.Background()) })
	o.tracer = tracing.New(p)
	srv := NewServer(ServerOptions{Log: slog.New(tracing.Handler(slog.NewTextHandler(&o.log, nil))), Metrics: o.server, Traces: o.tracer})
	ServeCatalog(srv, brokenCatalog{memory.NewCatalog(memory.CatalogOptions{})})
	ServeBlobs(srv, memory.NewBlobs())
	l := bufconn.Listen(1 << 20)
	go srv.Serve(l)
	dial := DialOptions{Metrics: o.client, Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }}
	var err error
	if o.catalog, err = DialCatalog([]string{"passthrough:///pipe"}, dial); err != nil {
		t.Fatal(err)
	}
	if o.blobs, err = DialBlobs([]string{"passthrough:///pipe"}, dial); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.catalog.Close(); o.blobs.Close(); srv.Stop() })
	return o
}

// wants waits until a set has the lines; a server's call may end after its answer
// has arrived.
func wants(t *testing.T, set *metrics.Set, lines ...string) {
	t.Helper()
	for _, line := range lines {
		eventually(t, line, func() bool { return strings.Contains(string(set.Text()), line+"\n") })
	}
}

func TestCallsAreCounted(t *testing.T) {
	o := observe(t)
	ctx := t.Context()
	if _, err := o.catalog.Manifest(ctx, registry.Actor{}, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "t"}}); err == nil {
		t.Fatal("no error")
	}
	if _, err := o.blobs.Check(ctx); err != nil {
		t.Fatal(err)
	}
	c, err := o.blobs.Open(ctx, registry.Stored{Digest: registry.SHA256.FromString("x"), Size: 1, Locator: "nowhere"}, registry.Whole)
	if err == nil {
		c.Close()
		t.Fatal("no error")
	}
	// What nobody knows must not become a label.
	for _, method := range []string{"/a.B/C", "/d.E/F"} {
		_ = o.blobs.conn.Invoke(ctx, method, nil, nil)
	}
	for side, set := range map[string]*metrics.Set{"client": o.client, "server": o.server} {
		wants(t, set,
			"berth_grpc_"+side+`_calls_total{method="/berth.metadata.v1.CatalogService/GetManifest",code="NotFound"} 1`,
			"berth_grpc_"+side+`_calls_total{method="/berth.blobstore.v1.BlobService/Check",code="OK"} 1`,
			"berth_grpc_"+side+`_calls_total{method="/berth.blobstore.v1.BlobService/OpenBlob",code="NotFound"} 1`,
			"berth_grpc_"+side+`_duration_seconds_count{method="/berth.blobstore.v1.BlobService/Check"} 1`,
		)
		if text := string(set.Text()); strings.Contains(text, "a.B") || strings.Contains(text, "d.E") {
			t.Errorf("%s: a method that nobody knows became a label", side)
		}
	}
}

// TestRequestCrosses follows a request from the client's context into the server's
// log and spans.
func TestRequestCrosses(t *testing.T) {
	o := observe(t)
	ctx, outer := o.tracer.Enter(&tracing.Request{Context: t.Context(), ID: "id-7"}, "outer", "", "")
	trace, _ := tracing.Parent(ctx)
	if _, err := o.catalog.Tags(ctx, registry.Actor{}, "a", registry.Page[registry.Tag]{}); err == nil {
		t.Fatal("no error")
	}
	outer.End(nil)
	wants(t, o.server, `berth_grpc_server_calls_total{method="/berth.metadata.v1.CatalogService/ListTags",code="Internal"} 1`)
	if line := o.log.String(); !strings.Contains(line, "requestId=id-7 trace_id="+trace[3:35]) {
		t.Errorf("the server's log says %s", line)
	}
	parents := map[string]string{}
	ids := map[string]string{}
	for _, s := range o.spans.Ended() {
		name := s.Name() + " " + s.SpanKind().String()
		parents[name], ids[name] = s.Parent().SpanID().String(), s.SpanContext().SpanID().String()
		if s.Name() != "outer" && s.Status().Description != "Internal" {
			t.Errorf("%s has status %v", name, s.Status())
		}
	}
	const call = "berth.metadata.v1.CatalogService/ListTags"
	if len(ids) != 3 || parents[call+" server"] != ids[call+" client"] || parents[call+" client"] != ids["outer server"] {
		t.Errorf("spans %v are below %v", ids, parents)
	}
}
