package contents_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/services/scanner/contents"
)

// files are names and texts of a layer, one after the other.
func archive(t testing.TB, files ...string) *bytes.Buffer {
	t.Helper()
	out := new(bytes.Buffer)
	w := tar.NewWriter(out)
	for i := 0; i < len(files); i += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o755, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out
}

func zipped(t testing.TB, files ...string) string {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		w, err := z.Create(files[i])
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// told reads a layer and tells of each file that has packages or an operating system.
func told(t testing.TB, files ...string) []string {
	t.Helper()
	l, err := (&contents.Reader{Dir: t.TempDir()}).Read(t.Context(), archive(t, files...))
	if err != nil {
		t.Fatal(err)
	}
	out := []string{}
	for _, f := range l.Found {
		if f.OS != nil {
			out = append(out, fmt.Sprintf("%s: %s %s", f.Path, f.OS.Family, f.OS.Version))
		}
		if len(f.Packages) > 0 {
			var names []string
			for _, p := range f.Packages {
				names = append(names, p.Name+"@"+p.Version)
			}
			out = append(out, fmt.Sprintf("%s: %s %s", f.Path, f.Kind, strings.Join(names, " ")))
		}
	}
	return out
}

// TestFormats reads a small file of each kind that tells of packages.
func TestFormats(t *testing.T) {
	pkgInfo := "Metadata-Version: 1.1\nName: zope\nVersion: 5.0\n"
	for _, test := range []struct{ name, text, want string }{
		{"srv/package.json", `{"name":"server","version":"2.0.0"}`, "node-pkg server@2.0.0"},
		{"srv/other.json", `{"name":"server","version":"2.0.0"}`, ""},
		{"opt/conda/envs/e/conda-meta/openssl-1.1.1-0.json", `{"name":"openssl","version":"1.1.1","license":"OpenSSL"}`, "conda-pkg openssl@1.1.1"},
		{"usr/lib/python2.7/zope.egg", zipped(t, "EGG-INFO/PKG-INFO", pkgInfo), "python-pkg zope@5.0"},
		{"usr/lib/python3/zope.egg/EGG-INFO/PKG-INFO", pkgInfo, "python-pkg zope@5.0"},
		{"usr/lib/python3/zope.egg-info/METADATA", pkgInfo, "python-pkg zope@5.0"},
		{"app/Cargo.lock", "version = 3\n\n[[package]]\nname = \"time\"\nversion = \"0.1.43\"\nsource = \"x\"\ndependencies = [\n \"libc\",\n]\n\n[[package]]\nname = \"libc\"\nversion = \"0.2.1\"\n\n[metadata]\nname = \"no\"\nversion = \"1\"\n", "cargo libc@0.2.1 time@0.1.43"},
		{"app/packages.lock.json", `{"version":1,"dependencies":{"net6.0":{"A.B":{"type":"Direct","resolved":"1.2.3"},"own":{"type":"Project","resolved":"1"}}}}`, "nuget A.B@1.2.3"},
		{"app/packages.config", `<?xml version="1.0"?><packages><package id="jQuery" version="1.3"/><package id="Dev" version="1" developmentDependency="true"/></packages>`, "nuget jQuery@1.3"},
		{"app/Directory.Packages.props", `<Project><ItemGroup><PackageVersion Include="A" Version="1"/><PackageReference Update="B" Version="2"/><PackageVersion Include="C" Version="$(V)"/></ItemGroup></Project>`, "packages-props A@1 B@2"},
		{"app/x.deps.json", `{"runtimeTarget":{"name":"t"},"targets":{"t":{"run/1":{"runtime":{"a.dll":{}}},"build/1":{"runtime":{}},"x/1":{"compile":{"a":1}}}},
			"libraries":{"run/1":{"type":"package"},"build/1":{"type":"package"},"x/1":{"type":"package"},"runtimepack.R/6.0.1":{"type":"runtimepack"},"o/1":{"type":"reference"}}}`, "dotnet-core R@6.0.1 run@1"},
		{"usr/lib/ruby/gems/3.0/specifications/default/json-2.5.gemspec", "Gem::Specification.new do |s|\n  s.name = \"json\"\n  s.version = \"2.5\"\nend\n", "gemspec json@2.5"},
		{"srv/installed.json", `{"packages":[{"name":"a/b","version":"1.0"}]}`, "composer-vendor a/b@1.0"},
		{"a/shaded-2.0.jar", zipped(t, "META-INF/maven/g/a/pom.properties", "groupId=g\nartifactId=a\nversion=1\n",
			"META-INF/MANIFEST.MF", "Manifest-Version: 1.0\r\nImplementation-Title: shaded\r\nImplementation-Version: 2.0\r\nImplementation-Vendor-Id: org.x\r\nBundle-Name: %name\r\n"), "jar g:a@1 org.x:shaded@2.0"},
		{"a/own-1.2-api-3.0.jar", zipped(t, "META-INF/maven/g/own/pom.properties", "groupId=g\nartifactId=own-1.2-api\nversion=3.0\n",
			"META-INF/MANIFEST.MF", "Implementation-Title: T\nImplementation-Version: 3.0\nImplementation-Vendor-Id: v\n"), "jar g:own-1.2-api@3.0"},
		{"etc/redhat-release", "CentOS release 6.10 (Final)\n", "centos 6.10"},
		{"etc/redhat-release", "Red Hat Enterprise Linux Server release 7.9 (Maipo)\n", "redhat 7.9"},
		{"etc/redhat-release", "nothing of the kind\n", ""},
		{"etc/system-release", "Amazon Linux release 2 (Karoo)\n", "amazon 2"},
		{"etc/system-release", "Amazon Linux AMI release 2018.03\n", "amazon 2018.03"},
		{"etc/os-release", "NAME=\"CentOS Stream\"\nID=\"centos\"\nVERSION_ID=\"9\"\n", "centos-stream 9"},
	} {
		want := []string{}
		if test.want != "" {
			want = append(want, test.name+": "+test.want)
		}
		if diff := cmp.Diff(want, told(t, test.name, test.text)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

// TestOwned: what a package of the system has brought along for a language is the
// system's. Packages of strangers, and files that came otherwise, are told of.
func TestOwned(t *testing.T) {
	python := func(name string) []string {
		return []string{"usr/lib/python3/dist-packages/" + name + ".dist-info/METADATA", "Name: " + name + "\nVersion: 1\n"}
	}
	path := func(name string) string { return python(name)[0] }
	status := "Package: python3-jinja2\nStatus: install ok installed\nMaintainer: Someone <s@debian.org>\nArchitecture: all\nVersion: 3.1.2-1\n\n" +
		"Package: half\nStatus: install ok half-configured\nArchitecture: amd64\nVersion: 1-1\n\n" +
		"Package: gone\nStatus: deinstall ok config-files\nVersion: 1-1\n\n" +
		"Package: docker-compose\nStatus: install ok installed\nMaintainer: Docker <support@docker.com>\nArchitecture: amd64\nVersion: 2-1\n\n"
	sums := func(name string) string { return "0123  usr/share/x\n4567  " + path(name) + "\n" }
	files := []string{"var/lib/dpkg/info/python3-jinja2.md5sums", sums("jinja2")}
	files = append(files, python("jinja2")...)
	files = append(files, python("half")...)
	files = append(files, "var/lib/dpkg/status", status,
		"var/lib/dpkg/info/half:amd64.md5sums", sums("half"), "var/lib/dpkg/info/docker-compose.md5sums", sums("compose"),
		"var/lib/dpkg/info/gone.md5sums", sums("other"))
	files = append(files, python("compose")...)
	files = append(files, python("other")...)
	want := []string{
		"var/lib/dpkg/status: dpkg python3-jinja2@3.1.2 half@1 docker-compose@2",
		path("compose") + ": python-pkg compose@1", path("other") + ": python-pkg other@1",
	}
	if diff := cmp.Diff(want, told(t, files...)); diff != "" {
		t.Errorf("dpkg (-want +got):\n%s", diff)
	}
	files = append(python("certifi"), python("pip")...)
	dir, base := path("certifi")[:strings.LastIndexByte(path("certifi"), '/')], "METADATA"
	files = append(files, "lib/apk/db/installed", "P:py3-certifi\nV:2023-r0\nF:usr/bin\nR:x\nF:"+dir+"\nR:"+base+"\n\n")
	want = []string{path("pip") + ": python-pkg pip@1", "lib/apk/db/installed: apk py3-certifi@2023-r0"}
	if diff := cmp.Diff(want, told(t, files...)); diff != "" {
		t.Errorf("apk (-want +got):\n%s", diff)
	}
}

// TestOwnedIsBounded: what packages say of their files takes no more memory because they
// say it often, or of long names.
func TestOwnedIsBounded(t *testing.T) {
	var list, status, apk strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&list, "d41d8cd98f00b204e9800998ecf8427e  usr/share/x/%d\n", i)
	}
	for range 1000 {
		status.WriteString("Package: x\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n")
	}
	apk.WriteString("P:x\nV:1\nF:" + strings.Repeat("y", 500_000) + "\n")
	apk.WriteString(strings.Repeat("R:z\n", 1000))
	for name, files := range map[string][]string{
		"a package a thousand times":                      {"var/lib/dpkg/info/x.md5sums", list.String(), "var/lib/dpkg/status", status.String()},
		"a directory with a name of half a million bytes": {"lib/apk/db/installed", apk.String()},
	} {
		var before, after runtime.MemStats
		layer := archive(t, files...)
		runtime.ReadMemStats(&before)
		if _, err := (&contents.Reader{Dir: t.TempDir()}).Read(t.Context(), layer); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
			t.Errorf("%s: %d bytes were allocated", name, used)
		}
	}
}
