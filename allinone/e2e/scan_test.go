//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
	"github.com/berth-registry/berth/services/scanner/vulndb/vulndbtest"
)

// TestScan pushes a vulnerability database into Berth, which scans images with it:
// commands, GraphQL, bills of materials, a gate and events tell what is in them, in
// one process on a disk, and with a scanner of its own over PostgreSQL and S3, with mutual TLS.
func TestScan(t *testing.T) {
	t.Run("linked", func(t *testing.T) { testScan(t, Options{Topology: Linked}) })
	t.Run("split-mtls", func(t *testing.T) {
		testScan(t, Options{Topology: SplitTLS, Scan: true, Postgres: pgtest.Start(t, pgtest.Options{Durable: true}), S3: s3test.Start(t)})
	})
}

// What is in the images, and what was found in them: "ID severity package version fixed".
const (
	debianStatus = "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.8-1\n\n" +
		"Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nSource: zlib\nVersion: 1:1.2.13.dfsg-1\n\n" +
		"Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2\n\n"
	alpineInstalled = "P:libssl3\nV:3.3.2-r0\nA:x86_64\no:openssl\n\nP:musl\nV:1.2.5-r0\nA:x86_64\no:musl\n\n"
)

var (
	debianFound = []string{"CVE-2099-0001 HIGH libssl3 3.0.8-1 3.0.9-1", "CVE-2099-0002 LOW zlib1g 1:1.2.13.dfsg-1 "}
	alpineFound = []string{"CVE-2099-0003 CRITICAL libssl3 3.3.2-r0 3.3.2-r1"}
)

// scanDatabase is the layer of a database that knows of these, and of more.
func scanDatabase(t *testing.T, made time.Time, more ...vulndbtest.Advisory) string {
	t.Helper()
	return string(vulndbtest.Archive(t, vulndbtest.Write(t, append([]vulndbtest.Advisory{
		{Bucket: "debian 12", Package: "openssl", ID: "CVE-2099-0001", Value: vulndbtest.Fixed{FixedVersion: "3.0.9-1"}},
		{Bucket: "debian 12", Package: "zlib", ID: "CVE-2099-0002", Value: vulndbtest.Fixed{Status: 2, Severity: 1}},
		{Bucket: "debian 12", Package: "bash", ID: "CVE-2099-0004", Value: vulndbtest.Fixed{FixedVersion: "5.1"}}, // the image's is newer
		{Bucket: "debian 11", Package: "openssl", ID: "CVE-2099-0005", Value: vulndbtest.Fixed{FixedVersion: "9"}},
		{Bucket: "alpine 3.20", Package: "openssl", ID: "CVE-2099-0003", Value: vulndbtest.Fixed{FixedVersion: "3.3.2-r1"}},
	}, more...), map[string]vulndbtest.Details{
		"CVE-2099-0001": {Title: "openssl: one", Severity: "HIGH", VendorSeverity: map[string]int{"nvd": 3}},
		"CVE-2099-0002": {Title: "zlib: two", Severity: "HIGH", VendorSeverity: map[string]int{"nvd": 3}},
		"CVE-2099-0003": {Title: "openssl: three", Severity: "CRITICAL", VendorSeverity: map[string]int{"nvd": 4}},
		"CVE-2099-0006": {Title: "musl: six", Severity: "HIGH", VendorSeverity: map[string]int{"nvd": 3}},
	}), made))
}

