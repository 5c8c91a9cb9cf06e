package allinone

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestNoticesBetweenTwo: what is pushed at one Berth is at another a moment later, blobs
// and all, although that looks for nothing by itself: the first tells it, by its events,
// and goes on telling when the other was away. What is removed at the first goes, too.
func TestNoticesBetweenTwo(t *testing.T) {
	dir := t.TempDir()
	const secret = "what both registries know"
	notices := freeAddress(t)
	hq := startProgramOf(t, "hq", map[string]any{
		"storage": map[string]any{"rootDirectory": filepath.Join(dir, "hq")},
		"http":    map[string]any{"address": "127.0.0.1", "port": "0"},
		"log":     map[string]any{"level": "info"},
		"extensions": map[string]any{"events": map[string]any{"enable": true, "sinks": []any{
			map[string]any{"type": "http", "address": "http://" + notices + "/", "secret": secret},
		}}},
	}, everyPart())
	push := (&edge{t: t, url: hq.url}).push
	early := push("team/app", "early", []byte("nobody listens yet"))
	branch := startProgramOf(t, "branch", map[string]any{
		"storage": map[string]any{"rootDirectory": filepath.Join(dir, "branch")},
		"http":    map[string]any{"address": "127.0.0.1", "port": "0"},
		"log":     map[string]any{"level": "info"},
		"extensions": map[string]any{"sync": map[string]any{
			"notices": map[string]any{"listen": notices},
			"registries": []any{map[string]any{
				"urls": []string{hq.url}, "content": []any{map[string]any{"prefix": "team/**", "destination": "/hq"}}, "localPushes": "deny",
				"notices": map[string]any{"secret": secret}, "prune": map[string]any{"grace": "0s"},
			}},
		}},
	}, everyPart())
	has := func(path string) (string, bool) {
		resp, err := http.Get(branch.url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("Docker-Content-Digest"), resp.StatusCode == http.StatusOK
	}
	comes := func(tag string, want registry.Digest, layer string) {
		t.Helper()
		waitFor(t, func() bool {
			d, ok := has("/v2/hq/team/app/manifests/" + tag)
			return ok && d == string(want)
		})
		if _, ok := has("/v2/hq/team/app/blobs/" + string(registry.SHA256.FromString(layer))); !ok {
			t.Errorf("%s is here, and its layer is not", tag)
		}
	}
	comes("early", early, "nobody listens yet")
	for i := range 3 {
		layer := fmt.Sprint("version ", i)
		comes("v1", push("team/app", "v1", []byte(layer)), layer)
	}
	push("private/app", "v1", []byte("not selected"))
	last := push("team/app", "last", []byte("last"))
	comes("last", last, "last")
	if _, ok := has("/v2/hq/private/app/manifests/v1"); ok {
		t.Error("what the rule does not select was copied")
	}
	if _, ok := has("/v2/private/app/manifests/v1"); ok {
		t.Error("what the rule does not select was copied")
	}
	// What is removed there goes, by its tag and with its manifest.
	both := push("team/app", "both", []byte("of two tags"))
	push("team/app", "also", []byte("of two tags"))
	comes("both", both, "of two tags")
	comes("also", both, "of two tags")
	goes := func(removed string, tags ...string) {
		t.Helper()
		(&edge{t: t, url: hq.url}).remove("team/app", removed)
		waitFor(t, func() bool {
			return !slices.ContainsFunc(tags, func(tag string) bool { _, ok := has("/v2/hq/team/app/manifests/" + tag); return ok })
		})
	}
	goes("early", "early")
	goes(string(both), "both", "also")
	if _, ok := has("/v2/hq/team/app/manifests/last"); !ok {
		t.Error("what was not removed is gone")
	}
	// Nobody else has anything copied.
	resp, err := http.Post("http://"+notices, "application/json", strings.NewReader(`{"name":"team/app","reference":"v1"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a post without a signature: %s", resp.Status)
	}
	// All rules are paused, and go on, at once.
	file := strings.TrimSuffix(branch.log, ".log") + ".json"
	for _, c := range []struct{ command, says, state string }{{"pause", "all rules: paused", "paused"}, {"resume", "all rules: resumed", "idle"}} {
		if out, err := runBerth(t, "sync", c.command, file); err != nil || !strings.Contains(out, c.says) {
			t.Errorf("%s: %v\n%s", c.command, err, out)
		}
		if out, err := runBerth(t, "sync", "rules", file); err != nil || !strings.Contains(out, c.state) {
			t.Errorf("rules after %s: %v\n%s", c.command, err, out)
		}
	}
}
