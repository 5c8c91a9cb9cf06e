package tracing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/berth-registry/berth/registry"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// recorder returns a tracer and what it has recorded.
func recorder(t *testing.T, options ...sdk.TracerProviderOption) (*Tracer, *tracetest.SpanRecorder) {
	spans := tracetest.NewSpanRecorder()
	p := sdk.NewTracerProvider(append(options, sdk.WithSpanProcessor(spans))...)
	t.Cleanup(func() { p.Shutdown(context.Background()) })
	return New(p), spans
}

func TestParent(t *testing.T) {
	for in, want := range map[string]string{
		parent:                    parent,
		parent[:53] + "00":        parent[:53] + "00",
		parent[:53] + "ff":        parent, // only the flag we know is passed on
		"cc" + parent[2:] + "-ab": parent, // a later version, of which we know the beginning
		"ff" + parent[2:]:         "",
		parent + "-ab":            "",
		parent[:54]:               "",
		"":                        "",
		strings.ToUpper(parent):   "",
		strings.Replace(parent, "0af7651916cd43dd8448eb211c80319c", strings.Repeat("0", 32), 1): "",
		strings.Replace(parent, "b7ad6b7169203331", strings.Repeat("0", 16), 1):                 "",
		strings.Replace(parent, "-b7", "_b7", 1):                                                "",
		strings.Replace(parent, "b7", "zz", 1):                                                  "",
	} {
		got := ""
		if sc, ok := parseParent(in, ""); ok {
			got = formatParent(sc)
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestParentState(t *testing.T) {
	for in, want := range map[string]string{
		"a=1,b=2":                       "a=1,b=2",
		"not a state":                   "",
		"a=" + strings.Repeat("1", 600): "",
	} {
		sc, ok := parseParent(parent, in)
		if got := sc.TraceState().String(); !ok || got != want {
			t.Errorf("%q: got %q, %v", in, got, ok)
		}
	}
}

func FuzzParent(f *testing.F) {
	f.Add(parent, "a=1")
	f.Add("cc"+parent[2:]+"-x", "")
	f.Fuzz(func(t *testing.T, parent, state string) {
		sc, ok := parseParent(parent, state)
		if !ok {
			return
		}
		again, ok := parseParent(formatParent(sc), sc.TraceState().String())
		if !ok || !again.Equal(sc) {
			t.Errorf("%q: %v, written and read again %v", parent, sc, again)
		}
	})
}

// TestTrace goes on with a trace and hands it down.
func TestTrace(t *testing.T) {
	tracer, spans := recorder(t)
	ctx, outer := tracer.Enter(t.Context(), "outer", parent, "a=1")
	below, inner := Start(ctx, "inner", Client)
	inner.Text("key", strings.Repeat("v", 1000))
	inner.Int("n", 7)
	sent, state := Parent(below)
	inner.End(registry.ErrUnavailable.Because(errors.New("canary")))
	outer.Name("renamed")
	outer.End(registry.ErrBlobUnknown)

	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans", len(ended))
	}
	in, out := ended[0], ended[1]
	if out.Name() != "renamed" || out.SpanKind() != trace.SpanKindServer || in.SpanKind() != trace.SpanKindClient {
		t.Errorf("%s is a %s, %s a %s", out.Name(), out.SpanKind(), in.Name(), in.SpanKind())
	}
	if out.Parent().SpanID().String() != "b7ad6b7169203331" || in.Parent().SpanID() != out.SpanContext().SpanID() || in.SpanContext().TraceID().String() != parent[3:35] {
		t.Errorf("outer is below %s, inner below %s", out.Parent().SpanID(), in.Parent().SpanID())
	}
	if want := "00-" + parent[3:35] + "-" + in.SpanContext().SpanID().String() + "-01"; sent != want || state != "a=1" {
		t.Errorf("sent %q and %q, want %q", sent, state, want)
	}
	got := map[string]string{}
	for _, a := range in.Attributes() {
		got[string(a.Key)] = a.Value.String()
	}
	if diff := cmp.Diff(map[string]string{"key": strings.Repeat("v", 256), "n": "7", "error.type": "Unavailable"}, got); diff != "" {
		t.Error(diff)
	}
	if in.Status().Code.String() != "Error" || out.Status().Code.String() != "Unset" {
		t.Errorf("status of a fault %v, of an answer %v", in.Status(), out.Status())
	}
}

// TestUnsampled passes a trace on that is not recorded.
func TestUnsampled(t *testing.T) {
	tracer, spans := recorder(t)
	ctx, s := tracer.Enter(t.Context(), "x", parent[:53]+"00", "")
	_, below := Start(ctx, "below", Inside)
	if s.On() || below.On() {
		t.Error("a span that nobody sees is on")
	}
	if sent, _ := Parent(ctx); !strings.HasPrefix(sent, parent[:36]) || !strings.HasSuffix(sent, "-00") {
		t.Errorf("sent %q", sent)
	}
	s.End(nil)
	if n := len(spans.Ended()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

func TestOffAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(&Request{Context: t.Context(), ID: "id"})
	defer cancel()
	var none *Tracer
	if n := testing.AllocsPerRun(100, func() {
		ctx, outer := none.Enter(ctx, "outer", parent, "a=1")
		ctx, inner := Start(ctx, "inner", Inside)
		inner.Text("key", "value")
		inner.Int("n", 1)
		if s, _ := Parent(ctx); s != "" || RequestID(ctx) != "id" {
			t.Error("there is a trace, or no id")
		}
		inner.End(nil)
		outer.Name("x")
		outer.Fail("y")
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestIDs(t *testing.T) {
	a, b := NewIDs(), NewIDs()
	seen := map[string]bool{}
	for range 1000 {
		for _, id := range []string{a.Next(), b.Next()} {
			if seen[id] || !ValidID(id) {
				t.Fatalf("%q was there before, or is no id", id)
			}
			seen[id] = true
		}
	}
	for id, want := range map[string]bool{"": false, "a b": false, "a\nb": false, "é": false, "A-z_0.9": true, strings.Repeat("a", 64): true, strings.Repeat("a", 65): false} {
		if ValidID(id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

func TestLogLinesSayWhichRequest(t *testing.T) {
	tracer, _ := recorder(t)
	var buf bytes.Buffer
	log := slog.New(Handler(slog.NewJSONHandler(&buf, nil))).With("a", "b")
	last := func() map[string]any {
		got := map[string]any{}
		if err := json.Unmarshal(buf.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		buf.Reset()
		delete(got, "time")
		delete(got, "level")
		return got
	}
	ctx := context.Context(&Request{Context: t.Context(), ID: "id-1"})
	log.InfoContext(ctx, "hello", "x", 1)
	if diff := cmp.Diff(map[string]any{"msg": "hello", "a": "b", "x": 1.0, "requestId": "id-1"}, last()); diff != "" {
		t.Error(diff)
	}
	ctx, s := tracer.Enter(ctx, "x", parent, "")
	log.InfoContext(ctx, "hello")
	id := trace.SpanContextFromContext(ctx).SpanID().String()
	if diff := cmp.Diff(map[string]any{"msg": "hello", "a": "b", "requestId": "id-1", "trace_id": parent[3:35], "span_id": id}, last()); diff != "" {
		t.Error(diff)
	}
	s.End(nil)
	log.Info("hello")
	if diff := cmp.Diff(map[string]any{"msg": "hello", "a": "b"}, last()); diff != "" {
		t.Error(diff)
	}
}
