package rest

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/memory"
)

func (a *asked) Announced(_ context.Context, who registry.Actor, q registry.AnnouncementQuery) (registry.List[registry.Announcement], error) {
	return registry.List[registry.Announcement]{}, a.note(who, q.Repo, "events")
}

func (a *asked) Sinks(_ context.Context, who registry.Actor) ([]registry.SinkStatus, error) {
	return nil, a.note(who, "", "sinks")
}

func (a *asked) RemoveTrusted(_ context.Context, who registry.Actor, id string) error {
	return a.note(who, "", "trust no more "+id)
}

// scanning is a scanner that also has a database, and writes bills.
type scanning struct {
	*memory.Scans
	attached []string // by whom, to what
}

func (s *scanning) ScanQueue(ctx context.Context) (registry.ScanQueue, error) {
	q, err := s.Scans.ScanQueue(ctx)
	q.DB = registry.ScanDB{Version: "v7", Updated: 1_700_000_000_000_000, Source: "file"}
	q.Running = []registry.RunningScan{{Digest: registry.Digest(unknown), Repository: "z/z", Layers: 3, LayersDone: 1, Bytes: 5 << 40, Since: 1}}
	return q, err
}

func (s *scanning) UpdateDB(context.Context) (registry.ScanDB, error) {
	return registry.ScanDB{Version: "v8"}, nil
}

func (s *scanning) SBOM(_ context.Context, repo registry.Name, d registry.Digest, f registry.SBOMFormat) ([]byte, error) {
	return []byte(`{"of":"` + string(repo) + "@" + string(d) + `","format":"` + string(f) + `"}`), nil
}

func (s *scanning) AttachSBOM(_ context.Context, a registry.Actor, repo registry.Name, d registry.Digest, f registry.SBOMFormat) (registry.Digest, error) {
	s.attached = append(s.attached, a.ID+" "+string(repo)+"@"+string(d)+" "+string(f))
	return registry.Digest(unknown), nil
}

// judging lets nobody but ci pull.
type judging struct{}

func (judging) Judge(_ context.Context, _, whom registry.Actor, repo registry.Name, d registry.Digest) (registry.PullVerdict, error) {
	if whom.ID == "ci" {
		return registry.PullVerdict{Warnings: []string{"careful"}, Steps: []string{"for ci: " + strings.Join(whom.Groups, "+")}}, nil
	}
	return registry.PullVerdict{Denied: "bad " + string(repo), Steps: []string{"looked at " + string(d)}}, nil
}

func (judging) Signatures(context.Context, registry.Actor, registry.Name, registry.Digest) ([]registry.Signature, error) {
	return []registry.Signature{{Tool: registry.ToolCosign, Manifest: registry.Digest(unknown), Trusted: true, Author: "KEY"}, {Tool: registry.ToolNotation, Problem: "expired"}}, nil
}

// secured is the API over a/b, which ann owns and rea reads, where boss administers.
func secured(t *testing.T) (*tenants, *scanning) {
	t.Helper()
	all := []string{"read", "create", "update", "delete"}
	p, err := access.Compile(&registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{"a/**": {Policies: []registry.AccessPolicy{{Users: []string{"ann"}, Actions: all}, {Users: []string{"rea"}, Actions: all[:1]}}}},
		AdminPolicy:  &registry.AccessPolicy{Users: []string{"boss"}, Actions: all},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{Access: p}), as: ann}
	w.push(t, "a/b")
	s := &scanning{Scans: memory.NewScans()}
	finding := func(id string, sev registry.Severity) registry.ScanFinding {
		return registry.ScanFinding{ID: id, Severity: sev, Title: "a hole", Packages: []registry.FindingPackage{{Name: "openssl", Version: "1", Fixed: "2", Layer: registry.SHA256.FromBytes(layer)}}}
	}
	s.Put(registry.ScanStatus{Digest: registry.SHA256.FromBytes(index), State: registry.ScanDone, DB: "v7", At: 1_700_000_000_000_000, Packages: 9, OS: "debian 12"},
		finding("CVE-1", registry.SeverityLow), finding("CVE-2", registry.SeverityCritical), finding("CVE-3", registry.SeverityHigh))
	h, err := Handler(Options{Blobs: w.blobs, Catalog: w.catalog, Scans: s, Policy: judging{}})
	if err != nil {
		t.Fatal(err)
	}
	return &tenants{t, w.catalog, h}, s
}

