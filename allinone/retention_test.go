package allinone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// configured writes a config file of a store below a new directory, with more keys in
// its section storage.
func configured(t *testing.T, more string) (file string, cfg *config.Config) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "config.json")
	text := fmt.Sprintf(`{"storage":{"rootDirectory":%q%s}}`, filepath.Join(dir, "store"), more)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, cfg
}

// pushed pushes an image of its own for each tag, over HTTP, and pulls some.
func pushed(t *testing.T, cfg *config.Config, repo string, tags []string, pull ...string) map[string]string {
	t.Helper()
	blobs, catalog := storesOf(t, cfg)
	defer blobs.Close()
	defer catalog.Close()
	base := serve(t, blobs, catalog, func(l net.Listener) net.Listener { return l })
	url := base + "/v2/" + repo
	digests := map[string]string{}
	for _, tag := range tags {
		content := []byte("content of " + tag)
		push(t, url, content)
		m := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[]}`, digest.FromBytes(content), len(content))
		if resp := send(t, http.MethodPut, url+"/manifests/"+tag, m, registry.TypeManifest); resp.StatusCode != http.StatusCreated {
			t.Fatalf("pushing %s: %s", tag, resp.Status)
		}
		digests[tag] = digest.FromBytes(m).String()
	}
	for _, tag := range pull {
		if resp := send(t, http.MethodGet, url+"/manifests/"+tag, nil, ""); resp.StatusCode != http.StatusOK {
			t.Fatalf("pulling %s: %s", tag, resp.Status)
		}
	}
	return digests
}

// berth runs the program and returns what it prints and its exit code.
func berth(t *testing.T, args ...string) (out string, code int, err error) {
	t.Helper()
	var b bytes.Buffer
	err = Program("berth", "v0", "", localParts()).Run(t.Context(), args, &b)
	return b.String(), exitCode(err), err
}

// oneBlank returns an output with one blank between columns.
func oneBlank(out string) string {
	var all []string
	for line := range strings.Lines(out) {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(all, "\n")
}

// A pool of subPaths has policies of its own. Those of storage.retention are not for
// its repositories, as in zot.
func TestRetentionOfSubPaths(t *testing.T) {
	dir := t.TempDir()
	only := func(re string) string {
		return `"retention":{"policies":[{"repositories":["**"],"keepTags":[{"patterns":["` + re + `"]}]}]}`
	}
	file, cfg := configured(t, fmt.Sprintf(`,%s,"subPaths":{"/keeps":{"rootDirectory":%q},"/own":{"rootDirectory":%q,%s}}`,
		only("^v1"), filepath.Join(dir, "keeps"), filepath.Join(dir, "own"), only("^v2")))
	for _, repo := range []string{"app", "keeps/app", "own/app"} {
		pushed(t, cfg, repo, []string{"v1", "v2"})
	}
	if _, _, err := berth(t, "retention", "run", file); err != nil {
		t.Fatal(err)
	}
	for repo, want := range map[string][]string{"app": {"v1"}, "keeps/app": {"v1", "v2"}, "own/app": {"v2"}} {
		out, _, err := berth(t, "retention", "explain", file, repo)
		if err != nil {
			t.Fatal(err)
		}
		for _, tag := range []string{"v1", "v2"} {
			if got := strings.Contains(oneBlank(out), repo+" "+tag+" "); got != slices.Contains(want, tag) {
				t.Errorf("%s has tag %s: %v", repo, tag, got)
			}
		}
	}
}

func TestRetentionCommands(t *testing.T) {
	file, cfg := configured(t, `,"retention":{"policies":[{"repositories":["none"]},{"repositories":["**"],"keepTags":[{"patterns":["^v1"]},{"patterns":["^v2"],"mostRecentlyPushedCount":1}]}]}`)
	d := pushed(t, cfg, "a", []string{"v1.0", "v2.0", "v2.1", "dev"})
	pushed(t, cfg, "b/c", []string{"v1.0"})
	explain := func(args ...string) string {
		t.Helper()
		out, _, err := berth(t, append([]string{"retention"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return oneBlank(out)
	}
	out := explain("explain", file, "a")
	for _, want := range []string{
		"a dev " + d["dev"] + " delete 2 - ", "didn't meet any tag 'patterns' rules",
		"a v1.0 " + d["v1.0"] + " keep 2.1 patterns ",
		"a v2.0 " + d["v2.0"] + " delete 2.2 - ", "didn't meet any tag retention rule",
		"a v2.1 " + d["v2.1"] + " keep 2.2 mostRecentlyPushedCount ", "retained by mostRecentlyPushedCount:1 policy",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("explain does not say %q:\n%s", want, out)
		}
	}
	var one decisionJSON
	if err := json.Unmarshal([]byte(explain("explain", "--json", file, "a:v2.0")), &one); err != nil || one.Tag != "v2.0" || one.Decision != "delete" || one.Policy != 2 || one.Entry != 2 || one.Pushed == nil {
		t.Errorf("as JSON: %+v (%v)", one, err)
	}
	if out := explain("run", "--dry-run", file); strings.Count(out, "\n") != 2 || !strings.Contains(out, "a dev") || !strings.Contains(out, "a v2.0") {
		t.Errorf("a dry run says:\n%s", out)
	}
	if out := explain("run", file); !strings.Contains(out, "a 2 2") || !strings.Contains(out, "b/c 1 0") {
		t.Errorf("a run says:\n%s", out)
	}
	out, _, err := berth(t, "tag", "history", file, "a:dev")
	if got := oneBlank(out); err != nil || !strings.Contains(got, "0 ") || !strings.Contains(got, "retention (removed)") || !strings.Contains(got, d["dev"]) {
		t.Errorf("history: %v\n%s", err, got)
	}
	if _, code, err := berth(t, "tag", "rollback", file, "a:dev"); code != 0 {
		t.Fatal(err)
	}
	out, _, _ = berth(t, "tag", "history", "--json", file, "a:dev")
	if !strings.Contains(strings.Split(out, "\n")[0], d["dev"]) {
		t.Errorf("after the rollback the history is\n%s", out)
	}
}

func TestTagRollbackCommand(t *testing.T) {
	file, cfg := configured(t, "")
	d := pushed(t, cfg, "a", []string{"one", "two"})
	blobs, catalog := storesOf(t, cfg)
	for _, name := range []string{"one", "two"} {
		m, err := catalog.Manifest(t.Context(), operator, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: registry.Tag(name)}})
		if err != nil {
			t.Fatal(err)
		}
		put := registry.ManifestPut{Digest: m.Digest, MediaType: m.MediaType, Bytes: m.Bytes, Tags: []registry.Tag{"t"}}
		if _, err := catalog.PutManifest(t.Context(), operator, "a", put); err != nil {
			t.Fatal(err)
		}
	}
	if err := catalog.Close(); err != nil {
		t.Fatal(err)
	}
	if err := blobs.Close(); err != nil {
		t.Fatal(err)
	}
	unknown := digest.FromString("unknown").String()
	defer func() {
		// A manifest that was deleted comes back.
		blobs, catalog := storesOf(t, cfg)
		if err := errors.Join(catalog.DeleteManifest(t.Context(), operator, "a", registry.Digest(d["one"])), catalog.Close(), blobs.Close()); err != nil {
			t.Fatal(err)
		}
		if out, code, err := berth(t, "tag", "rollback", "--to", d["one"], file, "a:t"); code != 0 || !strings.Contains(out, d["one"]) {
			t.Errorf("of a deleted manifest: exit code %d (%v)\n%s", code, err, out)
		}
	}()
	for _, test := range []struct {
		args  []string
		code  int
		leads string
	}{
		{[]string{"a:t"}, 0, "one"},
		{[]string{"a:t"}, 0, "two"},
		{[]string{"--to", "1", "a:t"}, 0, "one"},
		{[]string{"--to", d["two"], "a:t"}, 0, "two"},
		{[]string{"--to", "0", "a:t"}, 0, "two"},
		{[]string{"--to", unknown, "a:t"}, exitFindings, ""},
		{[]string{"--to", "99", "a:t"}, 2, ""},
		{[]string{"--to", "x", "a:t"}, 2, ""},
		{[]string{"a:never"}, exitFindings, ""},
		{[]string{"a:one"}, exitFindings, ""}, // it never was anything else
		{[]string{"a"}, 2, ""},
		{[]string{"nowhere:t"}, exitFindings, ""},
	} {
		args := append([]string{"tag", "rollback", file}, test.args...)
		out, code, err := berth(t, args...)
		if code != test.code || test.leads != "" && !strings.Contains(out, d[test.leads]) {
			t.Errorf("%q: exit code %d (%v), want %d\n%s", test.args, code, err, test.code, out)
		}
	}
}

// storesOf opens the stores of a config file. The caller closes them.
func storesOf(t *testing.T, cfg *config.Config) (Blobs, Catalog) {
	t.Helper()
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	blobs, err := localParts().Blobs(t.Context(), cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := localParts().Catalog(t.Context(), cfg, blobs, func(err error) { t.Error(err) }, p)
	if err != nil {
		t.Fatal(err)
	}
	return blobs, catalog
}

func TestDu(t *testing.T) {
	file, cfg := configured(t, "")
	pushed(t, cfg, "a", []string{"one", "two"})
	pushed(t, cfg, "b", []string{"one"})
	out, code, err := berth(t, "du", file)
	if code != 0 {
		t.Fatal(err)
	}
	// The config is shared, the manifests are not.
	size := int64(len("content of one"))
	var logical, unique, shared, manifests, blobs int64
	for _, row := range strings.Split(oneBlank(out), "\n") {
		if _, err := fmt.Sscanf(row, "b %d %d %d %d %d", &logical, &unique, &shared, &manifests, &blobs); err == nil {
			break
		}
	}
	if logical != unique+size || shared != size || manifests != 1 || blobs != 1 || !strings.Contains(out, "(sum)") {
		t.Errorf("du says\n%s", out)
	}
	out, code, err = berth(t, "du", "--json", file, "b")
	var one map[string]any
	if jsonErr := json.Unmarshal([]byte(out), &one); code != 0 || jsonErr != nil || one["shared"] != float64(size) || one["repository"] != "b" {
		t.Errorf("as JSON: %v, %v\n%s", err, jsonErr, out)
	}
	for _, args := range [][]string{{"du"}, {"du", file, "b:t"}, {"du", file, "B"}} {
		if _, code, _ := berth(t, args...); code != 2 {
			t.Errorf("%q: exit code %d, want 2", args, code)
		}
	}
	if _, code, _ := berth(t, "du", file, "nowhere"); code != exitFindings {
		t.Errorf("a repository that is not there: exit code %d", code)
	}
}
