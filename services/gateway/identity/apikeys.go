package identity

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/scope"
	"github.com/berth-registry/berth/services/gateway/auth"
)

const keyPrefix = registry.APIKeyPrefix

// keys is the method of authentication by an API key in place of a password, with
// its owner's name.
type keys struct{ s *Service }

func (keys) Name() string { return "apikey" }

// Authenticate implements [auth.Method].
func (k keys) Authenticate(ctx context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	if q.Basic == nil || !strings.HasPrefix(q.Basic.Password, keyPrefix) {
		return registry.Actor{}, auth.Unknown, nil
	}
	c, u, err := k.s.trust.owner(ctx, registry.APIKey, q.Basic.Password)
	if errors.Is(err, registry.ErrUnauthorized) || err == nil && c.Owner != q.Basic.User {
		return registry.Actor{}, auth.Unknown, nil
	}
	if err != nil {
		return registry.Actor{}, auth.Unknown, err
	}
	return keyActor(c, u), auth.Accepted, nil
}

// Known implements [auth.Knower]: looking up a key costs nothing, so nobody has to
// wait because others guess.
func (k keys) Known(q *auth.Request) bool {
	return q.Basic != nil && strings.HasPrefix(q.Basic.Password, keyPrefix) && k.s.trust.has(registry.APIKey, q.Basic.Password, q.Basic.User)
}

// keyActor is who shows a key: its owner, within what the key is good for.
func keyActor(c registry.Credential, u registry.User) registry.Actor {
	claims := cameBy("key", c.Claims)
	if c.Expires != 0 {
		claims[registry.ClaimUntil] = strconv.FormatInt(c.Expires, 10)
	}
	return registry.Actor{ID: c.Owner, Groups: u.Groups, Claims: claims, Scope: scope.Limit(c.Scopes)}
}

// cameBy returns the claims of an actor with how it came in.
func cameBy(how string, claims map[string]string) map[string]string {
	all := make(map[string]string, len(claims)+2)
	maps.Copy(all, claims)
	all[registry.ClaimBy] = how
	return all
}

// keyJSON is an API key as zot shows it.
type keyJSON struct {
	CreatedAt      time.Time `json:"createdAt"`
	ExpirationDate time.Time `json:"expirationDate"`
	IsExpired      bool      `json:"isExpired"`
	CreatorUA      string    `json:"creatorUa"`
	GeneratedBy    string    `json:"generatedBy"`
	LastUsed       time.Time `json:"lastUsed"`
	Label          string    `json:"label"`
	Scopes         []string  `json:"scopes"`
	UUID           string    `json:"uuid"`
}

