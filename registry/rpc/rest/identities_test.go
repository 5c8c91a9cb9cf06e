package rest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/memory"
)

func (a *asked) Users(_ context.Context, who registry.Actor, _ registry.Page[string]) (registry.List[registry.User], error) {
	return registry.List[registry.User]{}, a.note(who, "", "users")
}

func (a *asked) RemoveUser(_ context.Context, who registry.Actor, id string) error {
	return a.note(who, "", "remove user "+id)
}

func (a *asked) Credentials(_ context.Context, who registry.Actor, _ registry.CredentialKind, owner string) ([]registry.Credential, error) {
	return nil, a.note(who, "", "keys of "+owner)
}

func (a *asked) AddCredential(_ context.Context, who registry.Actor, c registry.Credential, _ []byte) error {
	return a.note(who, "", "key for "+c.Owner)
}

func (a *asked) RemoveCredential(_ context.Context, who registry.Actor, _ registry.CredentialKind, owner, id string) error {
	return a.note(who, "", "remove key "+id+" of "+owner)
}

func (a *asked) AccessRules(_ context.Context, who registry.Actor) (*registry.AccessRules, error) {
	return nil, a.note(who, "", "rules")
}

func (a *asked) ExplainAccess(_ context.Context, who, _ registry.Actor, repo registry.Name, _ registry.Reference, _ registry.Actions) (registry.AccessDecision, error) {
	return registry.AccessDecision{}, a.note(who, repo, "explain")
}

func (a *asked) ReviewAccess(_ context.Context, who registry.Actor, _ *registry.AccessRules) (registry.AccessReview, error) {
	return registry.AccessReview{}, a.note(who, "", "review")
}

// tenants is the API where boss administers, and ann and ben have rights of their own.
type tenants struct {
	t       *testing.T
	catalog registry.Catalog
	handler http.Handler
}

