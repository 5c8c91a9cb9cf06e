package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/berth-registry/berth/registry/tracing"
)

// LogOptions of [NewLogger].
type LogOptions struct {
	// Level is debug, info, warn, error, or zot's fatal and panic, which mean
	// error here. "" is info.
	Level string
	// Output is a file to append to; "" or "stdout" is standard output, and
	// "stderr" standard error.
	Output string
}

// NewLogger returns a logger that writes JSON lines with the keys time, level
// and message, as zot does, and the file to close at the end. A line that is about a request
// says which, see package tracing.
func NewLogger(o LogOptions) (*slog.Logger, io.Closer, error) {
	level, err := parseLevel(o.Level)
	if err != nil {
		return nil, nil, err
	}
	out := os.Stdout
	var closer io.Closer = io.NopCloser(nil)
	switch o.Output {
	case "", "stdout", "/dev/stdout":
	case "stderr", "/dev/stderr":
		out = os.Stderr
	default:
		// Readable for a group that collects logs, for nobody else.
		out, err = os.OpenFile(o.Output, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the log: %w", err)
		}
		closer = out
	}
	return slog.New(newHandler(out, level)), closer, nil
}

func newHandler(w io.Writer, level slog.Leveler) slog.Handler {
	return tracing.Handler(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: level,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch a.Key {
			case slog.MessageKey:
				a.Key = "message"
			case slog.LevelKey:
				if l, ok := a.Value.Any().(slog.Level); ok {
					a.Value = slog.StringValue(strings.ToLower(l.String()))
				}
			}
			return a
		},
	}))
}

func parseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug", "trace":
		return slog.LevelDebug, nil
	case "", "info":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "fatal", "panic":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("log level %q is not debug, info, warn or error", s)
}
