package cli

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
)

// TestReloadsLevel: the level of the log is that of the file.
func TestReloadsLevel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	write := func(level string) {
		if err := os.WriteFile(file, []byte(`{"storage":{"rootDirectory":"/x"},"http":{"port":"0"},"log":{"level":"`+level+`"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("warn")
	p := Program{Name: "x", Serve: Server{Program: config.AllInOne}}
	cfg, _, err := p.load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := daemon.NewLogger(daemon.LogOptions{Level: cfg.Log.Level, Output: file + ".log"})
	if err != nil {
		t.Fatal(err)
	}
	process := &daemon.Process{Log: logs.Logger, Metrics: metrics.New()}
	p.reload(process, cfg, logs, file, nil)
	if process.Log.Enabled(t.Context(), slog.LevelInfo) {
		t.Fatal("a level that nobody asked for")
	}
	write("debug")
	if err := process.Live.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !process.Log.Enabled(t.Context(), slog.LevelDebug) || !process.Live.Applies("log.level") {
		t.Error("the level is the old one")
	}
}