func testScan(t *testing.T, opt Options) {
	sink := newHook(t)
	sink.listen(t)
	port := strconv.Itoa(freePort(t))
	opt.Edit = func(config map[string]any) {
		config["http"].(map[string]any)["port"] = port
		config["extensions"] = map[string]any{
			"search": map[string]any{"cve": map[string]any{"trivy": map[string]any{"dbRepository": "http://127.0.0.1:" + port + "/mirror/trivy-db"}}},
			"gates":  []any{map[string]any{"repositories": []string{"prod/**"}, "severity": "HIGH"}},
			"events": map[string]any{"enable": true, "sinks": []any{map[string]any{"type": "http", "address": "http://" + sink.addr + "/", "secret": password("sink")}}},
		}
	}
	s := Start(t, opt)
	if all := s.of("gateway"); len(all) == 1 {
		s.Config = all[0].Args[1] // whose certificate may scan
	}
	run, berth, crane := NewCommands(t), Program(t, "berth"), Client(t, "crane")
	renew := func(db string) {
		t.Helper()
		writeFile(t, run, "db.tar.gz", db)
		run.Run(t, Client(t, "oras"), "push", "--plain-http", "--artifact-type", "application/vnd.aquasec.trivy.config.v1+json",
			s.Addr+"/mirror/trivy-db:2", "db.tar.gz:application/vnd.aquasec.trivy.db.layer.v1.tar+gzip")
		if out := run.Run(t, berth, "scan", "db", "update", s.Config); !strings.Contains(out, "in use: ") || !strings.Contains(out, "/mirror/trivy-db") {
			t.Fatalf("berth scan db update: %s", out)
		}
	}
	made := time.Now().Add(-time.Hour)
	renew(scanDatabase(t, made))

	push := func(ref string, files ...string) {
		t.Helper()
		writeFile(t, run, "layer.tar", tarOf(t, files...))
		run.Run(t, crane, "append", "--insecure", "--oci-empty-base", "-f", "layer.tar", "-t", s.Addr+"/"+ref)
	}
	debian := []string{"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n", "etc/debian_version", "12.5\n", "var/lib/dpkg/status", debianStatus}
	push("myapp:v1.0.0", debian...)
	push("prod/app:1", debian...)
	push("prod/alpine:1", "etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n", "etc/alpine-release", "3.20.1\n", "lib/apk/db/installed", alpineInstalled)
	push("prod/clean:1", "etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n", "etc/alpine-release", "3.20.1\n", "lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\no:musl\n\n")
	found := map[string][]string{"myapp:v1.0.0": debianFound, "prod/app:1": debianFound, "prod/alpine:1": alpineFound, "prod/clean:1": nil}
	for image := range found {
		if out := run.Run(t, berth, "scan", "start", "--wait", s.Config, image); !strings.Contains(out, "done") {
			t.Fatalf("berth scan start %s: %s", image, out)
		}
	}
	reports := func() {
		t.Helper()
		for image, want := range found {
			if diff := cmp.Diff(want, scanReported(t, run, s, image)); diff != "" {
				t.Errorf("berth scan report %s: -want +got\n%s", image, diff)
			}
		}
		if diff := cmp.Diff(debianFound, scanSearched(t, run, s, "myapp:v1.0.0")); diff != "" {
			t.Errorf("CVEListForImage: -want +got\n%s", diff)
		}
	}
	reports()
	t.Run("guide", func(t *testing.T) {
		command := searchCommands(guideText(t))
		command = slices.DeleteFunc(command, func(c string) bool { return !strings.Contains(c, "CVEListForImage") })
		if len(command) != 1 {
			t.Fatalf("the guide asks %d times what is in an image: %q", len(command), command)
		}
		out := run.Run(t, "bash", "-e", "-o", "pipefail", "-c", strings.Replace(command[0], "https://zot.example.com", s.URL(), 1))
		for _, f := range debianFound {
			if id, _, _ := strings.Cut(f, " "); strings.Count(out, id) != 1 {
				t.Errorf("the guide's command: no %s in %s", id, out)
			}
		}
	})
	if out := run.Run(t, berth, "scan", "report", "--severity", "HIGH", s.Config, "myapp:v1.0.0"); !strings.Contains(out, "CVE-2099-0001") || strings.Contains(out, "CVE-2099-0002") {
		t.Errorf("berth scan report --severity HIGH: %s", out)
	}
	digest := run.Run(t, crane, "digest", "--insecure", s.Addr+"/prod/alpine:1")
	if out := run.Run(t, berth, "scan", "affected", s.Config, "CVE-2099-0003"); out != digest {
		t.Errorf("berth scan affected: %s, want %s", out, digest)
	}
	scanBills(t, run, s)
	scanREST(t, run, s)

	gates := func() {
		t.Helper()
		for image, want := range map[string]string{
			"prod/app:1":    "this image can't be pulled: it has vulnerabilities of severity HIGH or worse: CVE-2099-0001",
			"prod/alpine:1": "this image can't be pulled: it has vulnerabilities of severity HIGH or worse: CVE-2099-0003",
		} {
			if _, said, err := run.Try(crane, "pull", "--insecure", s.Addr+"/"+image, "image.tar"); err == nil || !strings.Contains(said, want) {
				t.Errorf("pull of %s: %v, %s", image, err, said)
			}
		}
		for _, image := range []string{"prod/clean:1", "myapp:v1.0.0"} {
			run.Run(t, crane, "pull", "--insecure", s.Addr+"/"+image, "image.tar")
		}
	}
	gates()

	statuses := func() (all string) {
		t.Helper()
		for _, repo := range []string{"myapp", "prod/app", "prod/alpine", "prod/clean"} {
			all += run.Run(t, berth, "scan", "status", "--json", s.Config, repo) + "\n"
		}
		return all
	}
	before := statuses()
	scanner := s.Processes[0]
	if all := s.of("scanner"); len(all) == 1 {
		scanner = all[0]
	}
	scanner.Kill(t)
	scanner.Restart(t)
	if diff := cmp.Diff(before, statuses()); diff != "" { // the times, too: nothing is scanned again
		t.Errorf("after a kill of %s: -before +after\n%s", scanner.Name, diff)
	}
	reports()
	gates()
	within(t, 2*time.Minute, func() string {
		for image := range found {
			repo, _, _ := strings.Cut(image, ":")
			want := "zotregistry.image.scanned " + repo + " "
			if got := sink.events(); !slices.ContainsFunc(got, func(e string) bool { return strings.HasPrefix(e, want) }) {
				return "no event " + want + "among\n" + strings.Join(got, "\n")
			}
		}
		return ""
	})

	// A newer database knows of more, and nobody asks for a scan.
	renew(scanDatabase(t, made.Add(time.Minute), vulndbtest.Advisory{Bucket: "alpine 3.20", Package: "musl", ID: "CVE-2099-0006", Value: vulndbtest.Fixed{FixedVersion: "1.2.5-r1"}}))
	within(t, time.Minute, func() string {
		_, said, err := run.Try(crane, "pull", "--insecure", s.Addr+"/prod/clean:1", "image.tar")
		if err == nil || !strings.Contains(said, "of severity HIGH or worse: CVE-2099-0006") {
			return fmt.Sprintf("with a newer database: %v, %s", err, said)
		}
		return ""
	})
	if diff := cmp.Diff([]string{"CVE-2099-0006 HIGH musl 1.2.5-r0 1.2.5-r1"}, scanReported(t, run, s, "prod/clean:1")); diff != "" {
		t.Errorf("with a newer database: -want +got\n%s", diff)
	}
}

