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

// Log is where the records of a process go.
type Log struct {
	*slog.Logger
	level slog.LevelVar
	file  *LogFile // nil for the standard streams
}

// NewLogger returns a logger that writes JSON lines with the keys time, level
// and message, as zot does; close it at the end. A line that is about a request
// says which, see package tracing.
func NewLogger(o LogOptions) (*Log, error) {
	l := new(Log)
	if err := l.SetLevel(o.Level); err != nil {
		return nil, err
	}
	var out io.Writer = os.Stdout
	switch o.Output {
	case "", "stdout", "/dev/stdout":
	case "stderr", "/dev/stderr":
		out = os.Stderr
	default:
		var err error
		if l.file, err = OpenLogFile(o.Output); err != nil {
			return nil, err
		}
		out = l.file
	}
	l.Logger = slog.New(newHandler(out, &l.level))
	return l, nil
}

// SetLevel changes the least important level that is written; see [LogOptions].
func (l *Log) SetLevel(level string) error {
	parsed, err := parseLevel(level)
	if err != nil {
		return err
	}
	l.level.Set(parsed)
	return nil
}

// Reopen opens the file again, if there is one, because it was rotated.
func (l *Log) Reopen() error {
	if l.file == nil {
		return nil
	}
	return l.file.Reopen()
}

// Close closes the file, if there is one.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
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
