package scanner_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/scanner/contents"
)

// bomb returns a layer that expands to size zeros in one file.
func bomb(t testing.TB, name string, size int64) []byte {
	t.Helper()
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: size, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestS114ArchiveBombs scans what expands to more than it may: each scan ends with a
// limit, within bounded memory and without a file left.
func TestS114ArchiveBombs(t *testing.T) {
	small := contents.Limits{Expanded: 64 << 20, Entries: 1000, File: 32 << 20, Document: 1 << 20, Packages: 500, Archive: 8 << 20, Notes: 400}
	s := newStore(t, onSQLite, func(o *scanner.Options) { o.Limits = small })
	nested := jar(t, "g", "a", "1")
	for range 6 {
		nested = jar(t, "g", "a", "1", nested)
	}
	var many, noted, packages []entry
	for i := range 1200 {
		many = append(many, file(fmt.Sprintf("a/%d.txt", i), ""))
		noted = append(noted, file(fmt.Sprintf("a/.wh.%d", i), ""))
	}
	var status strings.Builder
	for i := range 600 {
		fmt.Fprintf(&status, "Package: p%d\nStatus: install ok installed\nVersion: 1\n\n", i)
	}
	packages = append(packages, file("var/lib/dpkg/status", status.String()))
	fat := jar(t, "g", "a", "1", strings.Repeat("\x00", 9<<20))
	for _, test := range []struct {
		name  string
		layer []byte
		want  string
	}{
		{"a layer that expands", bomb(t, "zeros", 80<<20), "expands to more than"},
		{"too many entries", layer(t, many...), "entries"},
		{"too many whiteouts", layer(t, noted...), "names to remember"},
		{"too many packages", layer(t, packages...), "packages"},
		{"archives in archives", layer(t, file("x.jar", nested)), "deep"},
		{"an archive that expands", layer(t, file("x.jar", fat)), "archives in a layer expand"},
	} {
		image := s.image(t, "bombs", "", test.layer)
		st := s.wait(t, "bombs", image.Digest)
		if st.State != registry.ScanFailed || !strings.HasPrefix(st.Reason, "limit: ") || !strings.Contains(st.Reason, test.want) {
			t.Errorf("%s: %+v", test.name, st)
		}
	}
	// A single large file is left out, and the rest is told of.
	image := s.image(t, "bombs", "", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)), bomb(t, "usr/bin/large", 40<<20))
	st := s.wait(t, "bombs", image.Digest)
	if st.State != registry.ScanDone || st.Packages != 1 || !strings.Contains(st.Reason, "usr/bin/large") {
		t.Errorf("a large file: %+v", st)
	}
	left, err := os.ReadDir(filepath.Join(s.dir, "scratch"))
	if err != nil || len(left) > 0 {
		t.Errorf("left in scratch: %v, %v", left, err)
	}
}

