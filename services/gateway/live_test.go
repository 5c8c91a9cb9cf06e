package gateway

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry/config"
)

// TestS151LoginsFollowTheFile: API keys, sessions and tokens come and go with the keys of
// the file, while the gateway runs. What is known of credentials stays if other keys
// change, and nothing changes if a file can't be used.
func TestS151LoginsFollowTheFile(t *testing.T) {
	w := newWorld()
	var out logBuffer
	w.log = slog.New(slog.NewTextHandler(&out, nil))
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
	p := process("", w.log)
	p.Live = config.NewLive(first, func() (*config.Config, []config.Warning, error) { c := next; return &c, nil, nil }, w.log, p.Metrics)
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
	url := "http://" + addr
	alice := basic("alice", "sesame")
	const body = `{"label":"k"}`

	reload := func(change func(*config.Auth)) error {
		a := *next.HTTP.Auth
		change(&a)
		next.HTTP.Auth = &a
		return p.Live.Reload(t.Context())
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
