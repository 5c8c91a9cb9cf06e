package identity

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/scope"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// bearer is the method of authentication by a token of the token service.
type bearer struct{ s *Service }

func (bearer) Name() string { return "token" }

// Authenticate implements [auth.Method]. The actor of an anonymous token has no ID.
func (b bearer) Authenticate(ctx context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	a, err := b.s.trust.token(ctx, q.Bearer, b.s.o.Audience)
	if errors.Is(err, errToken) {
		return registry.Actor{}, auth.Unknown, nil
	}
	if err != nil {
		return registry.Actor{}, auth.Unknown, err
	}
	return a, auth.Accepted, nil
}

const (
	refreshPrefix = "zrt_"
	// refreshLife is how long a refresh token is good.
	refreshLife = 30 * 24 * time.Hour
	// maxTokenRequest is zot's limit for the body of a token request.
	maxTokenRequest = 64 << 10
)

// token serves /zot/auth/token: docker's token request, as GET (distribution,
// "Token Authentication Specification") and as POST ("Oauth2 Token
// Authentication").
func (s *Service) token(w http.ResponseWriter, r *http.Request, authenticate func(*http.Request) (registry.Actor, error)) error {
	q := r.URL.Query()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)
		if err := r.ParseForm(); err != nil {
			if _, large := errors.AsType[*http.MaxBytesError](err); large {
				return registry.ErrTooLarge.With("the body has at most %d bytes", maxTokenRequest)
			}
			return registry.ErrParameterInvalid.With("the body is not a form")
		}
		q = r.Form
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		return registry.ErrUnsupported
	}
	if service := q.Get("service"); service != "" && service != s.o.Audience {
		return registry.ErrParameterInvalid.With("this is no token service for %.80q", service)
	}
	scopes, err := parseScopes(q["scope"])
	if err != nil {
		return err
	}
	a, refresh, err := s.requester(r, q.Get("grant_type"), authenticate)
	if err != nil {
		return err
	}
	granted, err := s.grant(r.Context(), a, scopes)
	if err != nil {
		return err
	}
	if refresh == "" && (q.Get("offline_token") == "true" || q.Get("access_type") == "offline") {
		if refresh, err = s.newRefresh(r, a, q.Get("client_id")); err != nil {
			return err
		}
	}
	return s.answer(w, r, a, granted, refresh)
}

func (s *Service) answer(w http.ResponseWriter, r *http.Request, a registry.Actor, granted []tokenAccess, refresh string) error {
	key, err := s.trust.signer(r.Context())
	if err != nil {
		return err
	}
	now := s.trust.now()
	text, err := sign(key, tokenClaims{
		Issuer: tokenIssuer, Audience: s.o.Audience, Subject: a.ID, ID: newID(), Access: granted,
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(tokenLife).Unix(),
		Groups: a.Groups, Claims: a.Claims, JSON: a.JSONClaims,
	})
	if err != nil {
		return fmt.Errorf("signing a token: %w", err)
	}
	if len(text) > maxTokenText {
		return registry.ErrDenied.With("the groups and claims of the user do not fit into a token")
	}
	var words []string
	for _, g := range granted {
		words = append(words, g.Type+":"+g.Name+":"+strings.Join(g.Actions, ","))
	}
	s.event(r, "token.issue", a.ID, strings.Join(words, " "), nil)
	return writeJSON(w, http.StatusOK, struct {
		Token        string `json:"token"`
		AccessToken  string `json:"access_token"`
		ExpiresIn    int    `json:"expires_in"`
		IssuedAt     string `json:"issued_at"`
		Scope        string `json:"scope,omitempty"`
		RefreshToken string `json:"refresh_token,omitempty"`
	}{text, text, int(tokenLife / time.Second), now.UTC().Format(time.RFC3339), strings.Join(words, " "), refresh})
}

// requester returns who asks for a token, anonymous if nobody says so, and the
// refresh token that was shown.
func (s *Service) requester(r *http.Request, grantType string, authenticate func(*http.Request) (registry.Actor, error)) (a registry.Actor, refresh string, err error) {
	if r.Method == http.MethodPost {
		// Secrets are in the body and nowhere else: what a URL holds is in many logs.
		switch grantType {
		case "refresh_token":
			refresh = r.PostForm.Get("refresh_token")
			a, err = s.refreshed(r.Context(), refresh)
			s.event(r, "token.refresh", a.ID, "", err)
			return a, refresh, err
		case "password":
			user, password := r.PostForm.Get("username"), r.PostForm.Get("password")
			if user == "" && password == "" {
				return a, "", registry.ErrParameterInvalid.With("username and password are missing in the body")
			}
			again := r.Clone(r.Context())
			again.Header.Del("Authorization")
			again.SetBasicAuth(user, password)
			if a, err = authenticate(again); errors.Is(err, registry.ErrUnauthorized) {
				s.event(r, "login.failed", cut(user, registry.MaxAuditText), "password", err)
			}
			return a, "", err
		case "":
		default:
			return a, "", registry.ErrParameterInvalid.With("grant_type is password or refresh_token")
		}
	}
	a, err = authenticate(r)
	if err == nil && a.Scope != nil && strings.HasPrefix(strings.ToLower(r.Header.Get("Authorization")), "bearer") {
		// One of our own must not make another that lives longer. That of an issuer
		// is what this is for.
		err = registry.ErrUnauthorized.With("a token is not exchanged for another one")
	}
	return a, "", err
}

