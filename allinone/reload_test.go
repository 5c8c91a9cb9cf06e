package allinone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
)

// reloaded is a registry whose configuration changes.
type reloaded struct {
	t   *testing.T
	cfg map[string]any // the file
	log *lines
	url string
	p   daemon.Process
}

// object is a block of a config file.
type object = map[string]any

// reload sets a key, or removes it if value is nil, and reads the file again.
func (r *reloaded) reload(key string, value any) error {
	at := r.cfg
	parts := strings.Split(key, ".")
	for _, name := range parts[:len(parts)-1] {
		next, _ := at[name].(object)
		if next == nil {
			next = object{}
			at[name] = next
		}
		at = next
	}
	if at[parts[len(parts)-1]] = value; value == nil {
		delete(at, parts[len(parts)-1])
	}
	return r.p.Live.Reload(r.t.Context())
}

func (r *reloaded) load() (*config.Config, []config.Warning, error) {
	text, err := json.Marshal(r.cfg)
	if err != nil {
		return nil, nil, err
	}
	c, w, err := config.Parse("c.json", text, os.LookupEnv)
	if err == nil {
		err = c.ValidateFor(config.AllInOne)
	}
	return c, w, err
}

// do makes a request on a connection of its own.
func (r *reloaded) do(method, path, content string, headers ...string) (*http.Response, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.url+path, strings.NewReader(content))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp, string(b)
}

func (r *reloaded) status(method, path, content string, headers ...string) int {
	r.t.Helper()
	resp, _ := r.do(method, path, content, headers...)
	return resp.StatusCode
}

func typed(mediaType string) string { return "Content-Type: " + mediaType }

// needs are keys whose change needs a restart, with another value.
var needs = map[string]any{
	"http.address":          "localhost",
	"http.port":             "1",
	"http.tls":              object{"cert": "c.pem", "key": "k.pem"},
	"log.output":            "elsewhere.log",
	"log.audit":             "stdout",
	"storage.rootDirectory": "elsewhere",
	"storage.storageDriver": object{"name": "local"},
	"storage.metadata":      object{"maxStaleness": "1s"},
	"storage.commit":        false,
	"storage.reserve":       1,
	"storage.watermarks":    object{"low": 0.5},
	"storage.subPaths":      object{"/new": object{"rootDirectory": "elsewhere"}},
	"extensions.search":     object{},
	"services":              object{"insecure": true},
}

// reloadedElsewhere are keys whose change is observed by another test.
var reloadedElsewhere = map[string]string{
	"log.level":               "registry/cli/reload_test.go TestReloadsLevel",
	"log.auditRetention":      "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.gc":              "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.gcDelay":         "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.gcInterval":      "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.gcTimeWindow":    "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.undoWindow":      "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.quotas":          "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.allowSparse":     "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.allowWrongSizes": "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.cache":           "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.verifyReads":     "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"storage.retention":       "services/metadata/live_test.go TestS151PoliciesFollowTheFile",
	"storage.redirectBlobURL": "services/gateway/live_test.go TestS151SettingsFollowTheFile",
	"storage.redirect":        "services/gateway/live_test.go TestS151SettingsFollowTheFile",
	"http.writeTimeout":       "services/gateway/live_test.go TestS151SettingsFollowTheFile",
	"http.uploadsPerClient":   "services/gateway/live_test.go TestS151SettingsFollowTheFile",
	"extensions.scrub":        "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
	"extensions.events":       "services/metadata/live_test.go TestS151EachKeyFollowsTheFile",
}

