package allinone

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/tracing"
	"github.com/berth-registry/berth/services/gateway"
)

// TestTraceThroughServices follows a push from the gateway over gRPC into the
// database, and makes sure that no secret is told on the way.
func TestTraceThroughServices(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	defer provider.Shutdown(context.Background())
	log := new(lines)
	p := daemon.Process{Log: slog.New(slog.NewJSONHandler(log, nil)), Traces: tracing.New(provider)}

	blobs, local := stores(t)
	unit, err := rpc.CatalogUnit(t.Context(), "127.0.0.1:0", local, rpc.ServerOptions{Log: p.Log, Traces: p.Traces})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- unit.Run() }()
	catalog, err := rpc.DialCatalog([]string{log.address(t, "listening for metadata gRPC")}, rpc.DialOptions{})
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Defaults(), gateway.Deps{Blobs: blobs, Catalog: catalog, Traces: p.Traces}, p.Log)
	if err != nil {
		t.Fatal(err)
	}
	const canary = "canary"
	send := func(method, path, body string) {
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", registry.TypeIndex)
		r.Header.Set("Authorization", "Bearer "+canary)
		r.Header.Set("Cookie", canary)
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		if w.Code >= 400 {
			t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
	}
	index := `{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[]}`
	send("PUT", "/v2/a/manifests/t", index)
	send("GET", "/v2/a/manifests/t?access_token="+canary, "")
	if err := catalog.Close(); err != nil {
		t.Error(err)
	}
	if err := unit.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}

	type node struct{ name, parent string }
	byID := make(map[string]node)
	for _, s := range spans.Ended() {
		byID[s.SpanContext().SpanID().String()] = node{s.Name() + " " + s.SpanKind().String(), s.Parent().SpanID().String()}
		text := s.Name() + s.Status().Description
		for _, a := range s.Attributes() {
			text += fmt.Sprintf(" %s=%s", a.Key, a.Value.String())
		}
		if strings.Contains(text, canary) {
			t.Errorf("a secret is told: %s", text)
		}
	}
	paths := make(map[string]bool)
	for id := range byID {
		path := ""
		for n, ok := byID[id]; ok; n, ok = byID[n.parent] {
			path = "/" + n.name + path
		}
		paths[path] = true
	}
	const catalogService = "berth.metadata.v1.CatalogService/"
	for _, want := range []string{
		"/PUT /v2/{name}/manifests/{reference} server/" + catalogService + "PutManifest client/" + catalogService + "PutManifest server/write internal",
		"/GET /v2/{name}/manifests/{reference} server/" + catalogService + "GetManifest client/" + catalogService + "GetManifest server/query client",
	} {
		if !paths[want] {
			t.Errorf("no %s in %v", want, paths)
		}
	}
}
