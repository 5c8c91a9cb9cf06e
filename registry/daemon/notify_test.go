package daemon

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
)

// TestRunTellsManager runs a process under a service manager: it is up when all
// units have started, and stopping before one of them stops.
func TestRunTellsManager(t *testing.T) {
	for name, address := range map[string]string{
		"file":     filepath.Join(t.TempDir(), "notify"),
		"abstract": "@berth-test-" + filepath.Base(t.TempDir()) + t.Name(),
	} {
		t.Run(name, func(t *testing.T) {
			manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
			if err != nil {
				t.Fatal(err)
			}
			defer manager.Close()
			t.Setenv("NOTIFY_SOCKET", address)
			told := func() string {
				b := make([]byte, 64)
				n, err := manager.Read(b)
				if err != nil {
					t.Error(err)
				}
				return string(b[:n])
			}
			ctx, cancel := context.WithCancel(t.Context())
			started := false
			unit := Unit{
				Start: func(context.Context) error { started = true; return nil },
				Stop: func(context.Context) error {
					if got := told(); got != "STOPPING=1" {
						t.Errorf("told %q before the first unit stops", got)
					}
					return nil
				},
			}
			ended := make(chan error)
			go func() { ended <- Run(ctx, slog.New(slog.DiscardHandler), Options{}, unit) }()
			if got := told(); got != "READY=1" || !started {
				t.Errorf("told %q, started: %t", got, started)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestRunWithoutManager names a socket that nobody listens on.
func TestRunWithoutManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, slog.New(slog.DiscardHandler), Options{}); err != nil {
		t.Error(err)
	}
}
