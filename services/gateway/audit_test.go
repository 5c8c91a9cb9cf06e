package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/auditlog"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// auditWorld is a gateway whose users are what X-User says; "wrong" is refused.
func auditWorld() (*world, *bytes.Buffer) {
	w := newWorld()
	out := new(bytes.Buffer)
	w.deps.Audit = out
	w.deps.REST = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusOK) })
	w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
		if r.Header.Get("X-User") == "wrong" {
			return registry.Actor{}, registry.ErrUnauthorized
		}
		return registry.Actor{ID: r.Header.Get("X-User")}, nil
	})
	return w, out
}

// events reads what the file got.
func events(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for l := range bytes.Lines(out.Bytes()) {
		var e map[string]any
		if err := json.Unmarshal(l, &e); err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		all = append(all, e)
	}
	out.Reset()
	return all
}

// TestS147Audit: each change, login, and read for administrators leaves one event
// with actor, source, action, object, result and the request's id, and nothing else
// leaves one.
func TestS147Audit(t *testing.T) {
	w, out := auditWorld()
	url := w.serve(t)
	image := pushImage(t, url, "a", "t")
	d := image.String()
	events(t, out)
	for _, test := range []struct {
		method, path, user string
		want               string // action object result, several divided by ;
	}{
		{"GET", "/v2/", "alice", "login other ok"},
		{"GET", "/v2/", "alice", ""}, // still the same login
		{"GET", "/v2/", "wrong", "login.failed basic UNAUTHORIZED"},
		{"DELETE", "/v2/a/manifests/t", "wrong", "login.failed basic UNAUTHORIZED"},
		{"GET", "/v2/a/manifests/t", "alice", ""},
		{"GET", "/v2/_catalog", "alice", ""},
		{"POST", "/v2/a/blobs/uploads/", "alice", ""},
		{"POST", "/v2/a/blobs/uploads/?digest=" + digestA, "alice", "blob.put a@" + digestA + " DIGEST_INVALID"},
		{"PUT", "/v2/a/manifests/u", "alice", "manifest.put a:u MANIFEST_INVALID"},
		{"DELETE", "/v2/a/manifests/t", "alice", "manifest.delete a:t ok"},
		{"DELETE", "/v2/a/manifests/" + d, "bob", "login other ok;manifest.delete a@" + d + " ok"},
		{"DELETE", "/v2/a/manifests/" + d, "alice", "manifest.delete a@" + d + " MANIFEST_UNKNOWN"},
		{"DELETE", "/v2/a/blobs/" + digestA, "", "blob.delete a@" + digestA + " ok"},
		{"GET", "/api/v1/audit", "alice", "admin.read /api/v1/audit ok"},
		{"GET", "/api/v1/users?x=secret", "alice", "admin.read /api/v1/users ok"},
		{"GET", "/api/v1/repositories", "alice", ""},
		{"DELETE", "/api/v1/trust?id=abc", "alice", "api.delete /api/v1/trust abc ok"},
		{"POST", "/api/v1/maintenance", "alice", "api.post /api/v1/maintenance ok"},
		{"DELETE", "/api/v1/repositories/a", "alice", "api.delete /api/v1/repositories/a ok"},
		{"GET", "/livez", "", ""},
		{"POST", "/v2/_zot/ext/search", "alice", ""},
	} {
		body := strings.NewReader("x")
		if test.method == "GET" || strings.HasSuffix(test.path, "uploads/") || test.method == "DELETE" {
			body = strings.NewReader("")
		}
		headers := []string{"X-User: " + test.user, "X-Request-Id: id-of-request-1"}
		if test.user == "wrong" {
			headers = append(headers, "Authorization: Basic d3Jvbmc6Y2FuYXJ5") // wrong:canary
		}
		answer := do(t, test.method, url+test.path, body, headers...)
		raw := out.String()
		var got []string
		for _, e := range events(t, out) {
			got = append(got, strings.Join([]string{e["event"].(string), e["target"].(string), e["result"].(string)}, " "))
			actor := test.user
			if e["subject"] != actor || e["clientIP"] != "127.0.0.1" || e["requestId"] != "id-of-request-1" || int(e["status"].(float64)) != answer.status ||
				e["action"] != test.method || e["message"] != "HTTP API Audit" {
				t.Errorf("%s %s as %s: %s", test.method, test.path, test.user, raw)
			}
		}
		if strings.Join(got, ";") != test.want {
			t.Errorf("%s %s as %q: got %q (%d), want %q", test.method, test.path, test.user, got, answer.status, test.want)
		}
		if strings.Contains(raw, "canary") || strings.Contains(raw, "secret") {
			t.Errorf("a secret in %s", raw)
		}
	}
}

