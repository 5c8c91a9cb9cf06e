package contents_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/services/scanner/contents"
)

// small are limits that a fuzzer reaches.
var small = contents.Limits{
	Expanded: 4 << 20, Modest: 1 << 20, Ratio: 50, Entries: 200, File: 1 << 20, Document: 256 << 10, Packages: 500, Archive: 1 << 20, Notes: 400,
}

// scan reads a layer and checks what has to be of any: the errors are the package's, and
// what is found is within limits.
func scan(t *testing.T, layer io.Reader) {
	dir := t.TempDir()
	l, err := (&contents.Reader{Dir: dir, Limits: small}).Read(t.Context(), layer)
	if err != nil && !errors.Is(err, contents.ErrLimit) && !errors.Is(err, contents.ErrDamaged) && !errors.Is(err, contents.ErrUnsupported) {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Fatalf("left: %v, %v", left, err)
	}
	if l == nil {
		return
	}
	packages := 0
	for _, f := range l.Found {
		packages += len(f.Packages)
		if strings.HasPrefix(f.Path, "/") || strings.HasPrefix(f.Path, "../") || f.Path == ".." {
			t.Fatalf("a path leads out: %q", f.Path)
		}
		for _, p := range f.Packages {
			if p.Name == "" || p.Version == "" {
				t.Fatalf("%s: a package without a name or version: %+v", f.Path, p)
			}
		}
	}
	if packages > small.Packages {
		t.Fatalf("%d packages", packages)
	}
	contents.Squash([]contents.Stacked{{Digest: "sha256:a", Layer: l}, {Digest: "sha256:b", Layer: l}})
}

// FuzzLayer reads any bytes as a layer.
func FuzzLayer(f *testing.F) {
	plain := archive(f, "etc/os-release", "ID=alpine\nVERSION_ID=3.20\n", "a/.wh..wh..opq", "", "a/.wh.b", "", "../x", "y").Bytes()
	f.Add(plain)
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write(plain) // a buffer
	_ = w.Close()
	f.Add(z.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) { scan(t, bytes.NewReader(b)) })
}

// parsers are the name of a file for each parser of texts, and a beginning for a fuzzer.
var parsers = []string{
	"etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n",
	"etc/debian_version", "12.5\n",
	"etc/alpine-release", "3.20.1\n",
	"etc/redhat-release", "CentOS release 6.10 (Final)\n",
	"etc/system-release", "Amazon Linux release 2 (Karoo)\n",
	"lib/apk/db/installed", "P:musl\nV:1.2.5-r0\nA:x86_64\no:musl\nF:lib\nR:libc.so\n\n",
	"var/lib/dpkg/status", "Package: libssl3\nStatus: install ok installed\nSource: openssl (1:3-1)\nVersion: 1:3.0.8-1\n\n",
	"var/lib/dpkg/info/libssl3.md5sums", "0123  usr/lib/x\n",
	"var/lib/rpmmanifest/container-manifest-2", "a\t1-1\t1\t2\tM\t(none)\t3\tx86_64\t7\ta-1-1.src.rpm\n",
	"srv/package.json", `{"name":"server","version":"2.0.0","license":"MIT"}`,
	"srv/package-lock.json", `{"packages":{"node_modules/@a/b":{"version":"1.0.0"}},"dependencies":{"c":{"version":"1","dependencies":{}}}}`,
	"usr/lib/x.dist-info/METADATA", "Metadata-Version: 2.1\nName: x\nVersion: 1\n\ntext\n",
	"usr/lib/gems/specifications/x.gemspec", "Gem::Specification.new do |s|\n  s.name = \"x\".freeze\n  s.version = \"1\"\nend\n",
	"srv/vendor/composer/installed.json", `{"packages":[{"name":"a/b","version":"1.0"}]}`,
	"app/x.deps.json", `{"runtimeTarget":{"name":"t"},"targets":{"t":{"a/1":{"runtime":{"a":{}}}}},"libraries":{"a/1":{"type":"package"}}}`,
	"app/packages.lock.json", `{"dependencies":{"net6.0":{"A":{"type":"Direct","resolved":"1"}}}}`,
	"app/packages.config", `<packages><package id="a" version="1" developmentDependency="true"/></packages>`,
	"app/Directory.Packages.props", `<Project><ItemGroup><PackageVersion Include="A" Version="1"/></ItemGroup></Project>`,
	"app/Cargo.lock", "[[package]]\nname = \"time\"\nversion = \"0.1.43\"\n",
	"opt/conda/envs/e/conda-meta/x.json", `{"name":"x","version":"1"}`,
}

// FuzzTexts reads any bytes with each parser of texts.
func FuzzTexts(f *testing.F) {
	for i := 0; i < len(parsers); i += 2 {
		f.Add(uint8(i/2), []byte(parsers[i+1]))
	}
	f.Fuzz(func(t *testing.T, which uint8, b []byte) {
		scan(t, archive(t, parsers[2*(int(which)%(len(parsers)/2))], string(b)))
	})
}

// FuzzArchives reads any bytes as archives of Java and Python.
func FuzzArchives(f *testing.F) {
	inner := zipped(f, "META-INF/MANIFEST.MF", "Implementation-Title: a\nImplementation-Version: 1\nBundle-SymbolicName: b.c;x\n")
	f.Add(true, []byte(zipped(f, "META-INF/maven/g/a/pom.properties", "groupId=g\nartifactId=a\nversion=1\n", "lib/inner.jar", inner)))
	f.Add(false, []byte(zipped(f, "EGG-INFO/PKG-INFO", "Name: x\nVersion: 1\n")))
	f.Fuzz(func(t *testing.T, java bool, b []byte) {
		name := "a/x.egg"
		if java {
			name = "a/x-1.jar"
		}
		scan(t, archive(t, name, string(b)))
	})
}

// FuzzRPM reads any bytes as a database of RPM, of each of its three kinds.
func FuzzRPM(f *testing.F) {
	for _, name := range []string{"packages-512-le.gz", "packages-4096-be.gz"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			f.Fatal(err)
		}
		if b, err = io.ReadAll(io.LimitReader(z, 32<<10)); err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	ndb := make([]byte, 4096+64)
	copy(ndb, "RpmP")
	ndb[12] = 1
	for i := 32; i < 4096; i += 16 {
		copy(ndb[i:], "Slot")
	}
	copy(ndb[32+4:], []byte{1, 0, 0, 0, 0, 1, 0, 0, 4, 0, 0, 0})
	copy(ndb[4096:], "BlbS\x01\x00\x00\x00\x00\x00\x00\x00\x10")
	f.Add(ndb)
	f.Add(append([]byte("SQLite format 3\x00\x02\x00\x01\x01\x00\x40\x20\x20"), make([]byte, 1024)...))
	f.Fuzz(func(t *testing.T, b []byte) { scan(t, archive(t, "var/lib/rpm/Packages", string(b))) })
}

// FuzzPrograms reads any bytes as a program, behind as many as the smallest has.
func FuzzPrograms(f *testing.F) {
	for _, head := range []string{"\x7fELF\x02\x01\x01", "MZ\x90\x00", "\xcf\xfa\xed\xfe\x07\x00\x00\x01", "\x7fELF\x01\x02\x01"} {
		f.Add([]byte(head))
	}
	rest := strings.Repeat("\x00", 192<<10)
	f.Fuzz(func(t *testing.T, b []byte) { scan(t, archive(t, "usr/bin/x", string(b)+rest)) })
}
