package tracing

import (
	"encoding/hex"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// maxState is the length in bytes of the longest tracestate that is passed on
// (W3C Trace Context, §3.3.1.1).
const maxState = 512

// parseParent reads a traceparent header (W3C Trace Context, §3.2).
func parseParent(parent, state string) (trace.SpanContext, bool) {
	const length = len("00-") + 32 + len("-") + 16 + len("-01")
	later := len(parent) > length && parent[length] == '-' && !strings.HasPrefix(parent, "00")
	if len(parent) != length && !later || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' {
		return trace.SpanContext{}, false
	}
	var version, flags [1]byte
	var c trace.SpanContextConfig
	for _, part := range []struct {
		to   []byte
		from string
	}{{version[:], parent[:2]}, {c.TraceID[:], parent[3:35]}, {c.SpanID[:], parent[36:52]}, {flags[:], parent[53:length]}} {
		if _, err := hex.Decode(part.to, []byte(part.from)); err != nil || strings.ToLower(part.from) != part.from {
			return trace.SpanContext{}, false
		}
	}
	if version[0] == 0xff {
		return trace.SpanContext{}, false
	}
	c.TraceFlags = trace.TraceFlags(flags[0]) & trace.FlagsSampled
	c.Remote = true
	if len(state) <= maxState {
		c.TraceState, _ = trace.ParseTraceState(state) // one that is malformed is dropped alone
	}
	sc := trace.NewSpanContext(c)
	return sc, sc.IsValid()
}

func formatParent(sc trace.SpanContext) string {
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String()
}
