package gateway

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// serveLive runs a gateway of a configuration, which reads *next when the returned one is
// told to reload.
func (w *world) serveLive(t *testing.T, first, next *config.Config) (url string, live *config.Live) {
	t.Helper()
	var out logBuffer
	p := process("", slog.New(slog.NewTextHandler(&out, nil)))
	p.Live = config.NewLive(first, func() (*config.Config, []config.Warning, error) { c := *next; return &c, nil, nil }, w.log, p.Metrics)
	unit, err := Configured(t.Context(), first, w.deps, p)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- unit.Run() }()
	t.Cleanup(func() {
		if err := unit.Stop(context.Background()); err != nil { // the test's own has ended
			t.Error(err)
		}
		<-done
	})
	_, addr, _ := strings.Cut(out.take(), "address=")
	addr, _, _ = strings.Cut(addr, "\n")
	return "http://" + addr, p.Live
}

// TestS151LoginsFollowTheFile: API keys, sessions and tokens come and go with the keys of
// the file, while the gateway runs. What is known of credentials stays if other keys
// change, and nothing changes if a file can't be used.
func TestS151LoginsFollowTheFile(t *testing.T) {
	w := newWorld()
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(file, []byte("alice:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := config.Defaults().HTTP
	h.Port = "0"
	first := httpOf(h)
	first.HTTP.Auth = &config.Auth{HTPasswd: &config.HTPasswd{Path: file}}
	next := *first
	url, live := w.serveLive(t, first, &next)
	alice := basic("alice", "sesame")
	const body = `{"label":"k"}`

	reload := func(change func(*config.Auth)) error {
		a := *next.HTTP.Auth
		change(&a)
		next.HTTP.Auth = &a
		return live.Reload(t.Context())
	}
	do(t, "POST", url+"/zot/auth/apikey", strings.NewReader(body), alice...).want(t, 404)
	if err := reload(func(a *config.Auth) { a.APIKey = true }); err != nil {
		t.Fatal(err)
	}
	key := makeKey(t, url, alice, body)
	do(t, "GET", url+"/v2/", nil, basic("alice", key.APIKey)...).want(t, 200)
	if err := reload(func(a *config.Auth) { a.FailDelay = 1 }); err != nil {
		t.Fatal(err)
	}
	do(t, "GET", url+"/v2/", nil, basic("alice", key.APIKey)...).want(t, 200)
	good := next
	if err := reload(func(a *config.Auth) { a.APIKey, a.SessionKeysFile = false, filepath.Join(dir, "nothing") }); err == nil {
		t.Error("a file that can't be used was applied")
	}
	do(t, "GET", url+"/v2/", nil, basic("alice", key.APIKey)...).want(t, 200)
	next = good
	if err := reload(func(a *config.Auth) { a.APIKey, a.FailDelay = false, 0 }); err != nil {
		t.Fatal(err)
	}
	do(t, "GET", url+"/v2/", nil, basic("alice", key.APIKey)...).want(t, 401)
	do(t, "POST", url+"/zot/auth/apikey", strings.NewReader(body), alice...).want(t, 404)
	do(t, "GET", url+"/v2/", nil, alice...).want(t, 200)
}

// TestS151FirstMethodOfTheFile: the first method of authentication that a file gets while
// the gateway runs keeps disabled users out, also if the block was there without any.
func TestS151FirstMethodOfTheFile(t *testing.T) {
	w := newWorld()
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("alice:"+string(hash)+"\nbob:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.deps.Catalog.PutUser(t.Context(), registry.Actor{System: true}, registry.User{ID: "alice", Disabled: true}); err != nil {
		t.Fatal(err)
	}
	h := config.Defaults().HTTP
	h.Port, h.Auth = "0", &config.Auth{}
	first := httpOf(h)
	next := *first
	next.HTTP.Auth = &config.Auth{HTPasswd: &config.HTPasswd{Path: file}}
	url, live := w.serveLive(t, first, &next)
	do(t, "GET", url+"/v2/", nil, basic("alice", "sesame")...).want(t, 200) // nobody asks
	if err := live.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	do(t, "GET", url+"/v2/", nil, basic("bob", "sesame")...).want(t, 200)
	do(t, "GET", url+"/v2/", nil, basic("alice", "sesame")...).want(t, 401)
	do(t, "GET", url+"/zot/auth/token?scope=registry:catalog:*", nil, basic("bob", "sesame")...).want(t, 200)
}

// TestS151SettingsFollowTheFile: what else requests go by is that of the file when they
// begin.
func TestS151SettingsFollowTheFile(t *testing.T) {
	w := newWorld()
	w.deps.Blobs = presigned{w.deps.Blobs, nil}
	first := httpOf(config.Defaults().HTTP)
	first.HTTP.Port = "0"
	next := *first
	p := process("", w.log)
	p.Live = config.NewLive(first, func() (*config.Config, []config.Warning, error) { c := next; return &c, nil, nil }, w.log, p.Metrics)
	g, err := New(configOf(first, ""), w.deps, w.log)
	if err != nil {
		t.Fatal(err)
	}
	g.follow(w.deps, p)
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	blob := server.URL + "/v2/r/blobs/" + pushBlob(t, server.URL, "r", "twenty bytes of blob").String()
	redirects := func() bool { return do(t, "GET", blob, nil).status == 307 }
	for _, row := range []struct {
		key    string
		change func()
		holds  func() bool
	}{
		{"storage.redirectBlobURL", func() { next.Storage.RedirectBlobURL = true }, redirects},
		{"storage.redirect.minSize", func() { next.Storage.Redirect.MinSize = 21 }, func() bool { return !redirects() }},
		{"http.writeTimeout", func() { next.HTTP.WriteTimeout = 7 * time.Second }, func() bool {
			var idle time.Duration
			g.table[apiBase].get = func(_ *Gateway, x *exchange) error { idle = x.idle; return x.bytes(200, "text/plain", nil) }
			do(t, "GET", server.URL+"/v2/", nil)
			return idle == 7*time.Second
		}},
		{"http.uploadsPerClient", func() { next.HTTP.UploadsPerClient = 8 }, func() bool { return g.clients.most.Load() == 8 }},
	} {
		if row.holds() {
			t.Errorf("%s holds before", row.key)
		}
		row.change()
		if err := p.Live.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !row.holds() || !p.Live.Applies(row.key) {
			t.Errorf("%s does not hold", row.key)
		}
	}
}