// grant returns what of the scopes a may do now: the Catalog decides, by the
// actor's rights and by what its credential is good for.
func (s *Service) grant(ctx context.Context, a registry.Actor, scopes []asked) ([]tokenAccess, error) {
	granted := []tokenAccess{}
	a.Request = nil // conditions are for the requests that the token comes with
	for _, x := range scopes {
		if x.catalog {
			// What is listed depends on what may be read.
			granted = append(granted, lists(a.Scope)...)
			continue
		}
		var want registry.Actions
		for _, w := range x.words {
			want |= scope.Rights(w)
		}
		may, err := s.o.Catalog.Allowed(ctx, a, x.name, want)
		if err != nil {
			return nil, err
		}
		g := tokenAccess{Type: "repository", Name: string(x.name), Actions: []string{}, Rights: may & want}
		for _, sw := range scopeWords {
			if slices.Contains(x.words, sw.word) && g.Rights&sw.rights&^registry.ActList != 0 {
				g.Actions = append(g.Actions, sw.word)
			}
		}
		if len(g.Actions) > 0 {
			granted = append(granted, g)
		}
	}
	return granted, nil
}

// lists returns the access to lists of repositories for a credential that is limited
// to scope, nil: not at all. One that is limited to some repositories lists those.
func lists(scope []registry.Grant) []tokenAccess {
	var some []tokenAccess
	for _, g := range scope {
		switch {
		case g.Actions&(registry.ActList|registry.ActRead) == 0:
		case g.Repositories == "**":
			scope = nil
		default:
			some = append(some, tokenAccess{Type: tokenNames, Name: g.Repositories, Actions: []string{"list"}, Rights: registry.ActList})
		}
	}
	if scope != nil {
		return some
	}
	return []tokenAccess{{Type: "registry", Name: "catalog", Actions: []string{"*"}, Rights: registry.ActList}}
}

// newRefresh returns a refresh token for who has shown an API key, "" for others:
// who logs in with a password of a file or a directory must stop coming in when
// the password does, which we would not notice.
func (s *Service) newRefresh(r *http.Request, a registry.Actor, client string) (string, error) {
	_, password, _ := r.BasicAuth()
	if r.Method == http.MethodPost && r.Form.Get("grant_type") == "password" {
		password = r.PostForm.Get("password")
	}
	if !strings.HasPrefix(password, keyPrefix) || a.Anonymous() {
		return "", nil
	}
	key, _, err := s.trust.owner(r.Context(), registry.APIKey, password)
	if err != nil {
		return "", nil //nolint:nilerr // the password only looks like a key
	}
	secret := registry.NewSecret(refreshPrefix)
	hash := registry.SecretHash(registry.RefreshToken, secret)
	expires := s.trust.now().Add(refreshLife).UnixMicro()
	if key.Expires != 0 {
		expires = min(expires, key.Expires)
	}
	claims := map[string]string{claimKey: key.ID}
	err = s.o.Catalog.AddCredential(r.Context(), registry.Actor{ID: a.ID}, registry.Credential{
		Kind: registry.RefreshToken, ID: newID(), Owner: a.ID, Label: cut(client, registry.MaxLabel), Agent: cut(r.UserAgent(), registry.MaxLabel),
		Scopes: key.Scopes, Claims: claims, Expires: expires,
	}, hash[:])
	if err != nil {
		return "", err
	}
	return secret, nil
}

// claimKey is the claim of a refresh token that names the API key it was made from.
const claimKey = "berth.key"

// refreshed returns whose a refresh token is, as long as the API key is there that
// it was made from.
func (s *Service) refreshed(ctx context.Context, secret string) (registry.Actor, error) {
	if !strings.HasPrefix(secret, refreshPrefix) || len(secret) > 100 {
		return registry.Actor{}, registry.ErrUnauthorized
	}
	c, u, err := s.trust.owner(ctx, registry.RefreshToken, secret)
	if err != nil {
		return registry.Actor{}, err
	}
	all, err := s.o.Catalog.Credentials(ctx, registry.Actor{ID: c.Owner}, registry.APIKey, c.Owner)
	if err != nil {
		return registry.Actor{}, err
	}
	i := slices.IndexFunc(all, func(k registry.Credential) bool { return k.ID == c.Claims[claimKey] })
	if i < 0 || all[i].Expired(s.trust.now()) {
		return registry.Actor{}, registry.ErrUnauthorized
	}
	return keyActor(all[i], u), nil
}
