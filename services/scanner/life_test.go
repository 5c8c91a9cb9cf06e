package scanner_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/scanner/vulndb"
	"github.com/berth-registry/berth/services/scanner/vulndb/vulndbtest"
)

// TestDiscover: images that tags point to are scanned without being asked for, an
// index is what its images are, and what a newer database knows is looked up without
// reading a layer again.
func TestDiscover(t *testing.T) {
	s := newStore(t, onSQLite, func(o *scanner.Options) { o.Idle = false })
	s.load(t, database(t))
	debian := s.image(t, "app/debian", "v1", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	node := s.image(t, "app/debian", "", layer(t, file("package-lock.json", `{"packages":{"node_modules/lodash":{"version":"4.17.20"}}}`)))
	index := s.manifest(t, "app/debian", "all", registry.TypeIndex, map[string]any{"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": []any{debian, node}})
	scanner.Walk(t, s.Service)
	st := s.wait(t, "app/debian", index.Digest)
	if want := (registry.SeverityCounts{0, 0, 0, 2, 0}); st.State != registry.ScanDone || st.Counts != want {
		t.Errorf("the index: %+v", st)
	}
	list, err := s.AffectedImages(t.Context(), "CVE-2099-0010", registry.Page[registry.Digest]{Limit: 10})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("affected: %v, %v", list, err)
	}
	of, err := s.AffectedOf(t.Context(), "CVE-2099-0010", []registry.Digest{index.Digest, debian.Digest, node.Digest})
	if diff := cmp.Diff([]registry.Affection{registry.IsAffected, registry.NotAffected, registry.IsAffected}, of); err != nil || diff != "" {
		t.Errorf("affected of those: %v\n%s", err, diff)
	}

	// The layers are gone; a newer database tells more.
	for _, d := range []registry.Digest{debian.Digest, node.Digest} {
		s.wait(t, "app/debian", d)
	}
	newer := s.load(t, database(t, vulndbtest.Advisory{Bucket: "debian 12", Package: "openssl", ID: "CVE-2099-0900", Value: vulndbtest.Fixed{FixedVersion: "4"}}))
	scanner.Renew(t, s.Service)
	st = s.wait(t, "app/debian", debian.Digest)
	if st.DB != newer.Version || st.Counts.Total() != 2 {
		t.Errorf("with a newer database: %+v", st)
	}
	q, err := s.ScanQueue(t.Context())
	if err != nil || q.Stale != 0 || q.Done != 2 || q.DB.Version != newer.Version {
		t.Errorf("queue: %+v, %v", q, err)
	}
}

