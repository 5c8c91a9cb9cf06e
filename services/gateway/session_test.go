package gateway

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/services/gateway/identity"
)

// TestLoginWithAnOldCookie: whoever logs in with a password gets a session of his own,
// also if the browser has the cookie of one that has ended, or of another user.
func TestLoginWithAnOldCookie(t *testing.T) {
	w := newWorld()
	w.closed = true
	w.withIdentity(t, identity.Options{}, "alice", "bob")
	at := w.serve(t)
	const ui = "X-Zot-Api-Client: zot-ui"
	login := func(user, cookie string) (session string) {
		for _, c := range do(t, "GET", at+"/v2/", nil, append(basic(user, user), ui, "Cookie: "+cookie)...).want(t, 200).header.Values("Set-Cookie") {
			if strings.HasPrefix(c, "session=") {
				session, _, _ = strings.Cut(c, ";")
			}
		}
		return session
	}
	first := login("alice", "")
	if again := login("alice", first); again != "" {
		t.Errorf("who has a session gets another one")
	}
	bobs := login("bob", first)
	if bobs == "" {
		t.Fatal("bob gets no session where alice has one: what he does there, she does")
	}
	key := makeKey(t, at, []string{"Cookie: " + bobs, ui, "Content-Type: application/json"}, `{"label":"k"}`)
	do(t, "GET", at+"/v2/", nil, basic("bob", key.APIKey)...).want(t, 200)
	do(t, "POST", at+"/zot/auth/logout", nil, "Cookie: "+first).want(t, 200)
	second := login("alice", first)
	do(t, "GET", at+"/v2/", nil, ui, "Cookie: "+second).want(t, 200)
}