// TestS151EveryKey changes each key of the configuration while the program runs: either
// it is seen to take effect, or the log says that it needs a restart. A key that is in no
// list fails the test.
func TestS151EveryKey(t *testing.T) {
	up := serveMirror(t, memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{}), nil)
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, registry.TypeIndex)
	other := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"a":"b"}}`, registry.TypeIndex)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, up.URL+"/v2/hq/app/manifests/v1", strings.NewReader(index))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", registry.TypeIndex)
	resp, err := up.Client().Do(req)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatal(err, resp)
	}
	resp.Body.Close()

	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	passwords := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(passwords, append([]byte("alice:"), append(hash, '\n')...), 0o600); err != nil {
		t.Fatal(err)
	}
	rule := func(prefix string) object {
		return object{"urls": []string{up.URL}, "onDemand": true, "content": []object{{"prefix": prefix}}}
	}
	r := &reloaded{t: t, log: new(lines), cfg: object{
		"storage":    object{"rootDirectory": filepath.Join(dir, "data")},
		"http":       object{"address": "127.0.0.1", "port": "0"},
		"extensions": object{"sync": object{"registries": []object{rule("nothing/here")}}},
	}}
	r.p = daemon.Process{Program: "berth", Version: "v0", Log: slog.New(slog.NewJSONHandler(r.log, nil)), Metrics: metrics.New(), Ready: new(daemon.Readiness)}
	first, _, err := r.load()
	if err != nil {
		t.Fatal(err)
	}
	r.p.Live = config.NewLive(first, r.load, r.p.Log, r.p.Metrics)
	r.p.Live.Serve(config.AllInOne, first.Services)
	parts := localParts()
	parts.Mirror = Mirrors(syncer.Parts{Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer}})
	units, err := Link(t.Context(), first, parts, r.p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx, r.p.Log, daemon.Options{Ready: r.p.Ready}, units...) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	r.url = "http://" + r.log.address(t, "listening for HTTP")
	if got := r.status("PUT", "/v2/a/b/manifests/v1", index, typed(registry.TypeIndex)); got != 201 {
		t.Fatalf("a push: %d", got)
	}
	docker := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, registry.TypeDockerList)
	header := func(resp *http.Response, _ string) func(string) string { return resp.Header.Get }

	rows := []struct {
		key   string
		set   string // a key below it, or itself
		value any
		holds func() bool
		stays bool // for the rows that follow
	}{
		{"http.externalUrl", "", "https://hub.example", func() bool { _, page := r.do("GET", "/", ""); return strings.Contains(page, "hub.example/alpine") }, false},
		{"http.allowOrigin", "", "https://ui.example", func() bool {
			return header(r.do("GET", "/v2/", "", "Origin: https://ui.example"))("Access-Control-Allow-Origin") == "https://ui.example"
		}, false},
		{"http.compat", "", []string{}, func() bool {
			return r.status("PUT", "/v2/a/b/manifests/d", docker, typed(registry.TypeDockerList)) == 415
		}, false},
		{"http.readTimeout", "", "20ms", r.cutsOff, true},
		{"http.ratelimit", "http.ratelimit.rate", 1, func() bool {
			for range 20 {
				if r.status("GET", "/v2/", "") == 429 {
					return true
				}
			}
			return false
		}, false},
		{"http.openUploads", "", 1, func() bool {
			for range 20 {
				if r.status("POST", "/v2/a/b/blobs/uploads/", "") == 429 {
					return true
				}
			}
			return false
		}, false},
		{"http.connections", "http.connections.perAddress", 1, r.oneConnection, false},
		{"storage.maxRepos", "", 1, func() bool {
			return r.status("PUT", "/v2/new/"+registry.SHA256.FromString(time.Now().String()).Encoded()+"/manifests/v1", index, typed(registry.TypeIndex)) == 429
		}, false},
		{"storage.readOnly", "", []string{"a/**"}, func() bool { return r.status("PUT", "/v2/a/b/manifests/v2", index, typed(registry.TypeIndex)) == 405 }, false},
		{"storage.immutableTags", "", []object{{"repositories": []string{"a/**"}, "tags": []string{"v1"}}}, func() bool {
			got := r.status("PUT", "/v2/a/b/manifests/v1", other, typed(registry.TypeIndex))
			return got != 201 || r.status("PUT", "/v2/a/b/manifests/v1", index, typed(registry.TypeIndex)) != 201
		}, false},
		{"extensions.metrics", "", object{"prometheus": object{"path": "/numbers"}}, func() bool { return r.status("GET", "/numbers", "") == 200 }, false},
		{"extensions.lint", "", object{"enable": true, "mandatoryAnnotations": []string{"vendor"}}, func() bool {
			image := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`, registry.TypeManifest, push(t, r.url+"/v2/a/b", []byte("{}")))
			return r.status("PUT", "/v2/a/b/manifests/image", image, typed(registry.TypeManifest)) == 400
		}, false},
		{"extensions.trust", "", object{"cosign": true}, func() bool {
			_, text := r.do("GET", "/v2/_oci/ext/discover", "")
			return strings.Contains(text, "/v2/_zot/ext/cosign")
		}, true},
		{"extensions.gates", "", []object{{"repositories": []string{"a/**"}, "signedBy": "cosign"}}, func() bool { return r.status("GET", "/v2/a/b/manifests/v1", "") == 403 }, false},
		{"extensions.sync", "extensions.sync.registries", []object{rule("hq/**")}, func() bool { return r.status("GET", "/v2/hq/app/manifests/v1", "") == 200 }, true},
		{"outbound", "outbound.strict", true, func() bool {
			return r.status("GET", "/v2/hq/"+registry.SHA256.FromString(time.Now().String()).Encoded()+"/manifests/v1", "") >= 500
		}, false},
		{"http.auth", "http.auth.htpasswd.path", passwords, func() bool { return r.status("GET", "/v2/", "") == 401 }, true},
		{"http.realm", "", "the harbour", func() bool {
			return strings.Contains(header(r.do("GET", "/v2/", ""))("Www-Authenticate"), "the harbour")
		}, false},
		{"http.accessControl", "", object{"repositories": object{"**": object{"defaultPolicy": []string{"read"}}}}, func() bool {
			req := "Authorization: Basic YWxpY2U6c2VzYW1l"
			return r.status("PUT", "/v2/a/b/manifests/v3", index, typed(registry.TypeIndex), req) == 403
		}, false},
	}
	covered := make(map[string]bool)
	for _, row := range rows {
		covered[row.key] = true
		if row.set == "" {
			row.set = row.key
		}
		if row.key != "http.readTimeout" && row.holds() { // it would take too long
			t.Fatalf("%s holds before", row.key)
		}
		if err := r.reload(row.set, row.value); err != nil {
			t.Fatalf("%s: %v", row.key, err)
		}
		if !row.holds() {
			t.Errorf("%s does not hold", row.key)
		}
		if row.stays {
			continue
		}
		if err := r.reload(row.set, nil); err != nil {
			t.Fatalf("%s is taken back: %v", row.key, err)
		}
		if row.holds() {
			t.Errorf("%s holds still", row.key)
		}
	}
	r.needsRestart(needs)
	everyKey(t, covered)
}