// Requests that nothing here could have answered fill no log, and what waits for the
// catalog is small, whatever clients send.
func TestAuditIsBounded(t *testing.T) {
	w, out := auditWorld()
	url := w.serve(t)
	for _, request := range [][2]string{{"POST", "/v2/"}, {"FOO", "/v2/a/blobs/uploads/x"}, {"PATCH", "/v2/a/blobs/uploads/"}, {"DELETE", "/livez"}} {
		do(t, request[0], url+request[1], nil).want(t, 405)
	}
	if out.Len() > 0 {
		t.Errorf("events of methods that there are not: %s", out)
	}
	do(t, strings.Repeat("A", 10_000), url+"/api/v1/x", nil, "X-User: alice")
	for _, e := range events(t, out) {
		if text := e["event"].(string); len(text) > registry.MaxAuditText {
			t.Errorf("an action of %d bytes", len(text))
		}
	}
	long := strings.Repeat("x", 1<<20)
	if got := clipAudit(long); unsafe.StringData(got) == unsafe.StringData(long) {
		t.Error("a text that waits holds the whole request")
	}
}

// TestAuditOfStrangers: who has not shown who they are can't fill the log by requests
// that are refused, by wrong credentials or by tokens for nobody. What is left out is
// counted. What users do is there, however often, and what nobody in particular may do.
func TestAuditOfStrangers(t *testing.T) {
	rules, err := access.Compile(&registry.AccessRules{Repositories: map[string]registry.RepositoryRules{
		"open/**": {AnonymousPolicy: []string{"read", "create"}},
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	blob := "/blobs/uploads/?digest=" + registry.SHA256.FromString("").String()
	for name, test := range map[string]struct {
		method, path, user, authorization string
		most                              int
		event                             string
	}{
		"no credentials":   {"POST", "/v2/a/blobs/uploads/", "", "", strangersEach, "blob.put a UNAUTHORIZED"},
		"no rights":        {"DELETE", "/api/v1/x", "", "", strangersEach, "api.delete /api/v1/x HTTP_403"},
		"a made-up token":  {"GET", "/v2/a/tags/list", "wrong", "Bearer x", strangersEach, "login.failed bearer UNAUTHORIZED"},
		"no password":      {"GET", "/v2/a/tags/list", "wrong", "Basic x", strangersEach, "login.failed basic UNAUTHORIZED"},
		"a wrong password": {"GET", "/v2/a/tags/list", "wrong", "Basic YWxpY2U6eA==", guessesEach, "login.failed basic UNAUTHORIZED"},
		"token for nobody": {"GET", "/zot/auth/token", "", "", strangersEach, "token.issue  ok"},
		"no name":          {"PUT", "/v2/A/manifests/t", "", "", strangersEach, "manifest.put  NAME_INVALID"},
		"a false login":    {"GET", "/zot/auth/callback/x", "", "", strangersEach, "login x UNAUTHORIZED"},
		"allowed":          {"POST", "/v2/open/a" + blob, "", "", 0, "blob.put open/a@" + registry.SHA256.FromString("").String() + " ok"},
		"a user":           {"DELETE", "/v2/a/manifests/t", "bob", "", 0, "manifest.delete a:t DENIED"},
	} {
		synctest.Test(t, func(t *testing.T) {
			w, out := auditWorld()
			w.deps.Catalog = memory.NewCatalog(memory.CatalogOptions{Access: rules})
			w.deps.REST = http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) })
			w.deps.Identity = identity.New(identity.Options{Catalog: w.deps.Catalog, Audience: "berth.test", Providers: []identity.Provider{{Name: "x", GitHub: true}}})
			t.Cleanup(func() { _ = w.deps.Identity.Close() })
			g := w.gateway(t)
			ask := func(times int) (count map[string]int) {
				for range times {
					r := httptest.NewRequest(test.method, test.path, nil)
					r.Header.Set("X-User", test.user)
					if test.authorization != "" {
						r.Header.Set("Authorization", test.authorization)
					}
					g.ServeHTTP(httptest.NewRecorder(), r)
				}
				count = map[string]int{}
				for _, e := range events(t, out) {
					if what := e["event"].(string); what != "login" || e["subject"] == "anonymous" || e["subject"] == "" {
						count[strings.Join([]string{what, e["target"].(string), e["result"].(string)}, " ")]++
					}
				}
				return count
			}
			const times = guessesEach + 50
			want := map[string]int{test.event: times}
			if test.most > 0 {
				want[test.event] = test.most
			}
			if diff := cmp.Diff(want, ask(times)); diff != "" {
				t.Errorf("%s: -want +got\n%s", name, diff)
			}
			time.Sleep(time.Minute) // fake: this is a bubble
			want = map[string]int{test.event: 1}
			if test.most > 0 {
				want[fmt.Sprintf("unrecorded %d more of who has not shown who they are TOOMANYREQUESTS", times-test.most)] = 1
			}
			if diff := cmp.Diff(want, ask(1)); diff != "" {
				t.Errorf("%s: a minute later: -want +got\n%s", name, diff)
			}
		})
	}
}