// scanREST asks the REST API for what the commands tell.
func scanREST(t *testing.T, run *Commands, s *System) {
	t.Helper()
	const app, alpine = "/repositories/prod/app/-/manifests/1", "/repositories/prod/alpine/-/manifests/1"
	for path, want := range map[string]string{
		"/scans": `"database":{"version":"`,
		"/scans/affected?vulnerability=CVE-2099-0003": `"digests":["sha256:`,
		app + "/scan":                     `"state":"done"`,
		app + "/findings?severity=HIGH":   `"id":"CVE-2099-0001","severity":"HIGH"`,
		alpine + "/sbom?format=cyclonedx": `"mediaType":"application/vnd.cyclonedx+json"`,
		app + "/pull":                     `"allowed":false,"denied":"it has vulnerabilities of severity HIGH or worse:CVE-2099-0001"`,
		"/events?limit=1000":              `"type":"zotregistry.image.`,
		"/events/sinks":                   `"sinks":[{"name":"`,
		"/health":                         `"name":"scanner","serving":true`,
	} {
		out := strings.NewReplacer(": ", ":", ", ", ",").Replace(run.Run(t, "curl", "-fsS", s.URL()+"/api/v1"+path))
		if !strings.Contains(out, want) {
			t.Errorf("GET /api/v1%s: %s", path, out)
		}
	}
	// What the gate withholds is not told there either.
	if out, said, err := run.Try("curl", "-fsS", s.URL()+"/api/v1"+app+"?content=true"); err == nil || !strings.Contains(said, "403") {
		t.Errorf("the content of a manifest that can't be pulled: %s %s", out, said)
	}
}

