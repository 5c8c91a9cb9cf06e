package scanner_test

import (
	"archive/tar"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/services/scanner"
)

func TestScansOnSQLite(t *testing.T) {
	registrytest.Scans(t, registrytest.ScansBackend{New: func(t *testing.T) registrytest.Scanned {
		s := newStore(t, onSQLite, func(o *scanner.Options) { o.Idle = true })
		return registrytest.Scanned{Scans: s, Put: s.put}
	}})
	t.Run("strange texts", func(t *testing.T) { strangeTexts(t, onSQLite) })
	t.Run("index of indexes", func(t *testing.T) { indexOfIndexes(t, onSQLite) })
}

const (
	debianRelease = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\n"
	openssl       = "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nSource: openssl\nVersion: 3.0.8-1\nDescription: a library\n of more lines\n\n"
	zlib          = "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nSource: zlib (1:1.2.13.dfsg-1)\nVersion: 1:1.2.13.dfsg-1+b1\n\n"
	removed       = "Package: openssl\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1.0-1\n\n"
)

// TestExact scans images with known old packages: what is found, and in which layer,
// is exactly that.
func TestExact(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	s.load(t, database(t))
	base := layer(t, file("etc/os-release", debianRelease), file("etc/debian_version", "12.5\n"), file("./var/lib/dpkg/status", openssl+removed))
	more := layer(t, file("var/lib/dpkg/status", openssl+removed+zlib))
	app := layer(t,
		file("app/package-lock.json", `{"lockfileVersion":3,"packages":{"":{"name":"app","version":"1.0.0"},"node_modules/lodash":{"version":"4.17.20"},"node_modules/dev":{"version":"1.0.0","dev":true}}}`),
		file("app/node_modules/lodash/package.json", `{"name":"lodash","version":"4.17.20","license":"MIT"}`),
		file("usr/lib/python3/dist-packages/Jinja2-3.1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n\nText\n"),
		file("app/log.jar", jar(t, "com.example", "app", "1.0", jar(t, "org.apache.logging.log4j", "log4j-core", "2.14.0"))),
		file("usr/share/gems/specifications/rack-2.2.7.gemspec", "Gem::Specification.new do |s|\n  s.name = \"rack\".freeze\n  s.version = \"2.2.7\"\nend\n"),
		file("srv/vendor/composer/installed.json", `{"packages":[{"name":"symfony/http-kernel","version":"v5.4.19"}]}`),
		file("srv/App.deps.json", `{"libraries":{"App/1.0.0":{"type":"project"},"Newtonsoft.Json/12.0.3":{"type":"package"}}}`),
	)
	gone := layer(t, file("app/.wh.log.jar", ""), file("srv/vendor/.wh..wh..opq", ""))
	// A file takes the place of a directory.
	replaced := layer(t, file("app/node_modules", "nothing"))
	d := func(b []byte) string { return string(registry.SHA256.FromBytes(b)) }
	debian := []string{"CVE-2099-0001 HIGH libssl3 3.0.8-1 3.0.9-1  " + d(base)}
	all := []string{
		debian[0],
		"CVE-2099-0002 LOW zlib1g 1:1.2.13.dfsg-1+b1   " + d(more),
		"CVE-2099-0010 HIGH lodash 4.17.20 4.17.21 app/node_modules/lodash/package.json " + d(app),
		"CVE-2099-0010 HIGH lodash 4.17.20 4.17.21 app/package-lock.json " + d(app),
		"CVE-2099-0012 HIGH Jinja2 3.1.2 3.1.3 usr/lib/python3/dist-packages/Jinja2-3.1.2.dist-info/METADATA " + d(app),
		"CVE-2099-0013 HIGH org.apache.logging.log4j:log4j-core 2.14.0 2.17.1 app/log.jar " + d(app),
		"CVE-2099-0014 HIGH rack 2.2.7 2.2.8 usr/share/gems/specifications/rack-2.2.7.gemspec " + d(app),
		"CVE-2099-0015 HIGH symfony/http-kernel v5.4.19 5.4.20 srv/vendor/composer/installed.json " + d(app),
		"CVE-2099-0016 HIGH Newtonsoft.Json 12.0.3 13.0.1 srv/App.deps.json " + d(app),
	}
	without := func(lines []string, n ...int) (out []string) {
		for i, l := range lines {
			keep := true
			for _, x := range n {
				keep = keep && i != x
			}
			if keep {
				out = append(out, l)
			}
		}
		return out
	}
	alpine := layer(t, file("etc/alpine-release", "3.20.1\n"), file("etc/os-release", "ID=alpine\nVERSION_ID=3.20.1\n"),
		file("lib/apk/db/installed", "P:libssl3\nV:3.3.1-r0\nA:x86_64\no:openssl\nL:Apache-2.0\n\nP:musl\nV:1.2.5-r0\no:musl\n\n"))
	distroless := layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status.d/libssl3", openssl), file("var/lib/dpkg/status.d/libssl3.md5sums", "x"))
	for _, test := range []struct {
		name   string
		layers [][]byte
		os     string
		want   []string
	}{
		{"debian", [][]byte{base}, "debian 12.5", debian},
		{"a package in a layer of its own", [][]byte{base, more, app}, "debian 12.5", all},
		{"files removed", [][]byte{base, more, app, gone}, "debian 12.5", without(all, 5, 7)},
		{"a directory replaced", [][]byte{base, more, app, replaced}, "debian 12.5", without(all, 2)},
		{"everything removed", [][]byte{base, layer(t, file(".wh..wh..opq", ""))}, "", []string{}},
		{"alpine", [][]byte{alpine}, "alpine 3.20.1", []string{"CVE-2099-0003 HIGH libssl3 3.3.1-r0 3.3.2-r1  " + d(alpine)}},
		{"distroless", [][]byte{distroless}, "debian 12", []string{"CVE-2099-0001 HIGH libssl3 3.0.8-1 3.0.9-1  " + d(distroless)}},
		{"nothing", [][]byte{layer(t, file("hello", "world"))}, "", []string{}},
	} {
		image := s.image(t, "exact", "", test.layers...)
		st := s.wait(t, "exact", image.Digest)
		if st.State != registry.ScanDone || st.OS != test.os {
			t.Errorf("%s: %+v", test.name, st)
		}
		if diff := cmp.Diff(test.want, s.found(t, image.Digest)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestPrograms scans a program of Go with an old module.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":     "module example.test/app\n\ngo 1.26\n\nrequire golang.org/x/net v0.19.0\n\nreplace golang.org/x/net => ./net\n",
		"main.go":    "package main\n\nimport (\n\t\"fmt\"\n\n\t\"golang.org/x/net/x\"\n)\n\nfunc main() { fmt.Println(x.X) }\n",
		"net/go.mod": "module golang.org/x/net\n",
		"net/x/x.go": "package x\n\nvar X = 1\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "app", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod -buildvcs=false", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := newStore(t, onSQLite, nil)
	s.load(t, database(t))
	program := layer(t, entry{"usr/bin/app", readFile(t, filepath.Join(dir, "app")), 0o755, tar.TypeReg})
	image := s.image(t, "go", "v1", program)
	st := s.wait(t, "go", image.Digest)
	if st.State != registry.ScanDone || st.Packages == 0 {
		t.Errorf("a program: %+v", st)
	}
	found := s.found(t, image.Digest)
	if want := "CVE-2099-0018 HIGH stdlib " + strings.Replace(runtime.Version(), "go", "v", 1) + " 99.0.0 usr/bin/app "; len(found) != 1 || !strings.HasPrefix(found[0], want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

// TestIndexHalfKnown: of an index nothing is known as long as an image of it is not looked
// up in a database, whatever the others have.
func TestIndexHalfKnown(t *testing.T) {
	s := newStore(t, onSQLite, nil)
	known := s.image(t, "r", "", layer(t, file("a", "1")))
	other := s.image(t, "r", "", layer(t, file("b", "2")))
	index := s.manifest(t, "r", "i", registry.TypeIndex, map[string]any{"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": []registry.Descriptor{known, other}})
	s.wait(t, "r", index.Digest)
	for _, test := range []struct {
		name  string
		image registry.Descriptor
		db    string
	}{{"one", known, ""}, {"both", other, "7"}} {
		scanner.Put(t, s.Service, registry.ScanStatus{Digest: test.image.Digest, State: registry.ScanDone, DB: "7"}, []registry.ScanFinding{{ID: "CVE-1", Severity: registry.SeverityLow}})
		if st := s.wait(t, "r", index.Digest); st.State != registry.ScanDone || st.DB != test.db {
			t.Errorf("%s: %+v", test.name, st)
		}
	}
}
