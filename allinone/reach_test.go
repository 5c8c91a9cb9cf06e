package allinone

import (
	"log/slog"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/rpc"
)

// TestReach: a command finds the same store whether it is served or not, and does
// not make one where none is.
func TestReach(t *testing.T) {
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = t.TempDir()
	log := slog.New(slog.DiscardHandler)
	if s, err := Reach(t.Context(), cfg, localParts(), log); err == nil {
		t.Error("there is a store where none was:", s.Close())
	}

	fillStore(t, cfg.Storage.RootDirectory)
	blobs, catalog := storesIn(t, cfg.Storage.RootDirectory)
	if s, err := Reach(t.Context(), cfg, localParts(), log); err == nil {
		t.Error("a store that another process has open is opened:", s.Close())
	}
	unit, err := rpc.ControlUnit(t.Context(), cfg.Storage.RootDirectory, blobs, catalog, nil, nil, rpc.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- unit.Run() }()
	reaches(t, cfg, true)
	if err := unit.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := catalog.Close(); err != nil {
		t.Error(err)
	}
	if err := blobs.Close(); err != nil {
		t.Error(err)
	}
	reaches(t, cfg, false)
}

func reaches(t *testing.T, cfg *config.Config, running bool) {
	t.Helper()
	s, err := Reach(t.Context(), cfg, localParts(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if s.Running != running || s.Blobs == nil {
		t.Errorf("running: %v", s.Running)
	}
	list, err := s.Catalog.Repositories(t.Context(), registry.Actor{ID: "x"}, registry.Page[registry.Name]{Limit: 10})
	if err != nil || len(list.Items) != 1 || list.Items[0] != "a" {
		t.Errorf("%v, %v", list, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