// TestS115Ratio: a layer that grows without end is given up by its ratio long before
// the limit of bytes.
func TestS115Ratio(t *testing.T) {
	r := contents.Reader{Dir: t.TempDir(), Limits: contents.Limits{Modest: 32 << 20}}
	b := bomb(t, "zeros", 40<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := r.Read(t.Context(), bytes.NewReader(b))
	runtime.ReadMemStats(&after)
	if err == nil || !strings.Contains(err.Error(), "times its size") {
		t.Errorf("a bomb of %d bytes: %v", len(b), err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// TestS135HostileTar scans names and links that lead elsewhere: nothing outside of the
// layer is read or changed.
func TestS135HostileTar(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	s.load(t, database(t))
	outside := filepath.Join(s.dir, "outside")
	if err := os.WriteFile(outside, []byte("P:secret\nV:1\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := func(name, to string, kind byte) entry { return entry{name, to, 0o777, kind} }
	for name, l := range map[string][]byte{
		"up":            layer(t, file("../../../../../../../../tmp/x", "y"), file("../../etc/os-release", debianRelease)),
		"absolute":      layer(t, file("/etc/os-release", debianRelease), file("/tmp/../../../../tmp/x", "y")),
		"links":         layer(t, link("lib", "/", tar.TypeSymlink), link("lib/apk/db/installed", outside, tar.TypeSymlink), link("var/lib/dpkg/status", outside, tar.TypeLink)),
		"devices":       layer(t, link("var/lib/dpkg/status", "", tar.TypeChar), link("etc/os-release", "", tar.TypeFifo)),
		"whiteouts":     layer(t, file(".wh...", ""), file(".wh..", ""), file("a/.wh.../.wh.x", ""), file(".wh.", "")),
		"not a program": layer(t, entry{"bin/x", "\x7fELF" + strings.Repeat("\xff", 300<<10), 0o755, tar.TypeReg}),
		"not a jar":     layer(t, file("x.jar", "PK\x03\x04nothing")),
		"not JSON":      layer(t, file("package-lock.json", "{"), file("a/x.deps.json", "[]")),
		"not SQLite":    layer(t, file("var/lib/rpm/rpmdb.sqlite", "SQLite format 3\x00"+strings.Repeat("\xff", 8<<10))),
	} {
		image := s.image(t, "hostile", "", l)
		st := s.wait(t, "hostile", image.Digest)
		if st.State != registry.ScanDone {
			t.Errorf("%s: %+v", name, st)
		}
		if found := s.found(t, image.Digest); st.Packages != 0 || len(found) != 0 {
			t.Errorf("%s: %d packages, %q", name, st.Packages, found)
		}
	}
	if b := readFile(t, outside); b != "P:secret\nV:1\n\n" {
		t.Errorf("a file outside became %q", b)
	}
}

// TestDamagedLayers scans layers that are not what they say, and manifests that are no
// images.
func TestDamagedLayers(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	whole := layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl))
	for _, test := range []struct {
		name   string
		layer  []byte
		state  registry.ScanState
		reason string
	}{
		{"cut off", whole[:len(whole)/2], registry.ScanFailed, "damaged"},
		{"not tar", []byte("hello, this is no archive at all" + strings.Repeat(".", 2000)), registry.ScanFailed, "damaged"},
		{"xz", []byte("\xfd7zXZ\x00 and so on"), registry.ScanFailed, "xz"},
		{"empty", nil, registry.ScanDone, ""},
	} {
		image := s.image(t, "damaged", "", test.layer)
		st := s.wait(t, "damaged", image.Digest)
		if st.State != test.state || !strings.Contains(st.Reason, test.reason) {
			t.Errorf("%s: %+v", test.name, st)
		}
	}
	image := func(repo registry.Name, more map[string]any, mediaType string, content []byte) registry.Descriptor {
		m := map[string]any{
			"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": s.blob(t, repo, []byte("{}"), "application/vnd.oci.image.config.v1+json"),
			"layers": []any{s.blob(t, repo, content, mediaType)},
		}
		maps.Copy(m, more)
		return s.manifest(t, repo, "", registry.TypeManifest, m)
	}
	disguised := image("damaged", map[string]any{"artifactType": "application/x"}, "application/vnd.oci.image.layer.v1.tar+gzip", whole)
	if st := s.wait(t, "damaged", disguised.Digest); st.State != registry.ScanDone || st.Packages == 0 {
		t.Errorf("an image that says it is none: %+v", st)
	}
	disguised = image("damaged", nil, "text/spdx", whole)
	if st := s.wait(t, "damaged", disguised.Digest); st.State != registry.ScanFailed || !strings.Contains(st.Reason, "text/spdx") {
		t.Errorf("an image whose layers say they are none: %+v", st)
	}
	attestation := image("damaged", nil, "application/vnd.in-toto+json", []byte("{}"))
	if st := s.wait(t, "damaged", attestation.Digest); st.State != registry.ScanUnsupported {
		t.Errorf("an attestation: %+v", st)
	}
	chart := s.manifest(t, "damaged", "", registry.TypeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": s.blob(t, "damaged", []byte("{}"), "application/vnd.cncf.helm.config.v1+json"),
		"layers": []any{s.blob(t, "damaged", []byte("x"), "application/vnd.cncf.helm.chart.content.v1.tar+gzip")},
	})
	if st := s.wait(t, "damaged", chart.Digest); st.State != registry.ScanUnsupported || !strings.Contains(st.Reason, "helm.config") {
		t.Errorf("a chart: %+v", st)
	}
}