// TestS136Restart: what was scanned is known after a restart, what was being scanned
// waits again, and nothing is left of a process that was killed.
func TestS136Restart(t *testing.T) {
	s := newStore(t, onSQLite, func(o *scanner.Options) { o.Idle = true })
	image := s.image(t, "r", "t", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	if _, err := s.ScanStatus(t.Context(), "r", image.Digest); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(s.dir, "scratch", "layer-1")
	broken := filepath.Join(s.dir, "vulns", "new", "trivy.db")
	if err := os.MkdirAll(filepath.Dir(broken), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{left, broken} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scanner.MarkRunning(t, s.Service, image.Digest)
	s2 := &store{blobs: s.blobs, catalog: s.catalog, dir: s.dir}
	scanner.CloseAll(t, s.Service)
	s.closed = true
	if err := s.vulns.Close(); err != nil {
		t.Fatal(err)
	}
	s2.open(t, onSQLite, nil)
	st := s2.wait(t, "r", image.Digest)
	if st.State != registry.ScanDone || st.Packages != 1 || st.DB != "" {
		t.Errorf("after a restart: %+v", st)
	}
	for _, name := range []string{left, broken} {
		if _, err := os.Stat(name); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	s2.load(t, database(t))
	scanner.Renew(t, s2.Service)
	if st := s2.wait(t, "r", image.Digest); st.Counts.Total() != 1 {
		t.Errorf("with a database: %+v", st)
	}
}

// upstream is a registry that has a database.
type upstream struct {
	layer, wrong []byte
	requests     []string
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.requests = append(u.requests, r.URL.Path)
	if r.URL.Path == "/token" {
		fmt.Fprint(w, `{"token":"let-me-in"}`)
		return
	}
	if r.Header.Get("Authorization") != "Bearer let-me-in" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test",scope="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if strings.Contains(r.URL.Path, "/blobs/") {
		b := u.layer
		if u.wrong != nil {
			b = u.wrong
		}
		_, _ = w.Write(b)
		return
	}
	w.Header().Set("Content-Type", registry.TypeManifest)
	_ = json.NewEncoder(w).Encode(map[string]any{"schemaVersion": 2, "layers": []any{map[string]any{
		"mediaType": "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip", "digest": registry.SHA256.FromBytes(u.layer), "size": len(u.layer),
	}}})
}

// TestS073Database: a database comes from a registry without TLS, by a token; one that
// is damaged, cut off, or of another digest changes nothing.
func TestS073Database(t *testing.T) {
	made := time.Now().Truncate(time.Second)
	u := &upstream{layer: vulndbtest.Archive(t, database(t), made)}
	server := httptest.NewServer(u)
	defer server.Close()
	ref, err := vulndb.ParseRef(server.URL + "/mirror/trivy-db")
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, onSQLite, func(o *scanner.Options) {
		o.Idle, o.Pull = true, &vulndb.Puller{Client: server.Client(), Ref: ref}
	})
	db, err := s.UpdateDB(t.Context())
	if err != nil || db.Version == "" || db.Updated != made.UnixMicro() {
		t.Fatalf("%+v, %v", db, err)
	}
	requests := len(u.requests)
	if again, err := s.UpdateDB(t.Context()); err != nil || again.Version != db.Version || len(u.requests) != requests+3 {
		t.Errorf("nothing new: %+v, %v, %q", again, err, u.requests[requests:])
	}
	other := database(t, vulndbtest.Advisory{Bucket: "debian 12", Package: "x", ID: "CVE-1", Value: vulndbtest.Fixed{}})
	u.layer = vulndbtest.Archive(t, other, made)
	u.wrong = vulndbtest.Archive(t, database(t), made)
	if _, err := s.UpdateDB(t.Context()); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("content of another digest: %v", err)
	}
	raw := []byte(readFile(t, other))
	empty := vulndbtest.Write(t, nil, nil)
	for name, b := range map[string][]byte{
		"cut off":    u.layer[:len(u.layer)/2],
		"half a db":  raw[:len(raw)/2/4096*4096],
		"spoilt":     append(append(bytes.Clone(raw[:8192]), bytes.Repeat([]byte{0xaa}, len(raw)-12288)...), raw[len(raw)-4096:]...),
		"no archive": []byte(strings.Repeat("x", 100)),
		"nothing":    nil,
	} {
		if _, err := s.ImportDB(t.Context(), bytes.NewReader(b)); !errors.Is(err, registry.ErrParameterInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := s.vulns.Current().Version; got != db.Version {
		t.Errorf("the database in use became %s", got)
	}
	if got, err := s.ImportDB(t.Context(), bytes.NewReader([]byte(readFile(t, empty)))); err != nil || got.Version == db.Version {
		t.Errorf("trivy.db itself: %+v, %v", got, err)
	}
	entries, err := os.ReadDir(filepath.Join(s.dir, "vulns"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left of the others: %v, %v", entries, err)
	}
}

// TestSBOM attaches bills, which are read back.
func TestSBOM(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	image := s.image(t, "app", "v1", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl), file("package-lock.json", `{"packages":{"node_modules/@a/b":{"version":"1.0.0"}}}`)))
	for _, f := range []registry.SBOMFormat{registry.CycloneDX, registry.SPDX} {
		b, err := s.SBOM(t.Context(), "app", image.Digest, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"pkg:deb/debian/libssl3@3.0.8-1?arch=amd64", "pkg:npm/%40a/b@1.0.0"} {
			if !bytes.Contains(b, []byte(strings.ReplaceAll(want, "&", `\u0026`))) {
				t.Errorf("%s has no %s:\n%s", f, want, b)
			}
		}
		d, err := s.AttachSBOM(t.Context(), admin, "app", image.Digest, f)
		if err != nil {
			t.Fatal(err)
		}
		again, err := s.AttachSBOM(t.Context(), admin, "app", image.Digest, f)
		if err != nil || again != d {
			t.Errorf("attached again: %s, %v, want %s", again, err, d)
		}
		back, err := s.SBOM(t.Context(), "app", image.Digest, f)
		if err != nil || !bytes.Equal(back, b) {
			t.Errorf("read back: %v\n%s", err, back)
		}
	}
	list, err := s.catalog.Referrers(t.Context(), admin, "app", image.Digest, "", registry.Page[registry.Digest]{Limit: 10})
	if err != nil || len(list.Items) != 2 {
		t.Errorf("referrers: %v, %v", list, err)
	}
	if _, err := s.SBOM(t.Context(), "app", registry.SHA256.FromString("nothing"), registry.SPDX); err == nil {
		t.Error("a bill of an image that is not there")
	}
}

// TestRecordingFails: an image whose result can't be recorded waits for another attempt.
func TestRecordingFails(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	allow := scanner.RefuseResults(t, s.Service)
	image := s.image(t, "again", "", layer(t, file("etc/os-release", debianRelease)))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		st, err := s.ScanStatus(t.Context(), "again", image.Digest)
		if err != nil {
			t.Fatal(err)
		}
		if st.State == registry.ScanQueued && st.Reason != "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v", st)
		}
	}
	allow()
	if err := s.ScanNow(t.Context(), "again", image.Digest); err != nil {
		t.Fatal(err)
	}
	if st := s.wait(t, "again", image.Digest); st.State != registry.ScanDone {
		t.Errorf("%+v", st)
	}
}