func timeOf(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func (s *Service) keyJSON(c registry.Credential) keyJSON {
	k := keyJSON{
		CreatedAt: timeOf(c.Created), ExpirationDate: timeOf(c.Expires), IsExpired: c.Expired(s.trust.now()), CreatorUA: c.Agent,
		GeneratedBy: "manual", LastUsed: timeOf(c.Used), Label: c.Label, Scopes: c.Scopes, UUID: c.ID,
	}
	if k.Scopes == nil {
		k.Scopes = []string{}
	}
	return k
}

// maxKeyRequest is zot's limit for the body of a request for a key.
const maxKeyRequest = 8 << 10

// apiKeys serves /zot/auth/apikey: GET lists the caller's keys, POST makes one,
// DELETE ends one.
func (s *Service) apiKeys(w http.ResponseWriter, r *http.Request, a registry.Actor) error {
	if !s.o.APIKeys {
		return registry.ErrEndpointUnknown
	}
	if a.Anonymous() {
		return registry.ErrUnauthorized
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		// A browser adds passwords and certificates that it knows to what a page of
		// another site sends.
		if err := crossOrigin.Check(r); err != nil {
			return registry.ErrDenied.With("a request from another site").Because(err)
		}
		if a.Scope != nil {
			return registry.ErrDenied.With("a credential with limits can't make or end API keys")
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		all, err := s.o.Catalog.Credentials(r.Context(), a, registry.APIKey, a.ID)
		if err != nil {
			return err
		}
		list := struct {
			APIKeys []keyJSON `json:"apiKeys"`
		}{make([]keyJSON, len(all))}
		for i, c := range all {
			list.APIKeys[i] = s.keyJSON(c)
		}
		return writeJSON(w, http.StatusOK, list)
	case http.MethodPost:
		return s.makeKey(w, r, a)
	case http.MethodDelete:
		id := r.URL.Query().Get("id")
		if id == "" {
			return registry.ErrParameterInvalid.With("the parameter id is missing")
		}
		if err := s.o.Catalog.RemoveCredential(r.Context(), a, registry.APIKey, a.ID, id); err != nil {
			s.event(r, "apikey.remove", a.ID, cut(id, registry.MaxCredentialID), err)
			return err
		}
		if err := s.trust.refresh(r.Context()); err != nil {
			return err // it is gone, but not here yet
		}
		s.event(r, "apikey.remove", a.ID, id, nil)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	w.Header().Set("Allow", "DELETE, GET, HEAD, POST")
	return registry.ErrUnsupported
}

func (s *Service) makeKey(w http.ResponseWriter, r *http.Request, a registry.Actor) error {
	var req struct {
		Label          string   `json:"label"`
		Scopes         []string `json:"scopes"`
		ExpirationDate string   `json:"expirationDate"`
	}
	if err := readJSON(w, r, maxKeyRequest, &req); err != nil {
		return err
	}
	c := registry.Credential{Label: req.Label, Scopes: req.Scopes}
	if req.ExpirationDate != "" {
		at, err := time.Parse(time.RFC3339, req.ExpirationDate)
		switch {
		case err != nil:
			return registry.ErrParameterInvalid.With("expirationDate is not a time of RFC 3339")
		case at.Before(s.trust.now()):
			return registry.ErrParameterInvalid.With("expirationDate has passed")
		case at.Year() > 9999:
			return registry.ErrParameterInvalid.With("expirationDate is too far away")
		}
		c.Expires = at.UnixMicro()
	}
	known, err := s.madeByKey(r, &c)
	if err != nil {
		return err
	}
	// What is known of who comes with a session is what the Catalog has said a while
	// ago; it may have heard other groups meanwhile.
	if known = known || r.Header.Get("Authorization") == "" && sessionSecret(r) != ""; !known {
		// The Catalog learns which groups the owner is in: the key acts as the owner.
		if _, err := s.o.Catalog.Login(r.Context(), registry.Login{ID: a.ID, Groups: a.Groups}); err != nil {
			return err
		}
	}
	c, secret, err := s.newKey(r.Context(), a, c, r.UserAgent())
	if err != nil {
		s.event(r, "apikey.create", a.ID, "", err)
		return err
	}
	s.event(r, "apikey.create", a.ID, c.ID, nil)
	return writeJSON(w, http.StatusCreated, struct {
		keyJSON
		APIKey string `json:"apiKey"`
	}{s.keyJSON(c), secret})
}

// madeByKey reports whether the request to make c came with an API key. It is refused
// if c would live longer than that: who finds a key that expires must not make one of
// it that does not. Without a time of its own c expires with that key.
func (s *Service) madeByKey(r *http.Request, c *registry.Credential) (bool, error) {
	_, password, _ := r.BasicAuth()
	if !strings.HasPrefix(password, keyPrefix) {
		return false, nil
	}
	shown, owner, err := s.trust.owner(r.Context(), registry.APIKey, password)
	switch {
	case errors.Is(err, registry.ErrUnauthorized): // a password that looks like a key
		return false, nil
	case err != nil:
		return false, err
	case owner.Service:
		return false, registry.ErrDenied.With("an operator makes the keys of a service account")
	case shown.Expires == 0:
	case c.Expires == 0:
		c.Expires = shown.Expires
	case c.Expires > shown.Expires:
		return false, registry.ErrDenied.With("an API key can't make one that lives longer")
	}
	return true, nil
}

// newKey makes an API key of a, whom the Catalog knows.
func (s *Service) newKey(ctx context.Context, a registry.Actor, c registry.Credential, agent string) (registry.Credential, string, error) {
	for _, text := range c.Scopes {
		if _, err := scope.Parse(text); err != nil {
			return c, "", err
		}
	}
	secret := registry.NewSecret(keyPrefix)
	hash := registry.SecretHash(registry.APIKey, secret)
	c.Kind, c.ID, c.Owner, c.Claims, c.Agent = registry.APIKey, newID(), a.ID, registry.LastingClaims(a.Claims), cut(agent, registry.MaxLabel)
	c.Created = s.trust.now().UnixMicro()
	return c, secret, s.o.Catalog.AddCredential(ctx, a, c, hash[:])
}

// cut shortens text to n bytes of whole characters.
func cut(text string, n int) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) > n {
		text = strings.ToValidUTF8(text[:n], "")
	}
	return text
}

// readJSON reads the body of a request, which must be one JSON value of at most
// limit bytes.
func readJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	err := d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("something follows the object")
	}
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return registry.ErrTooLarge.With("the body has at most %d bytes", limit)
	}
	if err != nil {
		return registry.ErrParameterInvalid.With("the body is not the JSON that is expected here")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}