// cutsOff reports whether a client that sends nothing more is cut off earlier than by the
// default, which is a minute.
func (r *reloaded) cutsOff() bool {
	c, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(50 * time.Second))
	_, _ = io.WriteString(c, "PUT /v2/a/b/manifests/slow HTTP/1.1\r\nHost: x\r\nContent-Type: "+registry.TypeIndex+"\r\nContent-Length: 9\r\n\r\n{")
	_, err = io.ReadAll(c)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// oneConnection reports whether a second connection is refused.
func (r *reloaded) oneConnection() bool {
	first, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		return true // one that was closed just now is still counted
	}
	defer first.Close()
	_, _ = io.WriteString(first, "GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := first.Read(make([]byte, 1)); err != nil {
		return true
	}
	second, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		return true
	}
	defer second.Close()
	_, _ = io.WriteString(second, "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(second)
	return err != nil || len(b) == 0
}

// needsRestart changes keys, each by itself, and looks for them in the log.
func (r *reloaded) needsRestart(all map[string]any) {
	for key, value := range all {
		before := r.cfg
		b, err := json.Marshal(r.cfg)
		if err != nil {
			r.t.Fatal(err)
		}
		r.cfg = nil
		if err := json.Unmarshal(b, &r.cfg); err != nil {
			r.t.Fatal(err)
		}
		if err := r.reload(key, value); err != nil {
			r.t.Errorf("%s: %v", key, err)
		}
		if !r.log.has("a change of the configuration needs a restart", key) {
			r.t.Errorf("the log does not say that %s needs a restart", key)
		}
		r.cfg = before
		if err := r.p.Live.Reload(r.t.Context()); err != nil {
			r.t.Error(err)
		}
	}
}

// has reports whether the log has a line that begins with message and has key, or one
// below it, in its keys.
func (l *lines) has(message, key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.all, func(rec map[string]any) bool {
		keys, _ := rec["keys"].([]any)
		return strings.HasPrefix(rec["msg"].(string), message) && slices.ContainsFunc(keys, func(k any) bool {
			return k == key || strings.HasPrefix(k.(string), key+".")
		})
	})
}

// everyKey fails for each key of the configuration that is in none of the lists. Of
// sections with a subject of their own it is the keys in them.
func everyKey(t *testing.T, covered map[string]bool) {
	t.Helper()
	source := make(map[string][]byte)
	for _, k := range config.Keys() {
		parts := strings.Split(k.Path, ".")
		key := parts[0]
		if slices.Contains([]string{"storage", "http", "log", "extensions"}, key) {
			if len(parts) == 1 {
				continue
			}
			key += "." + parts[1]
		}
		key, _, _ = strings.Cut(key, "[")
		if k.Status != config.Built || key == "distSpecVersion" || key == "storage.dedupe" || covered[key] || needs[key] != nil {
			continue
		}
		file, name, ok := strings.Cut(reloadedElsewhere[key], " ")
		if !ok {
			t.Errorf("nothing is said of what becomes of a change of %s: give it a row", key)
			covered[key] = true
			continue
		}
		if source[file] == nil {
			b, err := os.ReadFile(filepath.Join("..", file))
			if err != nil {
				t.Error(err)
			}
			source[file] = append(b, '\n')
		}
		test := regexp.MustCompile(`(?ms)^func ` + name + `\(.*?^}`).Find(source[file])
		if !bytes.Contains(test, []byte(`"`+key)) {
			t.Errorf("%s has no word of %s", reloadedElsewhere[key], key)
		}
	}
}
