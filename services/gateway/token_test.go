package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry"
)

var testKey = registry.Key{ID: "k1", Secret: []byte("0123456789abcdef0123456789abcdef")}

// rotating is a keyring whose keys change and which counts questions.
type rotating struct {
	mu    sync.Mutex // guards all below
	keys  []registry.Key
	asked int
}

func (r *rotating) UploadKeys(context.Context) ([]registry.Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return r.keys, nil
}

func TestTokenBindsEverything(t *testing.T) {
	s := session{repo: "a/b", actor: "alice", id: idA, pool: "/fast", alg: registry.SHA512}
	text := s.seal(testKey)
	ring := &keyring{from: &rotating{keys: []registry.Key{testKey}}}

	got, err := ring.open(t.Context(), text, session{repo: s.repo, actor: s.actor, id: s.id})
	if err != nil || got != s {
		t.Fatalf("got %+v, %v; want %+v", got, err, s)
	}
	for name, other := range map[string]session{
		"another repository": {repo: "a/c", actor: s.actor, id: s.id},
		"another actor":      {repo: s.repo, actor: "bob", id: s.id},
		"nobody":             {repo: s.repo, actor: "", id: s.id},
		"another upload":     {repo: s.repo, actor: s.actor, id: "01890a5d-ac96-774b-bcce-b302099a8058"},
		"a moved border":     {repo: "a", actor: "/balice", id: s.id},
	} {
		if _, err := ring.open(t.Context(), text, other); !errors.Is(err, registry.ErrUploadUnknown) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
	for i := range len(text) {
		c := byte('A')
		if text[i] == c {
			c = 'B'
		}
		forged := text[:i] + string(c) + text[i+1:]
		if _, err := ring.open(t.Context(), forged, s); !errors.Is(err, registry.ErrUploadUnknown) {
			t.Errorf("byte %d changed: got error %v", i, err)
		}
	}
	forger := registry.Key{ID: testKey.ID, Secret: make([]byte, 32)}
	if _, err := ring.open(t.Context(), s.seal(forger), s); !errors.Is(err, registry.ErrUploadUnknown) {
		t.Errorf("made with another key: got error %v", err)
	}
}

func TestKeyringFollowsRotation(t *testing.T) {
	next := registry.Key{ID: "k2", Secret: make([]byte, 32)}
	source := &rotating{keys: []registry.Key{testKey}}
	ring := &keyring{from: source}
	s := session{repo: "a", id: idA}
	for range 3 {
		if _, err := ring.open(t.Context(), s.seal(testKey), s); err != nil {
			t.Fatal(err)
		}
	}
	if source.asked != 1 {
		t.Errorf("asked for keys %d times, want once", source.asked)
	}
	source.mu.Lock()
	source.keys = []registry.Key{next, testKey}
	source.mu.Unlock()
	if _, err := ring.open(t.Context(), s.seal(next), s); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := ring.open(t.Context(), s.seal(testKey), s); err != nil {
		t.Errorf("the old key: %v", err)
	}
	if key, err := ring.signing(t.Context()); err != nil || key.ID != next.ID {
		t.Errorf("signs with %q, %v", key.ID, err)
	}
}

// TestP13AnyGatewayContinuesAnUpload moves an upload over three gateways that
// share nothing but the ports.
func TestP13AnyGatewayContinuesAnUpload(t *testing.T) {
	w := newWorld()
	one, two, three := w.serve(t), w.serve(t), w.serve(t)
	loc := do(t, "POST", one+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
	loc = do(t, "PATCH", two+loc, strings.NewReader("abc")).want(t, 202).header.Get("Location")
	d := registry.SHA256.FromString("abcdef")
	do(t, "PUT", three+loc+"&digest="+d.String(), strings.NewReader("def")).want(t, 201)
	if got := do(t, "GET", one+"/v2/a/blobs/"+d.String(), nil).want(t, 200).body; got != "abcdef" {
		t.Errorf("got %q", got)
	}
}

// TestForeignTokensAreUnknown sends a good token from another actor and to
// another repository.
func TestForeignTokensAreUnknown(t *testing.T) {
	w := newWorld()
	w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
		user, _, _ := r.BasicAuth()
		return registry.Actor{ID: user}, nil
	})
	url := w.serve(t)
	const alice, bob = "Authorization: Basic YWxpY2U6eA==", "Authorization: Basic Ym9iOng="
	loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil, alice).want(t, 202).header.Get("Location")
	for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		target := url + loc + "&digest=" + digestA
		for _, got := range []answer{
			do(t, method, target, strings.NewReader("x"), bob),
			do(t, method, target, strings.NewReader("x")),
			do(t, method, strings.Replace(target, "/v2/a/", "/v2/b/", 1), strings.NewReader("x"), alice),
		} {
			if got.want(t, 404); !strings.Contains(got.body, "BLOB_UPLOAD_UNKNOWN") {
				t.Errorf("%s: got %q", method, got.body)
			}
		}
	}
	if got := do(t, "GET", url+loc, nil, alice).want(t, 204).header.Get("Range"); got != "0-0" {
		t.Errorf("strangers appended: Range %s", got)
	}
}

func FuzzToken(f *testing.F) {
	s := session{repo: "a", actor: "b", id: idA, pool: "/p", alg: registry.SHA256}
	f.Add(s.seal(testKey))
	f.Add("")
	f.Add("AQAAAA")
	f.Add(strings.Repeat("A", 100))
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := parseToken(text)
		if err != nil {
			if !errors.Is(err, registry.ErrUploadUnknown) {
				t.Fatal(err)
			}
			return
		}
		ring := &keyring{from: &rotating{keys: []registry.Key{testKey}}}
		opened, err := ring.open(t.Context(), text, session{repo: "a", actor: "b", id: idA})
		if err == nil && opened.seal(testKey) != text {
			t.Fatalf("%q opens as %+v, which is %q", text, opened, opened.seal(testKey))
		}
		_ = tok
	})
}