func newTenants(t *testing.T) *tenants {
	t.Helper()
	all := []string{"read", "create", "update", "delete"}
	p, err := access.Compile(&registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{"a/**": {Policies: []registry.AccessPolicy{{Users: []string{"ann"}, Actions: all}}}},
		AdminPolicy:  &registry.AccessPolicy{Users: []string{"boss"}, Actions: all},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := memory.NewCatalog(memory.CatalogOptions{Access: p})
	h, err := Handler(Options{Blobs: memory.NewBlobs(), Catalog: c})
	if err != nil {
		t.Fatal(err)
	}
	return &tenants{t, c, h}
}

// ask sends a request on behalf of an actor, and returns status and body.
func (x *tenants) ask(a registry.Actor, request, body string) (int, string) {
	x.t.Helper()
	method, target, _ := strings.Cut(request, " ")
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequest(method, Base+target, in)
	r = r.WithContext(registry.WithActor(r.Context(), a))
	rec := httptest.NewRecorder()
	x.handler.ServeHTTP(rec, r)
	return rec.Code, strings.NewReplacer(": ", ":", ", ", ",").Replace(rec.Body.String())
}

// want sends a request and returns the body.
func (x *tenants) want(a registry.Actor, request string, status int, says string) string {
	x.t.Helper()
	got, body := x.ask(a, request, "")
	if got != status || !strings.Contains(body, says) {
		x.t.Errorf("%s by %q: got %d %s, want %d with %s", request, a.ID, got, body, status, says)
	}
	return body
}

var boss, ann, ben = registry.Actor{ID: "boss"}, registry.Actor{ID: "ann"}, registry.Actor{ID: "ben"}

// TestUsersAndKeys: an operator's day with service accounts, and a user's with keys.
func TestUsersAndKeys(t *testing.T) {
	x := newTenants(t)
	x.want(boss, "GET /users", 200, `"users":[]`)
	x.want(boss, "PUT /users?id=robot&service=true&groups=ci%3Bbuilders&note=nightly", 200, "")
	x.want(boss, "GET /users", 200, `"groups":["ci","builders"],"note":"nightly"`)
	x.want(boss, "PUT /users?id=robot&disabled=true", 200, "")
	if body := x.want(boss, "GET /users", 200, `"disabled":true`); !strings.Contains(body, `"note":"nightly"`) || !strings.Contains(body, `"service":true`) {
		t.Errorf("what was not said did not stay: %s", body)
	}
	x.want(boss, "POST /keys?user=robot", 403, "disabled")
	x.want(boss, "PUT /users?id=robot&disabled=false", 200, "")
	x.want(boss, "PUT /users?id=robot&service=false", 403, "")
	x.want(boss, "PUT /users?id=somebody&groups=a", 400, "service accounts")
	x.want(boss, "PUT /users?service=true", 400, "name")

	key := object(t, x.want(boss, "POST /keys?user=robot&label=nightly&scopes=team/**:pull,push%20base/*:pull&expires=2999-01-01T00:00:00Z", 200, `"scopes":["team/**:pull,push","base/*:pull"]`))
	secret, _ := key["secret"].(string)
	hash := registry.SecretHash(registry.APIKey, secret)
	c, u, err := x.catalog.UseCredential(t.Context(), registry.APIKey, hash[:])
	if err != nil || c.Owner != "robot" || !u.Service || c.Label != "nightly" || c.Expires == 0 {
		t.Fatalf("the key is %+v of %+v, %v", c, u, err)
	}
	if body := x.want(boss, "GET /keys?user=robot", 200, c.ID); strings.Contains(body, secret) {
		t.Errorf("the list has the secret: %s", body)
	}
	for _, bad := range []string{"scopes=[", "scopes=a:dance", "expires=tomorrow", "expires=2001-01-01T00:00:00Z", "label=" + strings.Repeat("x", 501)} {
		x.want(boss, "POST /keys?user=robot&"+bad, 400, "")
	}
	x.want(boss, "DELETE /keys?user=robot&id="+c.ID, 200, "")
	x.want(boss, "DELETE /keys?user=robot&id="+c.ID, 400, "")
	if _, _, err := x.catalog.UseCredential(t.Context(), registry.APIKey, hash[:]); err == nil {
		t.Error("a key that was ended is good")
	}
	x.want(boss, "DELETE /users?id=robot", 200, "")
	x.want(boss, "GET /users", 200, `"users":[`)

	mine := object(t, x.want(ann, "POST /keys?label=mine", 200, `"user":"ann"`))
	x.want(ann, "GET /keys", 200, `"label":"mine"`)
	id, _ := mine["key"].(map[string]any)["id"].(string)
	x.want(ann, "DELETE /keys?id="+id, 200, "")
	x.want(registry.Actor{}, "GET /keys", 400, "user")
}

// TestS012KeysOfOthers: what ben may not touch looks the same whether it is there or
// not, and identities of keys are no numbers that follow each other.
func TestS012KeysOfOthers(t *testing.T) {
	x := newTenants(t)
	var ids []string
	for range 3 {
		made := object(t, x.want(ann, "POST /keys?label=k", 200, ""))
		id, _ := made["key"].(map[string]any)["id"].(string)
		ids = append(ids, id)
	}
	for i, id := range ids {
		if len(id) < 20 || i > 0 && id[:8] == ids[0][:8] {
			t.Errorf("identities: %v", ids)
		}
		for _, request := range []string{"GET /keys?user=%s", "DELETE /keys?user=%s&id=" + id, "POST /keys?user=%s", "DELETE /users?id=%s", "PUT /users?id=%s&disabled=true"} {
			there, body := x.ask(ben, fmt.Sprintf(request, "ann"), "")
			absent, other := x.ask(ben, fmt.Sprintf(request, "nobody"), "")
			if there != 403 || absent != there || body != other || strings.Contains(body, id) {
				t.Errorf("%s: %d %s, of nobody %d %s", request, there, body, absent, other)
			}
		}
		if status, _ := x.ask(ben, "DELETE /keys?id="+id, ""); status != 400 { // ben has no such key
			t.Errorf("a key of ann, as one of ben's: %d", status)
		}
	}
	x.want(ann, "GET /keys", 200, ids[2])
}

// TestS013NobodyPromotesThemselves: what makes more of a user is refused, in whatever
// words it is asked for.
func TestS013NobodyPromotesThemselves(t *testing.T) {
	x := newTenants(t)
	for _, a := range []registry.Actor{{}, ben, {ID: "boss", Scope: []registry.Grant{{Repositories: "a/**", Actions: registry.ActRead | registry.ActAdmin}}}} {
		for _, query := range []string{"id=ben&service=true", "id=ben&service=true&groups=admins", "id=boss&disabled=true", "id=ben&disabled=false"} {
			if status, body := x.ask(a, "PUT /users?"+query, ""); status != 403 && status != 401 {
				t.Errorf("%q puts %s: %d %s", a.ID, query, status, body)
			}
		}
		for _, query := range []string{"id=ben&admin=true", "id=ben&role=admin", "id=ben&isAdmin=true", "id=ben&user.admin=true", "id=ben&is_admin=1", "id=ben&origin=x", "id=ben&actor.system=true"} {
			for _, method := range []string{"PUT", "POST"} {
				status, body := x.ask(a, method+" /users?"+query, "")
				if status != 400 && status != 405 {
					t.Errorf("%s %s by %q: %d %s", method, query, a.ID, status, body)
				}
			}
		}
		if status, _ := x.ask(a, "PUT /users", `{"id":"ben","admin":true}`); status != 400 {
			t.Errorf("with a body: %d", status)
		}
	}
	if list, err := x.catalog.Users(t.Context(), boss, registry.Page[string]{Limit: 10}); err != nil || len(list.Items) != 0 {
		t.Errorf("users: %+v, %v", list.Items, err)
	}
}

// TestKeysMakeNoBetterKeys: a key that expires or is limited makes none that does not
// or is not.
func TestKeysMakeNoBetterKeys(t *testing.T) {
	x := newTenants(t)
	soon := time.Now().Add(time.Hour).UnixMicro()
	byKey := func(id string) registry.Actor {
		return registry.Actor{ID: id, Claims: map[string]string{registry.ClaimBy: "key", registry.ClaimUntil: fmt.Sprint(soon)}}
	}
	x.want(byKey("ann"), "POST /keys", 403, "log in")
	x.want(byKey("boss"), "POST /keys?user=robot&expires=2999-01-01T00:00:00Z", 403, "longer")
	x.want(byKey("boss"), "POST /keys?user=robot", 200, "")
	all, err := x.catalog.Credentials(t.Context(), boss, registry.APIKey, "robot")
	if err != nil || len(all) != 1 || all[0].Expires != soon ||
		!maps.Equal(all[0].Claims, map[string]string{registry.ClaimVia: registry.ViaAny}) {
		t.Errorf("a key made by one that expires: %+v, %v", all, err)
	}
	limited := registry.Actor{ID: "ann", Scope: []registry.Grant{{Repositories: "**", Actions: registry.ActRead}}}
	x.want(limited, "POST /keys", 403, "limits")
	// What a user makes ends with the user: it has the claim of who vouches.
	vouched := registry.Actor{ID: "ann", Claims: map[string]string{"berth.via": "htpasswd", registry.ClaimBy: "session"}}
	x.want(vouched, "POST /keys", 200, "")
	if all, err = x.catalog.Credentials(t.Context(), boss, registry.APIKey, "ann"); err != nil || len(all) != 1 || all[0].Claims["berth.via"] != "htpasswd" || len(all[0].Claims) != 1 {
		t.Errorf("a key made in a session: %+v, %v", all, err)
	}
}

// TestAccess: rules are shown, explained and reviewed, for administrators.
func TestAccess(t *testing.T) {
	x := newTenants(t)
	x.want(boss, "GET /access", 200, `"adminPolicy":{`)
	x.want(boss, "GET /access/explain?user=ann&action=delete&name=a/b&reference=v1", 200, `"allowed":true,"rule":"repositories.a/**.policies[0]"`)
	x.want(boss, "GET /access/explain?action=read&name=a/b", 200, `"allowed":false`)
	x.want(boss, "GET /access/explain?action=dance&name=a/b", 400, "")
	x.want(boss, "GET /access/explain?action=read&name=A", 400, "")
	const next = `{"repositories":{"a/**":{"policies":[{"users":["ann"],"actions":["read"]}]}},"adminPolicy":{"users":["boss","ben"],"actions":["read","create","update","delete"]}}`
	if status, body := x.ask(boss, "POST /access/review", next); status != 200 || !strings.Contains(body, `{"kind":"user","name":"ben","gains":["admin","metrics"],"loses":[],"repositories":"0","examples":[]}`) {
		t.Errorf("review: %d %s", status, body)
	}
	for body, want := range map[string]int{
		"null": 200, "{}": 200, "": 400, "[]": 400, `{"repositories":{"[":{}}}`: 400, `{"adminPolice":{}}`: 400, `{} {}`: 400, "{": 400, `"text"`: 400,
		`{"x":"` + strings.Repeat("x", registry.MaxRulesBytes) + `"}`: 413,
	} {
		if status, got := x.ask(boss, "POST /access/review", body); status != want {
			t.Errorf("review of %.40s: %d %s, want %d", body, status, got, want)
		}
	}
	for _, request := range []string{"GET /access", "POST /access/review", "GET /access/explain?action=read&name=a/b"} {
		body := ""
		if strings.HasPrefix(request, "POST") {
			body = next
		}
		if status, got := x.ask(ben, request, body); status != 403 || strings.Contains(got, "ann") {
			t.Errorf("%s by ben: %d %s", request, status, got)
		}
	}
	// No length is told: what is read is bounded all the same.
	r := httptest.NewRequest("POST", reviewPath, struct{ io.Reader }{bytes.NewReader(make([]byte, registry.MaxRulesBytes+1))})
	r.ContentLength = -1
	rec := httptest.NewRecorder()
	x.handler.ServeHTTP(rec, r.WithContext(registry.WithActor(r.Context(), boss)))
	if rec.Code != 413 {
		t.Errorf("a body without an end: %d", rec.Code)
	}
}