var rea = registry.Actor{ID: "rea"}

// TestScans: what was found in an image, over REST.
func TestScans(t *testing.T) {
	x, s := secured(t)
	const at = "/repositories/a/b/-/manifests/v1"
	d := sum(index)
	x.want(rea, "GET "+at+"/scan", 200, `"digest":"`+d+`","state":"done","reason":"","counts":{"unknown":"0","low":"1","medium":"0","high":"1","critical":"1"},"database":"v7","scanned":"2023-11-14T22:13:20Z","packages":"9","os":"debian 12"`)
	first := object(t, x.want(rea, "GET "+at+"/findings?limit=2", 200, `"packages":[{"name":"openssl","version":"1","fixed":"2","path":"","layer":"`+sum(layer)+`"}]`))
	ids := func(page map[string]any) (all []string) {
		for _, f := range page["findings"].([]any) {
			all = append(all, f.(map[string]any)["id"].(string))
		}
		return all
	}
	if diff := cmp.Diff([]string{"CVE-2", "CVE-3"}, ids(first)); diff != "" || first["total"] != "3" {
		t.Errorf("%s of %v", diff, first["total"])
	}
	second := object(t, x.want(rea, "GET "+at+"/findings?limit=2&after="+first["next"].(string), 200, ""))
	if diff := cmp.Diff([]string{"CVE-1"}, ids(second)); diff != "" || second["next"] != "" {
		t.Errorf("%s, then %q", diff, second["next"])
	}
	if got := ids(object(t, x.want(rea, "GET "+at+"/findings?severity=HIGH&search=openssl&sort=id", 200, ""))); cmp.Diff([]string{"CVE-3"}, got) != "" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"severity=BAD", "sort=password", "after=-1", "after=x", "after=99999999999", "limit=0", "limit=1001"} {
		x.want(rea, "GET "+at+"/findings?"+bad, 400, "")
	}
	for format, want := range map[string]string{"": "spdx-json", "?format=cyclonedx": "cyclonedx"} {
		bill := object(t, x.want(rea, "GET "+at+"/sbom"+format, 200, `"mediaType":"`+registry.SBOMFormat(want).MediaType()+`"`))
		content, err := base64.StdEncoding.DecodeString(bill["content"].(string))
		if err != nil || !bytes.Contains(content, []byte(`"of":"a/b@`+d+`","format":"`+want+`"`)) {
			t.Errorf("%s: %s, %v", format, content, err)
		}
	}
	x.want(rea, "GET "+at+"/sbom?format=xml", 400, "")
	x.want(ann, "POST "+at+"/sbom?format=cyclonedx", 200, `"manifest":"`+unknown+`"`)
	if diff := cmp.Diff([]string{"ann a/b@" + d + " cyclonedx"}, s.attached); diff != "" {
		t.Error(diff)
	}
	x.want(boss, "GET /scans", 200, `"version":"v7"`)
	x.want(boss, "GET /scans", 200, `"running":[{"digest":"`+unknown+`","repository":"z/z","layers":"3","layersDone":"1","bytes":"5497558138880"`)
	x.want(boss, "POST /scans/database", 200, `"version":"v8"`)
	x.want(boss, "GET /scans/affected?vulnerability=CVE-1", 200, `{"digests":["`+d+`"],"next":""}`)
	x.want(boss, "GET /scans/affected", 400, "CVE-")
	x.want(boss, "POST "+at+"/scan", 200, `"digest":"`+d+`"`)
	x.want(rea, "GET "+at+"/scan", 200, `"state":"queued"`)
	x.want(rea, "GET /health", 200, `"name":"scanner","serving":true`)
}