// sick is a catalog that refuses events for a while.
type sick struct {
	registry.Catalog
	away atomic.Bool
}

func (s *sick) RecordAudit(ctx context.Context, events []registry.AuditEvent) error {
	if s.away.Load() {
		return registry.ErrUnavailable
	}
	return s.Catalog.RecordAudit(ctx, events)
}

// TestS147AuditReachesTheCatalog: events get there within a second, wait while it is
// away, and are there when the gateway has ended.
func TestS147AuditReachesTheCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := auditWorld()
		c := &sick{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
		w.deps.Catalog = c
		g := w.gateway(t)
		ask := func() {
			r, _ := http.NewRequest("DELETE", "/v2/a/manifests/t", nil)
			r.Header.Set("X-User", "alice")
			g.ServeHTTP(&discard{h: http.Header{}}, r)
		}
		stored := func() int {
			synctest.Wait()
			list, err := c.Catalog.AuditLog(t.Context(), registry.Actor{}, registry.AuditQuery{Limit: 1000})
			if err != nil {
				t.Fatal(err)
			}
			return len(list.Items)
		}
		ask()
		time.Sleep(auditEvery)
		if n := stored(); n != 1 {
			t.Errorf("after a second: %d events", n)
		}
		c.away.Store(true)
		for range auditBatch + 1 { // sent at once, and refused
			ask()
		}
		time.Sleep(10 * auditEvery)
		if n := stored(); n != 1 {
			t.Errorf("while it is away: %d events", n)
		}
		synctest.Wait()
		c.away.Store(false)
		time.Sleep(2 * auditEvery)
		if n := stored(); n != auditBatch+2 {
			t.Errorf("after it came back: %d events", n)
		}
		ask()
		g.Close()
		if n := stored(); n != auditBatch+3 {
			t.Errorf("after the end: %d events", n)
		}
		if n := g.auditor.lost.Value(); n != 0 {
			t.Errorf("%d lost", n)
		}
	})
}

// TestAuditFile writes to a file that is moved away.
func TestAuditFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	w, c, err := auditlog.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := w.Write([]byte("{}\n")); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || string(b) != "{}\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, _, err := auditlog.Open(filepath.Join(path, "x"), nil); err == nil {
		t.Error("a file below a file was opened")
	}
}
