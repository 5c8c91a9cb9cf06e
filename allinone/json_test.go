package allinone

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-registry/berth/allinone/zotroot"
)

// TestJSONOfCommands reads what commands print with --json: objects, one a line, with
// names in lower camel case, and those that scripts rely on.
func TestJSONOfCommands(t *testing.T) {
	root := t.TempDir()
	fillStore(t, root)
	file, target := storeFile(t, map[string]any{"rootDirectory": root}), filepath.Join(t.TempDir(), "backups")
	run := func(want int, names string, args ...string) {
		t.Helper()
		out, err := runBerth(t, args...)
		if exitCode(err) != want {
			t.Fatalf("%q: got %v, want exit code %d\n%s", args, err, want, out)
		}
		wantNames(t, out, strings.Fields(names)...)
	}
	run(0, "backup digest begun ended blobs bytes damaged", "backup", "create", "--json", "--to", target, file)
	run(0, "backup digest begun ended blobs bytes damaged", "backup", "list", "--json", "--from", target)
	run(0, "backup digest begun ended blobs bytes damaged", "backup", "verify", "--json", "--from", target)
	run(0, "backup digest begun ended blobs bytes damaged", "backup", "restore", "--json", "--from", target, storeFile(t, map[string]any{"rootDirectory": t.TempDir()}))
	run(0, "reviews manifests links blobs repositories bytes", "gc", "--json", file)
	run(0, "repository logical unique shared manifests blobs", "du", "--json", file)
	run(0, "repositories foreignBlobs foreignBytes running states leftovers", "status", "--json", file)
	flip(t, largestBlob(t, root))
	run(exitFindings, "invariant digest problem", "scrub", "--json", "--quiet", file)
	run(exitFindings, "invariant digest problem", "fsck", "--json", "--read-data", file)
	run(exitFindings, "invariant digest problem", "backup", "create", "--json", "--to", filepath.Join(t.TempDir(), "others"), file)

	zot := zotroot.Make(t, 6, 1)
	if _, code := runAdopt(t, zot, "adopt"); code != exitFindings {
		t.Fatalf("adopt: exit code %d", code)
	}
	out, _ := runAdopt(t, zot, "status", "--json")
	wantNames(t, out, "repositories", "repositories.repository", "repositories.pool", "repositories.state", "repositories.problems", "repositories.problemCount", "states.taken")
}

var camelCase = regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`)

// wantNames fails if out is not lines of JSON objects whose names are all in lower
// camel case, the given ones among them.
func wantNames(t *testing.T, out string, names ...string) {
	t.Helper()
	got := make(map[string]bool)
	var look func(above string, v any)
	look = func(above string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, below := range v {
				if !camelCase.MatchString(name) {
					t.Errorf("%q is not in lower camel case:\n%s", name, out)
				}
				got[above+name] = true
				look(above+name+".", below)
			}
		case []any:
			for _, below := range v {
				look(above, below)
			}
		}
	}
	for line := range bytes.Lines([]byte(out)) {
		var object map[string]any
		if err := json.Unmarshal(line, &object); err != nil {
			t.Fatalf("%q is not a JSON object: %v", line, err)
		}
		look("", object)
	}
	for _, name := range names {
		if !got[name] {
			t.Errorf("there is no %q:\n%s", name, out)
		}
	}
}
