package scanner_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/scanner/vulndb/vulndbtest"
)

// announced returns the summaries that the catalog was told for an image, the latest
// first. It waits for n of them: they come after what [store.wait] sees.
func (s *store) announced(t testing.TB, image registry.Descriptor, n int) []string {
	t.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		list, err := s.catalog.Announced(t.Context(), admin, registry.AnnouncementQuery{Repo: "r", Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range list.Items {
			if e.Digest != image.Digest {
				continue
			}
			if e.Type != registry.ImageScanned || e.Reference != string(image.Digest) || e.MediaType != image.MediaType || e.Actor != "" {
				t.Errorf("event: %+v", e)
			}
			all = append(all, string(e.Data["summary"]))
		}
		if len(all) >= n {
			return all
		}
		select {
		case <-again.C:
		case <-t.Context().Done():
			t.Fatal("the test ends")
		}
	}
}

// TestAnnounce: whoever wants to know is told what was found in an image, once there is
// a database to find something with, and again when a newer one finds something else.
func TestAnnounce(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	bare := s.image(t, "r", "bare", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	s.wait(t, "r", bare.Digest)
	s.load(t, database(t))
	const one = `{"count":1,"fixableCount":1,"unknownCount":0,"lowCount":0,"mediumCount":0,"highCount":1,"criticalCount":0,"maxSeverity":"HIGH"}`
	if diff := cmp.Diff([]string{one}, s.announced(t, bare, 1)); diff != "" {
		t.Errorf("without a database, and then with one:\n%s", diff)
	}
	clean := s.image(t, "r", "clean", layer(t, file("etc/os-release", debianRelease)))
	s.wait(t, "r", clean.Digest)
	const none = `{"count":0,"fixableCount":0,"unknownCount":0,"lowCount":0,"mediumCount":0,"highCount":0,"criticalCount":0,"maxSeverity":"NONE"}`
	if diff := cmp.Diff([]string{none}, s.announced(t, clean, 1)); diff != "" {
		t.Errorf("nothing was found:\n%s", diff)
	}
	more := vulndbtest.Advisory{Bucket: "debian 12", Package: "openssl", ID: "CVE-2099-0900", Value: vulndbtest.Fixed{Status: 2, Severity: 1}}
	s.load(t, database(t, more))
	const two = `{"count":2,"fixableCount":1,"unknownCount":0,"lowCount":1,"mediumCount":0,"highCount":1,"criticalCount":0,"maxSeverity":"HIGH"}`
	if diff := cmp.Diff([]string{two, one}, s.announced(t, bare, 2)); diff != "" {
		t.Errorf("with a newer database:\n%s", diff)
	}
	s.load(t, database(t)) // by now all are looked up in the one before
	if diff := cmp.Diff([]string{one, two, one}, s.announced(t, bare, 3)); diff != "" {
		t.Errorf("with the first database again:\n%s", diff)
	}
	if diff := cmp.Diff([]string{none}, s.announced(t, clean, 1)); diff != "" {
		t.Errorf("a newer database finds the same:\n%s", diff)
	}
}

// TestOtherOptions: when images are looked up again because other options count, what was
// known of them holds until then, and nobody is told of what has stayed the same.
func TestOtherOptions(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	db := s.load(t, database(t))
	image := s.image(t, "r", "", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	s.wait(t, "r", image.Digest)
	told := s.announced(t, image, 1)
	for _, st := range scanner.RenewOtherwise(t, s.Service, image.Digest) {
		if !st.Known() || st.Counts[registry.SeverityHigh] != 1 {
			t.Errorf("before it is looked up again: %+v", st)
		}
	}
	if st := s.wait(t, "r", image.Digest); st.DB != db.Version {
		t.Errorf("after that: %+v", st)
	}
	if diff := cmp.Diff(told, s.announced(t, image, 1)); diff != "" {
		t.Errorf("nothing else was found:\n%s", diff)
	}
}
