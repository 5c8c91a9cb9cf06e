package reflect

import (
	"context"
	"log/slog"
)

// addressLog returns a logger that sends the address that a unit listens on.
func addressLog(to chan<- string) *slog.Logger { return slog.New(addresses{to}) }

type addresses struct{ to chan<- string }

func (addresses) Enabled(context.Context, slog.Level) bool { return true }
func (a addresses) WithAttrs([]slog.Attr) slog.Handler     { return a }
func (a addresses) WithGroup(string) slog.Handler          { return a }
func (a addresses) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(attr slog.Attr) bool {
		if attr.Key == "address" {
			a.to <- attr.Value.String()
		}
		return true
	})
	return nil
}