// TestPolicy: what gates and signatures say, over REST; and that the content of a
// manifest is not given there to those whom a gate refuses it.
func TestPolicy(t *testing.T) {
	x, _ := secured(t)
	const at = "/repositories/a/b/-/manifests/v1"
	x.want(rea, "GET "+at+"/pull", 200, `"allowed":false,"denied":"bad a/b","warnings":[],"steps":["looked at `+sum(index)+`"]`)
	x.want(rea, "GET "+at+"/pull?user=ci", 403, "administrators")
	x.want(rea, "GET "+at+"/pull?groups=ops", 403, "administrators")
	x.want(boss, "GET "+at+"/pull?user=ci&groups=a%3Bb", 200, `"allowed":true,"denied":"","warnings":["careful"],"steps":["for ci:a+b"]`)
	x.want(rea, "GET "+at+"/signatures", 200, `{"tool":"cosign","manifest":"`+unknown+`","trusted":true,"author":"KEY","problem":""},{"tool":"notation"`)
	x.want(rea, "GET "+at, 200, `"content":""`)
	for _, ref := range []string{"v1", sum(index)} {
		if body := x.want(rea, "GET /repositories/a/b/-/manifests/"+ref+"?content=true", 403, "bad a/b"); strings.Contains(body, `"content"`) {
			t.Errorf("it is there all the same: %s", body)
		}
	}
	k := registry.TrustedKey{Tool: registry.ToolCosign, PEM: "PEM"}
	if err := x.catalog.AddTrusted(t.Context(), boss, k); err != nil {
		t.Fatal(err)
	}
	x.want(boss, "GET /trust", 200, `"keys":[{"id":"`+registry.TrustedID(k)+`","tool":"cosign","store":"","pem":"PEM","user":"boss"`)
	x.want(boss, "DELETE /trust?id=none", 400, "")
	x.want(ann, "DELETE /trust?id="+registry.TrustedID(k), 403, "")
	x.want(boss, "DELETE /trust?id="+registry.TrustedID(k), 200, "")
	x.want(boss, "GET /trust", 200, `"keys":[]`)
}

