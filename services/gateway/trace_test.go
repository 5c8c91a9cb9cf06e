package gateway

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/berth-registry/berth/registry/tracing"
	"github.com/google/go-cmp/cmp"
)

// TestRequestID takes over the id that a proxy gave, and tells its own otherwise.
func TestRequestID(t *testing.T) {
	var out logBuffer
	w := newWorld()
	w.log = slog.New(slog.NewJSONHandler(&out, nil))
	url := w.serve(t)
	for sent, taken := range map[string]bool{"from-proxy_1.2": true, "": false, `"}{`: false, strings.Repeat("x", 65): false} {
		got := do(t, "GET", url+"/v2/", nil, "X-Request-Id: "+sent).want(t, 200).header.Get("X-Request-Id")
		if (got == sent) != taken || !tracing.ValidID(got) {
			t.Errorf("sent %q, got %q", sent, got)
		}
		if line := out.take(); !strings.Contains(line, `"requestId":"`+got+`"`) {
			t.Errorf("%q is not in the log: %s", got, line)
		}
	}
}

// TestRequestSpan says what was done, and nothing that could be a secret.
func TestRequestSpan(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	p := sdk.NewTracerProvider(sdk.WithSpanProcessor(spans))
	defer p.Shutdown(context.Background())
	w := newWorld()
	w.deps.Traces = tracing.New(p)
	var out logBuffer
	w.log = slog.New(slog.NewJSONHandler(&out, nil))
	g := w.gateway(t)

	const canary = "canary"
	send := func(method, target string) {
		r := httptest.NewRequest(method, target, strings.NewReader(canary))
		r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		for _, h := range []string{"Authorization", "Cookie", "X-Request-Id", "User-Agent", "Referer"} {
			r.Header.Set(h, canary)
		}
		g.ServeHTTP(&discard{h: make(map[string][]string)}, r)
	}
	send("GET", "/v2/a/b/manifests/v1")
	send("PATCH", "/v2/a/blobs/uploads/"+idA+"?_state="+canary)
	send("X"+canary, "/v2/?token="+canary)
	send("GET", "/"+canary)

	var names []string
	for _, s := range spans.Ended() {
		names = append(names, s.Name())
		if s.SpanContext().TraceID().String() != "0af7651916cd43dd8448eb211c80319c" || s.Parent().SpanID().String() != "b7ad6b7169203331" {
			t.Errorf("%s is below %s", s.Name(), s.Parent().SpanID())
		}
		text := s.Name() + s.Status().Description
		for _, a := range s.Attributes() {
			text += " " + string(a.Key) + "=" + a.Value.String()
		}
		if strings.Contains(text, canary) {
			t.Errorf("a secret is told: %s", text)
		}
	}
	want := []string{"GET /v2/{name}/manifests/{reference}", "PATCH /v2/{name}/blobs/uploads/{id}", "other /v2/", "GET unknown"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	got := map[string]string{}
	for _, a := range spans.Ended()[0].Attributes() {
		got[string(a.Key)] = a.Value.String()
	}
	if diff := cmp.Diff(map[string]string{
		"http.request.method": "GET", "http.route": "/v2/{name}/manifests/{reference}", "http.response.status_code": "404",
		"http.request.body.size": "0", "http.response.body.size": got["http.response.body.size"],
		"berth.repository": "a/b", "berth.tag": "v1", "error.type": "NameUnknown",
	}, got); diff != "" {
		t.Error(diff)
	}
	if line := out.take(); !strings.Contains(line, `"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"`+spans.Ended()[0].SpanContext().SpanID().String()+`"`) {
		t.Errorf("the log does not name the span: %s", line)
	}
}
