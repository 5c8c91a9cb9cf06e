package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/tracing"
)

// maxLogged is how many bytes of a text from the client a record may hold.
const maxLogged = 2 << 10

// record writes the one log record of a request, in zot's words. Headers are
// not in it, so no credential is.
func (g *Gateway) record(x *exchange, took time.Duration, err error) {
	ctx := x.context()
	level := slog.LevelInfo
	switch {
	case errors.Is(err, registry.ErrCanceled):
		level = slog.LevelWarn
	case x.status >= 500 || err != nil && x.status < 400:
		level = slog.LevelError
	case x.resource == livez || x.resource == readyz || x.resource == startupz || x.resource == metricsPage:
		level = slog.LevelDebug
	}
	if !g.log.Enabled(ctx, level) || x.status >= 400 && x.status < 500 && !g.sample.take(time.Now()) {
		return
	}
	attrs := [12]slog.Attr{
		slog.String("clientIP", x.r.RemoteAddr),
		slog.String("method", clip(x.r.Method)),
		slog.String("path", clip(loggedPath(x))),
		slog.Int("statusCode", x.status),
		slog.String("latency", took.String()),
		slog.Int64("bodySize", x.sent),
		slog.String("username", x.actor.ID),
	}
	n := 7
	if agent := x.header("User-Agent"); agent != "" {
		attrs[n] = slog.String("userAgent", clip(agent))
		n++
	}
	if err != nil && worthALine(err) {
		attrs[n] = slog.String("error", clip(err.Error()))
		n++
	}
	n += len(tracing.AppendAttrs(attrs[n:n], ctx))
	// By hand, because the place in the source, which a Logger looks up each
	// time, says nothing here.
	rec := slog.NewRecord(time.Now(), level, "HTTP API", 0)
	rec.AddAttrs(attrs[:n]...)
	_ = g.log.Handler().Handle(context.Background(), rec) // where would it be reported?
}

// maxFailuresLogged is how many requests that fail by their client's doing are logged
// in a second. A client that asks for what is not there as fast as it can must not
// fill the disk; that there were more is said, and metrics count them all.
const maxFailuresLogged = 1000

// sample bounds the log lines of a second.
type sample struct {
	mu     sync.Mutex // guards the rest
	second int64
	lines  int
	left   int64 // out since the last report
	report func(left int64)
}

// take reports whether one more line may be written.
func (s *sample) take(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if second := now.Unix(); second != s.second {
		if s.left > 0 && s.report != nil {
			s.report(s.left)
		}
		s.second, s.lines, s.left = second, 0, 0
	}
	if s.lines >= maxFailuresLogged {
		s.left++
		return false
	}
	s.lines++
	return true
}

// worthALine reports whether an error says more than the status does.
func worthALine(err error) bool {
	switch registry.AsError(err).Code {
	case registry.NameUnknown, registry.ManifestUnknown, registry.BlobUnknown, registry.Unauthorized, registry.Denied:
		return false
	}
	return true
}

// loggedPath returns path and query as they came, less what an upload token
// would let a reader of the log do.
func loggedPath(x *exchange) string {
	uri := x.r.RequestURI
	if x.resource == identityPath && x.r.URL.RawQuery != "" && (x.r.URL.Path != "/zot/auth/token" || x.r.Method == http.MethodPost) {
		// Codes of logins are good for a moment, and by themselves. The form of a token
		// request has secrets, and who puts it into the URL is refused, but logged.
		return x.r.URL.EscapedPath() + "?******"
	}
	i := strings.Index(uri, stateParam+"=")
	if i < 0 {
		return uri
	}
	i += len(stateParam) + 1
	rest := ""
	if j := strings.IndexByte(uri[i:], '&'); j >= 0 {
		rest = uri[i+j:]
	}
	return uri[:i] + "******" + rest
}

func clip(s string) string {
	if len(s) > maxLogged {
		return s[:maxLogged] + "…"
	}
	return s
}