// TestEvents: the history of events page by page, and who is told.
func TestEvents(t *testing.T) {
	x, _ := secured(t)
	var all []registry.Announcement
	for i, repo := range []registry.Name{"a/b", "c", "a/b"} {
		at := int64(1_700_000_000_000_000 + i)
		all = append(all, registry.Announcement{
			ID: registry.NewAuditID(at), Type: registry.ImageUpdated, At: at, Repo: repo, Reference: "v1", Digest: registry.Digest(unknown), Actor: "ann", Address: "10.0.0.1", Method: "PUT", Agent: "crane",
		})
	}
	if err := x.catalog.Announce(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	x.want(boss, "GET /events?limit=1", 200, `{"events":[{"id":"`+all[2].ID+`","time":"2023-11-14T22:13:20.000002Z","type":"zotregistry.image.updated","repository":"a/b","reference":"v1","digest":"`+
		unknown+`","mediaType":"","actor":"ann","address":"10.0.0.1","method":"PUT","userAgent":"crane"}],"next":"`+all[2].ID+`"}`)
	x.want(boss, "GET /events?repository=a/b&after="+all[2].ID, 200, `{"events":[{"id":"`+all[0].ID)
	x.want(boss, "GET /events/sinks", 200, `{"sinks":[]}`)
	for _, bad := range []string{"after=x", "limit=0", "repository=A"} {
		x.want(boss, "GET /events?"+bad, 400, "")
	}
}

// TestS001ScansMatrix asks for what scans, gates, trust and events say on behalf of
// each role: nobody in particular, a user without rights, a reader, an owner, an
// administrator. Who may not read is not told what is there.
func TestS001ScansMatrix(t *testing.T) {
	readers, admins := [5]int{403, 403, 200, 200, 200}, [5]int{403, 403, 403, 403, 200}
	matrix := map[string]struct {
		query string
		want  [5]int
	}{
		"get /scans": {"", admins}, "post /scans/database": {"", admins}, "get /scans/affected": {"?vulnerability=CVE-1", admins},
		"get /repositories/{repository}/-/manifests/{reference}/scan":       {"", readers},
		"post /repositories/{repository}/-/manifests/{reference}/scan":      {"", admins},
		"get /repositories/{repository}/-/manifests/{reference}/findings":   {"", readers},
		"get /repositories/{repository}/-/manifests/{reference}/sbom":       {"", readers},
		"post /repositories/{repository}/-/manifests/{reference}/sbom":      {"", readers}, // the scanner asks the catalog who may push
		"get /repositories/{repository}/-/manifests/{reference}/signatures": {"", readers},
		"get /repositories/{repository}/-/manifests/{reference}/pull":       {"", readers},
		"get /trust": {"", admins}, "delete /trust": {"?id=x", [5]int{403, 403, 403, 403, 400}}, // there is none
		"get /events": {"", admins}, "get /events/sinks": {"", admins},
	}
	x, _ := secured(t)
	tagged := map[string]bool{"scans": true, "policy": true, "events": true}
	for path, methods := range parseDocument(t).Paths {
		for method, op := range methods {
			request := method + " " + strings.TrimPrefix(path, Base)
			row, ok := matrix[request]
			if len(op.Tags) != 1 {
				t.Errorf("%s has the tags %q in the OpenAPI document, want one", request, op.Tags)
				continue
			}
			if ok != tagged[op.Tags[0]] {
				t.Errorf("%s is in the matrix: %v", request, ok)
			}
			if !ok {
				continue
			}
			for i, who := range []registry.Actor{{}, ben, rea, ann, boss} {
				ask := func(repo string) (int, string) {
					target := strings.NewReplacer("{repository}", repo, "{reference}", "v1").Replace(strings.TrimPrefix(path, Base))
					return x.ask(who, strings.ToUpper(method)+" "+target+row.query, "")
				}
				got, body := ask("a/b")
				if got != row.want[i] {
					t.Errorf("%s by %q: got %d %s, want %d", request, who.ID, got, body, row.want[i])
				}
				if other, text := ask("a/absent"); got == http.StatusForbidden && (other != got || text != body) {
					t.Errorf("%s by %q: what is there is told from what is not: %s, %s", request, who.ID, body, text)
				}
			}
		}
	}
}

// TestS090Texts: what others wrote is no page to a browser, and no address of code.
func TestS090Texts(t *testing.T) {
	x, s := secured(t)
	const markup = `<img src=x onerror=alert(1)>`
	s.Put(registry.ScanStatus{Digest: registry.SHA256.FromBytes(index), State: registry.ScanDone, DB: "1", Reason: markup, OS: markup},
		registry.ScanFinding{ID: "CVE-1", Title: markup, Description: markup, Reference: "javascript:alert(1)", Packages: []registry.FindingPackage{{Name: markup}}})
	r := httptest.NewRequest("GET", Base+"/repositories/a/b/-/manifests/v1/findings", nil)
	r.Header.Set("Accept", "text/html")
	rec := httptest.NewRecorder()
	x.handler.ServeHTTP(rec, r.WithContext(registry.WithActor(r.Context(), rea)))
	if h := rec.Header(); rec.Code != 200 || h.Get("Content-Type") != "application/json" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got %d %v", rec.Code, h)
	}
	if body := rec.Body.String(); strings.Contains(body, "javascript") || !strings.Contains(body, "onerror") {
		t.Error(body)
	}
}

// TestNoScans: where nobody scans that is said, to those who might know.
func TestNoScans(t *testing.T) {
	w := newWorld(t)
	base := w.serve(t)
	const at = "/repositories/a/-/manifests/v1"
	for request, status := range map[string]int{
		"GET /scans": 400, "POST /scans/database": 400, "GET /scans/affected?vulnerability=x": 400, "GET " + at + "/scan": 400, "POST " + at + "/scan": 400,
		"GET " + at + "/findings": 400, "GET " + at + "/sbom": 400, "POST " + at + "/sbom": 400,
		"GET " + at + "/pull": 200, "GET " + at + "/signatures": 200, "GET /trust": 200, "GET /events": 200, "GET /events/sinks": 200,
	} {
		method, path, _ := strings.Cut(request, " ")
		got := ask(t, method, base+path)
		if got.status != status && (status == 200 || got.status < 400) || status != 200 && !strings.Contains(got.body, "extensions.search.cve") {
			t.Errorf("%s: got %d %s", request, got.status, got.body)
		}
	}
}
