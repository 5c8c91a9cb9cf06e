package scanner_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/scanner/vulndb"
)

// TestIgnoreFile leaves out what a file lists, until a day. When the file changes, or a
// day comes, images are looked up again; a file that can't be read changes nothing.
func TestIgnoreFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ignore")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil { // another file, whatever the clock says
			t.Fatal(err)
		}
	}
	write("# known\nCVE-2099-0001\nCVE-2099-0002 exp:2030-01-01 # for now\n\n")
	now := time.Date(2029, 12, 31, 0, 0, 0, 0, time.UTC)
	var said strings.Builder
	ignored, err := vulndb.OpenIgnored(name, func() time.Time { return now }, slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, onSQLite, func(o *scanner.Options) { o.Idle = true })
	if err := s.vulns.Close(); err != nil {
		t.Fatal(err)
	}
	s = &store{blobs: s.blobs, catalog: s.catalog, dir: t.TempDir(), ignored: ignored}
	s.open(t, onSQLite, nil)
	s.load(t, database(t))
	image := s.image(t, "r", "", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl+zlib)))
	s.wait(t, "r", image.Digest)
	versions := map[string]bool{}
	step := func(what string, want ...string) {
		t.Helper()
		scanner.Renew(t, s.Service)
		got := []string{}
		for _, line := range s.found(t, image.Digest) {
			id, _, _ := strings.Cut(line, " ")
			got = append(got, id)
		}
		if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		versions[s.wait(t, "r", image.Digest).DB] = true
	}
	step("both are ignored")
	now = now.AddDate(0, 0, 1)
	step("its day has come", "CVE-2099-0002")
	now = now.Add(time.Minute)
	write("CVE-2099-0002\n")
	step("another one", "CVE-2099-0001")
	now = now.Add(time.Minute)
	write("CVE-2099-0002 until tomorrow\n")
	step("a line that says nothing known", "CVE-2099-0001")
	now = now.Add(time.Minute)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	step("no file", "CVE-2099-0001")
	now = now.Add(time.Minute)
	step("still none", "CVE-2099-0001")
	if n := strings.Count(said.String(), "level=ERROR"); n != 2 {
		t.Errorf("told %d times of a file that can't be read, want 2:\n%s", n, said.String())
	}
	write("")
	now = now.Add(time.Minute)
	step("an empty one", "CVE-2099-0001", "CVE-2099-0002")
	if len(versions) != 4 {
		t.Errorf("%d versions, want one for each of 4 lists: %v", len(versions), versions)
	}
	write("CVE-1 until tomorrow\n")
	if _, err := vulndb.OpenIgnored(name, time.Now, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a line that says nothing known was taken at the start")
	}
}