// strangeTexts scans an image whose files have bytes that are no text for a database.
func strangeTexts(t *testing.T, open opener) {
	t.Helper()
	s := newStore(t, open, nil)
	image := s.image(t, "strange", "", layer(t, file("etc/debian_version", "12.5\x00\xff\n"), file("var/lib/dpkg/status", openssl)))
	if st := s.wait(t, "strange", image.Digest); st.State != registry.ScanDone || st.OS != "debian 12.5\uFFFD\uFFFD" {
		t.Errorf("%+v", st)
	}
}

// TestRenewDamaged: an image that can't be looked up again holds up no other one, and is
// scanned again.
func TestRenewDamaged(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	good := s.image(t, "r", "", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	bad := s.image(t, "r", "", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", zlib)))
	for _, d := range []registry.Digest{good.Digest, bad.Digest} {
		s.wait(t, "r", d)
	}
	scanner.Damage(t, s.Service, bad.Digest)
	db := s.load(t, database(t))
	scanner.Renew(t, s.Service)
	for _, d := range []registry.Digest{good.Digest, bad.Digest} {
		if st := s.wait(t, "r", d); st.State != registry.ScanDone || st.DB != db.Version || st.Counts.Total() != 1 {
			t.Errorf("%+v", st)
		}
	}
}

// indexOfIndexes: an index is what the images are that its indexes list, too.
func indexOfIndexes(t *testing.T, open opener) {
	t.Helper()
	s := newStore(t, open, nil)
	db := s.load(t, database(t))
	image := s.image(t, "r", "", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	last := image
	for range 3 {
		last = s.manifest(t, "r", "", registry.TypeIndex, map[string]any{"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": []any{last}})
	}
	outer := last.Digest
	if st := s.wait(t, "r", outer); st.State != registry.ScanDone || st.DB != db.Version || st.Packages != 1 || st.Counts[registry.SeverityHigh] != 1 {
		t.Errorf("status: %+v", st)
	}
	if got := s.found(t, outer); len(got) != 1 || !strings.HasPrefix(got[0], "CVE-2099-0001 ") {
		t.Errorf("findings: %q", got)
	}
	of, err := s.AffectedOf(t.Context(), "CVE-2099-0001", []registry.Digest{outer, image.Digest})
	if err != nil || !slices.Equal(of, []registry.Affection{registry.IsAffected, registry.IsAffected}) {
		t.Errorf("affected: %v, %v", of, err)
	}
	list, err := s.AffectedImages(t.Context(), "CVE-2099-0001", registry.Page[registry.Digest]{Limit: 10})
	if err != nil || len(list.Items) != 4 || !slices.Contains(list.Items, outer) || !slices.IsSorted(list.Items) {
		t.Errorf("affected: %v, %v", list, err)
	}
}

// TestIndexIsWhole: no index counts as one before what it lists waits to be scanned, or it
// would be known to have nothing.
func TestIndexIsWhole(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	var list []any
	for _, text := range []string{"1", "2"} {
		list = append(list, s.image(t, "r", "", layer(t, file("a", text))))
	}
	scanner.RefuseIndexesWithout(t, s.Service, list[1].(registry.Descriptor).Digest)
	index := s.manifest(t, "r", "", registry.TypeIndex, map[string]any{"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": list})
	if st := s.wait(t, "r", index.Digest); st.State != registry.ScanDone {
		t.Errorf("%+v", st)
	}
}

// TestAskingAgain: who asks again and again about an image that waits, as every pull does
// that a gate decides about, costs no write each time.
func TestAskingAgain(t *testing.T) {
	now := time.Now()
	s := newStore(t, onSQLite, func(o *scanner.Options) { o.Idle, o.Now = true, func() time.Time { return now } })
	image := s.image(t, "r", "v1", layer(t, file("a", "1")))
	scanner.Walk(t, s.Service) // by its tag it waits behind those that somebody asks about
	ask := func() error {
		st, err := s.ScanStatus(t.Context(), "r", image.Digest)
		if err == nil && (st.State != registry.ScanQueued || st.Digest != image.Digest) {
			t.Errorf("%+v", st)
		}
		return err
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	scanner.RefuseWrites(t, s.Service)
	if err := ask(); err != nil {
		t.Error(err)
	}
	now = now.Add(48 * time.Hour)
	if err := ask(); err == nil {
		t.Error("nobody notes that it was seen on another day")
	}
}
