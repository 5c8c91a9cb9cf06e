package allinone

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// TestReflectionIsRefusedWhereThereIsNone: a program without it says so, instead
// of serving without.
func TestReflectionIsRefusedWhereThereIsNone(t *testing.T) {
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = t.TempDir()
	cfg.HTTP.Address, cfg.HTTP.Port = "127.0.0.1", "0"
	cfg.Services.Reflection = true
	_, err := Link(t.Context(), cfg, localParts(), daemon.Process{Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "services.reflection") {
		t.Errorf("got %v", err)
	}
}