// tarOf returns an archive of files, each a name and a text.
func tarOf(t *testing.T, files ...string) string {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for f := range slices.Chunk(files, 2) {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o644, Size: int64(len(f[1]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// scanReported returns what berth scan report tells, by ID.
func scanReported(t *testing.T, run *Commands, s *System, image string) (lines []string) {
	t.Helper()
	out := run.Run(t, Program(t, "berth"), "scan", "report", "--json", s.Config, image)
	for line := range strings.Lines(out) {
		var row struct {
			ID       string
			Severity json.RawMessage
			Package  struct{ Name, Version, Fixed string }
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s", row.ID, strings.Trim(string(row.Severity), `"`), row.Package.Name, row.Package.Version, row.Package.Fixed))
	}
	slices.Sort(lines)
	return lines
}

// scanSearched returns what the guide's query tells, by ID.
func scanSearched(t *testing.T, run *Commands, s *System, image string) (lines []string) {
	t.Helper()
	query := fmt.Sprintf(`{ CVEListForImage(image:%q) { Tag CVEList { Id Severity Title PackageList { Name InstalledVersion FixedVersion } } } }`, image)
	out := run.Run(t, "curl", "-fsS", s.URL()+"/v2/_zot/ext/search?query="+url.QueryEscape(query))
	var answer struct {
		Data struct {
			CVEListForImage struct {
				Tag     string
				CVEList []struct {
					ID, Severity, Title string
					PackageList         []struct{ Name, InstalledVersion, FixedVersion string }
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := answer.Data.CVEListForImage.Tag; got != "v1.0.0" || !strings.Contains(out, `"openssl: one"`) {
		t.Errorf("CVEListForImage: %s", out)
	}
	for _, c := range answer.Data.CVEListForImage.CVEList {
		for _, p := range c.PackageList {
			fixed := p.FixedVersion
			if fixed == "Not Specified" { // as zot says it
				fixed = ""
			}
			lines = append(lines, fmt.Sprintf("%s %s %s %s %s", c.ID, c.Severity, p.Name, p.InstalledVersion, fixed))
		}
	}
	slices.Sort(lines)
	return lines
}

// scanBills prints bills of materials and attaches one.
func scanBills(t *testing.T, run *Commands, s *System) {
	t.Helper()
	berth := Program(t, "berth")
	var cyclone struct {
		BOMFormat  string
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal([]byte(run.Run(t, berth, "sbom", "--format", "cyclonedx", s.Config, "prod/alpine:1")), &cyclone); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range cyclone.Components {
		names = append(names, c.Name+" "+c.Version)
	}
	if cyclone.BOMFormat != "CycloneDX" || !slices.Contains(names, "libssl3 3.3.2-r0") || !slices.Contains(names, "musl 1.2.5-r0") {
		t.Errorf("CycloneDX: %+v", cyclone)
	}
	for _, want := range []string{`"SPDX-2.3"`, `"libssl3"`, `"zlib1g"`, `"bash"`} {
		if out := run.Run(t, berth, "sbom", s.Config, "myapp:v1.0.0"); !strings.Contains(out, want) {
			t.Errorf("SPDX: no %s in %s", want, out)
		}
	}
	attached := run.Run(t, berth, "sbom", "--attach", s.Config, "myapp:v1.0.0")
	_, digest, _ := strings.Cut(attached, "@")
	referrers := run.Run(t, Client(t, "oras"), "discover", "--plain-http", "--format", "json", s.Addr+"/myapp:v1.0.0")
	if digest == "" || !strings.Contains(referrers, digest) {
		t.Errorf("attached %s, and the referrers are %s", attached, referrers)
	}
	dir := filepath.Join(t.TempDir(), "bill")
	run.Run(t, Client(t, "oras"), "pull", "--plain-http", "-o", dir, s.Addr+"/"+attached)
}
