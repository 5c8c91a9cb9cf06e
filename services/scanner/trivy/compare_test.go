package trivy

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/services/scanner/contents"
)

// asScanner returns name and version of each package that the scanner finds in a file
// of that name in a layer.
func asScanner(t *testing.T, name string, mode fs.FileMode, content []byte) (map[string]bool, error) {
	t.Helper()
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(mode.Perm()), Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := (&contents.Reader{Dir: t.TempDir()}).Read(t.Context(), &layer)
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, f := range l.Found {
		for _, p := range f.Packages {
			found[p.Name+" "+p.Version] = true
		}
	}
	return found, nil
}

// machine returns the files of this machine that tell of packages: below PROVE_TRIVY,
// directories with colons between, or where programs and libraries usually are.
func machine(t *testing.T) []string {
	t.Helper()
	roots := filepath.SplitList(os.Getenv("PROVE_TRIVY"))
	if len(roots) == 0 {
		roots = []string{"/usr/bin", "/usr/local", "/usr/lib/python3", "/usr/lib/node_modules", "/usr/share/nodejs", "/usr/share/java", "/var/lib/gems", "/usr/lib/ruby", "/usr/share/rubygems-integration"}
	}
	var all []string
	for _, root := range roots {
		_ = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return nil //nolint:nilerr // what can't be read, or is not there, tells of nothing
			}
			if i, err := e.Info(); err == nil && i.Size() < 256<<20 && len(parsersOf(name, i.Mode()&0o111 != 0, i.Size())) > 0 {
				all = append(all, name)
			}
			return nil
		})
	}
	return all
}

// samples are the files that Trivy's parsers are tested with, and the names that they
// would have in an image: those of a parser's directory, ending in SUFFIX.
var samples = []struct{ parser, suffix, as string }{
	{"conda/meta", ".json", "opt/conda/conda-meta/BASE"},
	{"dotnet/core_deps", ".json", "app/BASE"},
	{"golang/binary", "", "bin/BASE"},
	{"java/jar", ".jar", "app/BASE"},
	{"java/jar", ".war", "app/BASE"},
	{"nodejs/npm", ".json", "app/BASE/package-lock.json"},
	{"nodejs/packagejson", ".json", "app/node_modules/BASE/package.json"},
	{"nuget/config", ".config", "app/BASE/packages.config"},
	{"nuget/lock", ".json", "app/BASE/packages.lock.json"},
	{"nuget/packagesprops", ".props", "app/BASE/Directory.Packages.props"},
	{"python/packaging", ".METADATA", "lib/BASE.dist-info/METADATA"},
	{"python/packaging", ".PKG-INFO", "lib/BASE.egg-info/PKG-INFO"},
	{"python/packaging", ".egg-info", "lib/BASE"},
	{"ruby/gemspec", ".gemspec", "gems/specifications/BASE"},
	{"rust/binary", "", "bin/BASE"},
	{"rust/cargo", ".lock", "app/BASE/Cargo.lock"},
}

// known are the samples, by their last directories, of which the scanner tells
// something else, and why.
var known = map[string]string{
	"npm/testdata/package-lock_v3_without_root_deps_field.json":  "workspaces are the image's own sources",
	"npm/testdata/package-lock_v3_with_workspace.json":           "workspaces are the image's own sources",
	"npm/testdata/package-lock_v3_with_workspace_as_object.json": "workspaces are the image's own sources",
	"packagejson/testdata/invalid_name.json":                     "an odd name is told, not dropped",
	"cargo/testdata/cargo_invalid.lock":                          "what stands before the damage is told",
	"gemspec/testdata/malformed00.gemspec":                       "what can be read of a damaged file is told",
}

// TestAsTrivy reads the same files with the scanner and with Trivy's parsers: those of
// this machine, and those that the parsers are tested with.
func TestAsTrivy(t *testing.T) {
	files := map[string]string{} // where they are, and their names in an image
	for _, name := range machine(t) {
		files[name] = strings.TrimPrefix(name, "/")
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/aquasecurity/trivy").Output()
	if err != nil {
		t.Fatal(err)
	}
	parsers := filepath.Join(strings.TrimSpace(string(out)), "pkg/dependency/parser")
	for _, s := range samples {
		found, _ := filepath.Glob(filepath.Join(parsers, s.parser, "testdata", "*"+s.suffix))
		if len(found) == 0 {
			t.Errorf("%s has no samples", s.parser)
		}
		for _, name := range found {
			files[name] = strings.ReplaceAll(s.as, "BASE", filepath.Base(name))
		}
	}
	looked, packages := 0, 0
	for at, name := range files {
		content, err := os.ReadFile(at)
		if err != nil {
			continue // a directory, or gone
		}
		info, err := os.Stat(at)
		if err != nil {
			t.Fatal(err)
		}
		mode := info.Mode()
		if strings.HasPrefix(at, parsers) && strings.HasPrefix(name, "bin/") {
			mode |= 0o111 // the module's archive has no modes
		}
		want := asTrivy(t.Context(), name, mode&0o111 != 0, content)
		got, err := asScanner(t, name, mode, content)
		if err != nil {
			t.Errorf("%s: %v", at, err)
			continue
		}
		diff := cmp.Diff(want, got)
		if sample, ok := strings.CutPrefix(at, parsers+"/"); ok {
			if _, name, _ := strings.Cut(sample, "/"); known[name] != "" {
				if diff == "" {
					t.Errorf("%s: both tell the same", at)
				}
				continue
			}
		}
		if diff != "" {
			t.Errorf("%s: Trivy has -, the scanner +\n%s", at, diff)
		}
		if len(want) > 0 {
			looked++
			packages += len(want)
		}
	}
	t.Logf("%d files of %d with %d packages: the scanner finds in them what Trivy finds", looked, len(files), packages)
	if looked < 50 {
		t.Errorf("only %d files with packages were looked at", looked)
	}
}
