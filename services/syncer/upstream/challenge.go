package upstream

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/outbound"
)

// challenge is what a registry wants to see (RFC 9110 §11.6.1, and the token flow
// of distribution).
type challenge struct {
	scheme string // lower case; "" for none we know
	params map[string]string
}

// parseChallenge reads the values of WWW-Authenticate. Bearer is taken before Basic.
func parseChallenge(values []string) challenge {
	var basic challenge
	for _, v := range values {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(v), " ")
		switch strings.ToLower(scheme) {
		case "bearer":
			return challenge{"bearer", parseParams(rest)}
		case "basic":
			basic = challenge{"basic", parseParams(rest)}
		}
	}
	return basic
}

// parseParams reads name="value" pairs. What is malformed ends the list.
func parseParams(s string) map[string]string {
	params := make(map[string]string)
	for len(params) < 16 {
		s = strings.TrimLeft(s, " \t,")
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		name = strings.ToLower(strings.TrimSpace(name))
		if strings.HasPrefix(rest, `"`) {
			var b strings.Builder
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				b.WriteByte(rest[i])
			}
			if i >= len(rest) {
				break // no end
			}
			params[name], s = b.String(), rest[i+1:]
			continue
		}
		value, after, _ := strings.Cut(rest, ",")
		params[name], s = strings.TrimSpace(value), after
	}
	return params
}

// tokens remembers what the registry let us in with, by repository.
type tokens struct {
	mu  sync.Mutex
	all map[string]token
}

type token struct {
	header string
	until  time.Time // zero: no end
}

const maxTokens = 1000

func (t *tokens) get(repo string, now time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.all[repo]
	if !ok || !k.until.IsZero() && !now.Before(k.until) {
		return ""
	}
	return k.header
}

func (t *tokens) put(repo string, k token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.all) >= maxTokens {
		t.all = make(map[string]token)
	}
	t.all[repo] = k
}

// authorize returns the Authorization that a challenge asks for, "" if we have
// none to give.
func (h *Host) authorize(ctx context.Context, c call, ch challenge) (string, error) {
	var creds *Credentials
	if h.creds != nil {
		var err error
		if creds, err = h.creds(ctx); err != nil {
			return "", fmt.Errorf("reading credentials: %w", err)
		}
	}
	switch ch.scheme {
	case "basic":
		if creds == nil {
			return "", nil
		}
		header := basicAuth(creds)
		h.tokens.put(c.tokenKey(), token{header: header, until: creds.Until})
		return header, nil
	case "bearer":
		k, err := h.fetchToken(ctx, c, ch, creds)
		if err != nil || k.header == "" {
			return "", err
		}
		h.tokens.put(c.tokenKey(), k)
		return k.header, nil
	}
	return "", nil
}

func basicAuth(c *Credentials) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.Username+":"+c.Password))
}

// maxToken bounds the answer of a token server.
const maxToken = 1 << 20

// fetchToken asks the realm of a challenge for a token.
func (h *Host) fetchToken(ctx context.Context, c call, ch challenge, creds *Credentials) (token, error) {
	realm, err := url.Parse(ch.params["realm"])
	if err != nil || realm.Host == "" {
		return token{}, errors.New("the upstream registry names no token server")
	}
	if err := h.mayAsk(realm); err != nil {
		if creds != nil {
			return token{}, err
		}
		// Without credentials there is nothing to lose but the request itself.
		if realm.Scheme != "https" && (realm.Scheme != "http" || h.base.Scheme == "https") {
			return token{}, err
		}
	}
	req, err := h.tokenRequest(ctx, realm, scopeOf(c, ch), ch.params["service"], creds)
	if err != nil {
		return token{}, err
	}
	req.Header.Set("User-Agent", h.agent)
	h.requests.Add(1)
	resp, err := h.http.RoundTrip(req)
	if err != nil {
		return token{}, fmt.Errorf("asking for a token: %w", err)
	}
	defer drain(resp)
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return token{}, nil // the registry's own answer says it all
	}
	if resp.StatusCode == http.StatusTooManyRequests {
		wait := retryAfter(resp.Header, h.now())
		h.Hold(wait, registry.ErrTooManyRequests)
		return token{}, registry.ErrTooManyRequests.With("the token server of the upstream registry %s allows no more requests for %v", h.base.Host, wait.Round(time.Second)).After(wait)
	}
	if resp.StatusCode != http.StatusOK {
		return token{}, fmt.Errorf("the token server of the upstream registry answers with status %d", resp.StatusCode)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&answer); err != nil {
		return token{}, errors.New("the token server of the upstream registry answers no JSON")
	}
	if answer.Token == "" {
		answer.Token = answer.AccessToken
	}
	if answer.Token == "" || strings.ContainsAny(answer.Token, "\r\n") {
		return token{}, errors.New("the token server of the upstream registry answers no token")
	}
	life := time.Minute // of a token that does not say (distribution, "Token response fields")
	if answer.ExpiresIn > 0 {
		life = time.Duration(min(answer.ExpiresIn, 24*60*60)) * time.Second
	}
	return token{"Bearer " + answer.Token, h.now().Add(life * 9 / 10)}, nil
}

// scopeOf returns what a request needs: what it reads, or also writes.
func scopeOf(c call, ch challenge) string {
	if c.repo == "" {
		return ch.params["scope"]
	}
	scope := "repository:" + c.repo + ":pull"
	if c.push {
		scope += ",push"
	}
	if c.remove {
		scope += ",delete"
	}
	if c.from != "" {
		scope += " repository:" + c.from + ":pull"
	}
	return scope
}

// tokenRequest asks for a token as a user (distribution, "Token Authentication"), or
// with an identity token ("OAuth2 Token Authentication").
func (h *Host) tokenRequest(ctx context.Context, realm *url.URL, scope, service string, creds *Credentials) (*http.Request, error) {
	q, identity := realm.Query(), creds != nil && creds.Username == IdentityToken
	if identity {
		q = url.Values{"grant_type": {"refresh_token"}, "client_id": {"berth"}, "refresh_token": {creds.Password}}
	}
	if service != "" {
		q.Set("service", service)
	}
	switch scopes := strings.Fields(scope); {
	case scope == "":
	case identity:
		q.Set("scope", scope)
	default:
		q["scope"] = scopes
	}
	realm.Fragment = ""
	if identity {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(q.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return req, err
	}
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err == nil && creds != nil {
		req.Header.Set("Authorization", basicAuth(creds))
	}
	return req, err
}

// mayAsk says whether credentials may go to a token server: the registry itself,
// or one of the same registrable domain, not over plain HTTP if the registry has
// HTTPS (CVE-2026-33540).
func (h *Host) mayAsk(realm *url.URL) error {
	if realm.User != nil || realm.Scheme != "https" && (realm.Scheme != "http" || h.base.Scheme == "https") {
		return registry.ErrDenied.With("the upstream registry %s wants credentials sent without https: refused", h.base.Host)
	}
	if outbound.SameSite(realm.Host, h.base.Host) {
		return nil
	}
	return registry.ErrDenied.With("the upstream registry %s wants credentials sent to a host of another domain: refused", h.base.Host)
}
