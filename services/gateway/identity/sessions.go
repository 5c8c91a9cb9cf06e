package identity

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// Cookies of a session: one with the secret, which scripts can't read, and one
// with the user's name for them, both as zot's.
const (
	sessionCookie = "session"
	userCookie    = "user"
	sessionLife   = 2 * time.Hour
	sessionPrefix = "zse_"
)

// sessions is the method of authentication by the cookie of a login. Cookies are
// believed only from zot's web UI, which says so in a header that no form and no
// script of another site can set, and never for images (see [auth.Request.UI]).
type sessions struct{ s *Service }

func (sessions) Name() string { return "session" }

// Authenticate implements [auth.Method].
func (m sessions) Authenticate(ctx context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	if !q.UI || q.Wants.Repo != "" || len(q.Wants.Actions) > 0 && !q.Wants.Search {
		return registry.Actor{}, auth.Unknown, nil
	}
	c, u, err := m.s.session(q.HTTP)
	if errors.Is(err, registry.ErrUnauthorized) {
		return registry.Actor{}, auth.Unknown, nil
	}
	if err != nil {
		return registry.Actor{}, auth.Unknown, err
	}
	if err := sameSite(q.HTTP); err != nil {
		return registry.Actor{}, auth.Unknown, err
	}
	return sessionActor(c, u), auth.Accepted, nil
}

func sessionActor(c registry.Credential, u registry.User) registry.Actor {
	return registry.Actor{ID: c.Owner, Groups: u.Groups, Claims: cameBy("session", c.Claims)}
}

// session returns the session whose cookie r has, or [registry.ErrUnauthorized].
func (s *Service) session(r *http.Request) (registry.Credential, registry.User, error) {
	secret := sessionSecret(r)
	if secret == "" {
		return registry.Credential{}, registry.User{}, registry.ErrUnauthorized
	}
	return s.trust.owner(r.Context(), registry.Session, secret)
}

// sessionSecret returns the secret in r's cookie, "" if there is none.
func sessionSecret(r *http.Request) string {
	c, err := r.Cookie(sessionCookie)
	if err != nil || len(c.Value) > 100 || len(c.Value) < len(sessionPrefix) || c.Value[:len(sessionPrefix)] != sessionPrefix {
		return ""
	}
	return c.Value
}

// crossOrigin tells requests of other sites apart, by Sec-Fetch-Site or Origin.
var crossOrigin = http.NewCrossOriginProtection()

// sameSite returns [registry.ErrDenied] for a request that changes something and
// that another site may have made a browser send.
func sameSite(r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions {
		return nil
	}
	if err := crossOrigin.Check(r); err != nil {
		return registry.ErrDenied.With("a request from another site").Because(err)
	}
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); r.ContentLength != 0 && kind != "application/json" {
		return registry.ErrDenied.With("the content type must be application/json")
	}
	return nil
}

// StartSession gives a user who has logged in a session. provider is where, "" for
// a password.
func (s *Service) StartSession(w http.ResponseWriter, r *http.Request, a registry.Actor, provider string) error {
	secret := registry.NewSecret(sessionPrefix)
	hash := registry.SecretHash(registry.Session, secret)
	claims := map[string]string{}
	for k, v := range registry.LastingClaims(a.Claims) {
		claims[k] = v
	}
	if provider != "" {
		claims[claimProvider] = provider
	}
	err := s.o.Catalog.AddCredential(r.Context(), registry.Actor{ID: a.ID}, registry.Credential{
		Kind: registry.Session, ID: newID(), Owner: a.ID, Agent: cut(r.UserAgent(), registry.MaxLabel), Claims: claims,
		Expires: s.trust.now().Add(sessionLife).UnixMicro(),
	}, hash[:])
	if err != nil {
		return err
	}
	s.cookie(w, r, sessionCookie, secret, "/", sessionLife, true)
	s.cookie(w, r, userCookie, url.QueryEscape(a.ID), "/", sessionLife, false)
	return nil
}

// Login gives zot's web UI a session for the password it sent, unless it has one of that
// user. An API key or a certificate gets none: a session would go on when they have ended.
func (s *Service) Login(w http.ResponseWriter, r *http.Request, a registry.Actor) error {
	_, password, basic := r.BasicAuth()
	if !basic || strings.HasPrefix(password, keyPrefix) || a.Scope != nil || a.Anonymous() {
		return nil
	}
	// The cookie may be of a session that has ended, or of who used the browser before.
	switch c, _, err := s.session(r); {
	case err == nil && c.Owner == a.ID:
		return nil
	case err != nil && !errors.Is(err, registry.ErrUnauthorized):
		return err
	}
	if _, err := s.o.Catalog.Login(r.Context(), registry.Login{ID: a.ID, Groups: a.Groups}); err != nil {
		return err
	}
	return s.StartSession(w, r, a, "")
}

// claimProvider is the claim of a session that says where its user logged in.
const claimProvider = "berth.provider"

// cookie sets a cookie. Lax: the browser sends it when the user comes back from a
// provider's page, and never with what another site posts.
func (s *Service) cookie(w http.ResponseWriter, r *http.Request, name, value, path string, life time.Duration, hidden bool) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: path, MaxAge: int(life / time.Second), HttpOnly: hidden,
		Secure: s.o.Secure || r.TLS != nil, SameSite: http.SameSiteLaxMode,
	})
}

// logout serves POST /zot/auth/logout.
func (s *Service) logout(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		return registry.ErrUnsupported
	}
	if err := crossOrigin.Check(r); err != nil {
		return registry.ErrDenied.With("a request from another site").Because(err)
	}
	answer := struct {
		EndSessionURL string `json:"endSessionUrl,omitempty"`
	}{}
	if secret := sessionSecret(r); secret != "" {
		hash := registry.SecretHash(registry.Session, secret)
		c, _, err := s.o.Catalog.TakeCredential(r.Context(), registry.Session, hash[:])
		if err != nil && !errors.Is(err, registry.ErrUnauthorized) {
			return err
		}
		s.trust.forget(registry.Session, secret)
		if p, ok := s.providers[c.Claims[claimProvider]]; ok {
			answer.EndSessionURL = p.endSession()
		}
		if err == nil {
			s.event(r, "logout", c.Owner, "", nil)
		}
	}
	for _, name := range []string{sessionCookie, userCookie} {
		http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, Secure: s.o.Secure || r.TLS != nil, HttpOnly: name == sessionCookie, SameSite: http.SameSiteLaxMode})
	}
	return writeJSON(w, http.StatusOK, answer)
}
