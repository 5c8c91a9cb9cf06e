package scanner

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/contents"
)

// Put records what became of an image as if it had been scanned.
func Put(t testing.TB, s *Service, st registry.ScanStatus, found []registry.ScanFinding) {
	t.Helper()
	if err := s.store.finish(t.Context(), st, "r", new(contents.Image), found); err != nil {
		t.Error(err)
	}
}

// Walk looks for images once.
func Walk(t testing.TB, s *Service) {
	t.Helper()
	if err := s.walk(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Renew looks all images up in the database in use.
func Renew(t testing.TB, s *Service) {
	t.Helper()
	if err := s.renew(t.Context()); err != nil {
		t.Fatal(err)
	}
}
