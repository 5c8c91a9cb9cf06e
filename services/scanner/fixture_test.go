package scanner_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/scanner/vulndb"
	"github.com/berth-registry/berth/services/scanner/vulndb/vulndbtest"
)

// entry is a file of a layer.
type entry struct {
	name string
	text string
	mode int64
	kind byte
}

func file(name, text string) entry { return entry{name, text, 0o644, tar.TypeReg} }

// layer returns a layer with some files.
func layer(t testing.TB, all ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for _, e := range all {
		h := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text)), Typeflag: e.kind}
		if e.kind != tar.TypeReg {
			h.Size, h.Linkname = 0, e.text
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := w.Write([]byte(e.text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// jar returns an archive whose Maven files name an artifact.
func jar(t testing.TB, group, artifact, version string, inner ...string) string {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	w, err := z.Create("META-INF/maven/" + group + "/" + artifact + "/pom.properties")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write([]byte("groupId=" + group + "\nartifactId=" + artifact + "\nversion=" + version + "\n"))
	for _, text := range inner {
		w, err := z.Create("BOOT-INF/lib/inner.jar")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(text))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// store is a registry in memory with a scanner.
type store struct {
	*scanner.Service
	blobs   *memory.Blobs
	catalog *memory.Catalog
	vulns   *vulndb.DB
	dir     string
	closed  bool // the test has closed it
	ignored *vulndb.Ignored
	put     func(registry.ScanStatus, ...registry.ScanFinding)
}

type opener func(t testing.TB, dir string) *sqldb.DB

func onSQLite(t testing.TB, dir string) *sqldb.DB {
	t.Helper()
	db, err := sqlite.OpenScanner(t.Context(), config.Storage{Pool: config.Pool{RootDirectory: dir}}, func(err error) { t.Error(err) }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func newStore(t testing.TB, open opener, change func(*scanner.Options)) *store {
	t.Helper()
	s := &store{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{}), dir: t.TempDir()}
	s.open(t, open, change)
	return s
}

func (s *store) open(t testing.TB, open opener, change func(*scanner.Options)) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	var err error
	s.vulns, err = vulndb.Open(vulndb.Options{Dir: filepath.Join(s.dir, "vulns"), Sources: []string{"auto"}, Ignored: s.ignored, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	o := scanner.Options{Scratch: filepath.Join(s.dir, "scratch"), Log: log, Live: scanner.Live{Every: time.Hour}, Version: "test"}
	if change != nil {
		change(&o)
	}
	db := open(t, s.dir)
	s.Service, err = scanner.New(t.Context(), db, s.blobs, s.catalog, s.vulns, o)
	if err != nil {
		t.Fatal(err)
	}
	s.put = func(st registry.ScanStatus, found ...registry.ScanFinding) { scanner.Put(t, s.Service, st, found) }
	t.Cleanup(func() {
		if err := s.Service.Close(); err != nil {
			t.Error(err)
		}
		if err := s.vulns.Close(); err != nil {
			t.Error(err)
		}
		if s.closed {
			return
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
}

var admin = registry.Actor{ID: "test", System: true}

func (s *store) blob(t testing.TB, repo registry.Name, b []byte, mediaType string) registry.Descriptor {
	t.Helper()
	d := registry.SHA256.FromBytes(b)
	u, err := s.blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := s.blobs.Commit(t.Context(), u, bytes.NewReader(b), d)
	if err == nil {
		_, err = s.catalog.Link(t.Context(), admin, repo, stored)
	}
	if err != nil {
		t.Fatal(err)
	}
	return registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// manifest pushes a manifest and returns its digest.
func (s *store) manifest(t testing.TB, repo registry.Name, tag registry.Tag, mediaType string, doc any) registry.Descriptor {
	t.Helper()
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	put := registry.ManifestPut{Digest: registry.SHA256.FromBytes(text), MediaType: mediaType, Bytes: text, ByDigest: true}
	if tag != "" {
		put.Tags = []registry.Tag{tag}
	}
	if _, err := s.catalog.PutManifest(t.Context(), admin, repo, put); err != nil {
		t.Fatal(err)
	}
	return registry.Descriptor{MediaType: mediaType, Digest: put.Digest, Size: int64(len(text))}
}

// image pushes an image and returns its descriptor.
func (s *store) image(t testing.TB, repo registry.Name, tag registry.Tag, layers ...[]byte) registry.Descriptor {
	t.Helper()
	m := imgspec.Manifest{MediaType: registry.TypeManifest, Config: s.blob(t, repo, []byte(`{"architecture":"amd64","os":"linux"}`), imgspec.MediaTypeImageConfig)}
	m.SchemaVersion = 2
	for _, l := range layers {
		m.Layers = append(m.Layers, s.blob(t, repo, l, imgspec.MediaTypeImageLayerGzip))
	}
	return s.manifest(t, repo, tag, registry.TypeManifest, m)
}

// wait returns the status of an image when it has one that stays.
func (s *store) wait(t testing.TB, repo registry.Name, d registry.Digest) registry.ScanStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		st, err := s.ScanStatus(ctx, repo, d)
		if err != nil {
			t.Fatal(err)
		}
		if st.State != registry.ScanQueued && st.State != registry.ScanRunning {
			return st
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("it is still %s: %s", st.State, st.Reason)
		}
	}
}

// database is what the tests know of vulnerabilities.
func database(t testing.TB, more ...vulndbtest.Advisory) string {
	t.Helper()
	fixed := func(v string) vulndbtest.Fixed { return vulndbtest.Fixed{FixedVersion: v} }
	below := func(v string) vulndbtest.Versions {
		return vulndbtest.Versions{PatchedVersions: []string{v}, VulnerableVersions: []string{"< " + v}}
	}
	all := append([]vulndbtest.Advisory{
		{Bucket: "debian 12", Package: "openssl", ID: "CVE-2099-0001", Value: fixed("3.0.9-1")},
		{Bucket: "debian 12", Package: "zlib", ID: "CVE-2099-0002", Value: vulndbtest.Fixed{Status: 2, Severity: 1}},
		{Bucket: "alpine 3.20", Package: "openssl", ID: "CVE-2099-0003", Value: fixed("3.3.2-r1")},
		{Bucket: "rocky 9", Package: "bash", ID: "CVE-2099-0004", Value: map[string]any{"FixedVersion": "5.2.0-1.el9"}},
		{Bucket: "npm::GitHub Security Advisory npm", Package: "lodash", ID: "CVE-2099-0010", Value: below("4.17.21")},
		{Bucket: "go::GitHub Security Advisory Go", Package: "golang.org/x/net", ID: "CVE-2099-0011", Value: below("0.20.0")},
		{Bucket: "go::GitHub Security Advisory Go", Package: "stdlib", ID: "CVE-2099-0018", Value: below("99.0.0")},
		{Bucket: "pip::GitHub Security Advisory pip", Package: "jinja2", ID: "CVE-2099-0012", Value: below("3.1.3")},
		{Bucket: "maven::GitHub Security Advisory Maven", Package: "org.apache.logging.log4j:log4j-core", ID: "CVE-2099-0013", Value: below("2.17.1")},
		{Bucket: "rubygems::GitHub Security Advisory RubyGems", Package: "rack", ID: "CVE-2099-0014", Value: below("2.2.8")},
		{Bucket: "composer::GitHub Security Advisory Composer", Package: "symfony/http-kernel", ID: "CVE-2099-0015", Value: below("5.4.20")},
		{Bucket: "nuget::GitHub Security Advisory NuGet", Package: "newtonsoft.json", ID: "CVE-2099-0016", Value: below("13.0.1")},
		{Bucket: "cargo::GitHub Security Advisory Rust", Package: "time", ID: "CVE-2099-0017", Value: below("0.2.23")},
	}, more...)
	details := make(map[string]vulndbtest.Details)
	for _, a := range all {
		details[a.ID] = vulndbtest.Details{Title: "title of " + a.ID, Description: "text", Severity: "HIGH", VendorSeverity: map[string]int{"nvd": 3}}
	}
	return vulndbtest.Write(t, all, details)
}

func (s *store) load(t testing.TB, file string) registry.ScanDB {
	t.Helper()
	db, err := s.ImportDB(t.Context(), bytes.NewReader(vulndbtest.Archive(t, file, time.Now())))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// found describes what was found in an image, one line for each package.
func (s *store) found(t testing.TB, d registry.Digest) []string {
	t.Helper()
	page, err := s.Findings(t.Context(), d, registry.FindingQuery{Sort: registry.ByID})
	if err != nil {
		t.Fatal(err)
	}
	lines := []string{}
	for _, f := range page.Items {
		for _, p := range f.Packages {
			lines = append(lines, strings.Join([]string{f.ID, f.Severity.String(), p.Name, p.Version, p.Fixed, p.Path, string(p.Layer)}, " "))
		}
	}
	return lines
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
