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

// PutImage records what is in an image.
func PutImage(t testing.TB, s *Service, st registry.ScanStatus, image *contents.Image) {
	t.Helper()
	if err := s.store.finish(t.Context(), st, "r", image, nil); err != nil {
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

// RenewOtherwise looks all images up again as if other options counted, and returns what
// they are before that.
func RenewOtherwise(t testing.TB, s *Service, images ...registry.Digest) []registry.ScanStatus {
	t.Helper()
	if err := s.store.outdate(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := s.ScanStatuses(t.Context(), images)
	if err != nil {
		t.Fatal(err)
	}
	Renew(t, s)
	return all
}

// MarkRunning makes an image one that is being scanned.
func MarkRunning(t testing.TB, s *Service, d registry.Digest) {
	t.Helper()
	if err := s.store.exec(t.Context(), `UPDATE images SET state = 'scanning' WHERE digest = $1`, string(d)); err != nil {
		t.Fatal(err)
	}
}

// CloseAll closes a service and its database.
func CloseAll(t testing.TB, s *Service) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.store.db.Close(); err != nil {
		t.Error(err)
	}
}

// RefuseResults has SQLite refuse to record that an image was scanned, until the
// function is called that it returns.
func RefuseResults(t testing.TB, s *Service) (allow func()) {
	t.Helper()
	run := func(q string) {
		if err := s.store.exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	run(`CREATE TRIGGER refuse BEFORE UPDATE ON images WHEN NEW.state = 'done' BEGIN SELECT RAISE(ABORT, 'no'); END`)
	return func() { run(`DROP TRIGGER refuse`) }
}

// RefuseIndexesWithout has SQLite refuse to record an index while an image is not known.
func RefuseIndexesWithout(t testing.TB, s *Service, image registry.Digest) {
	t.Helper()
	err := s.store.exec(t.Context(), `CREATE TRIGGER whole BEFORE UPDATE ON images
		WHEN NEW.state = 'index' AND NOT EXISTS (SELECT 1 FROM images WHERE digest = '`+string(image)+`') BEGIN SELECT RAISE(ABORT, 'no'); END`)
	if err != nil {
		t.Fatal(err)
	}
}

// RefuseWrites has SQLite refuse to write anything about images.
func RefuseWrites(t testing.TB, s *Service) {
	t.Helper()
	for _, what := range []string{"INSERT", "UPDATE"} {
		if err := s.store.exec(t.Context(), `CREATE TRIGGER refuse_`+what+` BEFORE `+what+` ON images BEGIN SELECT RAISE(ABORT, 'no'); END`); err != nil {
			t.Fatal(err)
		}
	}
}

// Damage makes what is known to be in an image unreadable.
func Damage(t testing.TB, s *Service, d registry.Digest) {
	t.Helper()
	if err := s.store.exec(t.Context(), `UPDATE images SET found = $2 WHERE digest = $1`, string(d), []byte("x")); err != nil {
		t.Fatal(err)
	}
}
