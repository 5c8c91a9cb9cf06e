package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/berth-registry/berth/registry"
)

// Provider is where users log in in the browser.
type Provider struct {
	Name   string // in paths: /zot/auth/login?provider=Name
	Label  string // of the button
	GitHub bool   // GitHub's OAuth 2 in place of OpenID Connect
	Issuer string
	// AuthURL and TokenURL of a GitHub Enterprise server.
	AuthURL, TokenURL string
	ClientID          string
	ClientSecret      string
	Scopes            []string
	// UserClaim and GroupsClaim name claims. "" means email and groups.
	UserClaim, GroupsClaim string
	// AnyEmail accepts e-mail addresses as names that the provider has not verified.
	AnyEmail bool
	// HTTP sends all requests to the provider.
	HTTP *http.Client
}

// person is whom a provider has authenticated.
type person struct {
	name   string
	groups []string
	origin string // issuer and subject, which never change
	claims map[string]string
}

// provider is a Provider in use.
type provider struct {
	Provider
	callback string // its redirect URI

	mu    sync.Mutex // guards all below
	found *discovered
	tried time.Time
	err   error
}

// discovered is what an issuer's document says.
type discovered struct {
	oidc     *oidc.Provider
	verifier *oidc.IDTokenVerifier
	end      string // end_session_endpoint
	endpoint oauth2.Endpoint
	iss      bool // the issuer names itself in the callback, RFC 9207
}

// retryAfter is how long a failure of discovery is believed.
const retryAfter = 5 * time.Second

// discover reads the issuer's document, once. The document must come from the
// issuer itself: a redirect is an error, and so is another issuer's name in it.
func (p *provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found != nil {
		return p.found, nil
	}
	if p.err != nil && time.Since(p.tried) < retryAfter {
		return nil, p.err
	}
	p.found, p.err = p.look(ctx)
	p.tried = time.Now()
	if p.err != nil {
		p.err = registry.ErrUnavailable.With("the provider %s can't be used now", p.Name).Because(p.err)
	}
	return p.found, p.err
}

func (p *provider) look(ctx context.Context) (*discovered, error) {
	if p.GitHub {
		e := oauth2.Endpoint{AuthURL: "https://github.com/login/oauth/authorize", TokenURL: "https://github.com/login/oauth/access_token"}
		if p.AuthURL != "" {
			e.AuthURL = p.AuthURL
		}
		if p.TokenURL != "" {
			e.TokenURL = p.TokenURL
		}
		return &discovered{endpoint: e}, nil
	}
	still := *p.HTTP
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	// Keys are read later, with no request's context.
	client := oidc.ClientContext(context.WithoutCancel(ctx), &still)
	op, err := oidc.NewProvider(client, p.Issuer)
	if err != nil {
		return nil, err
	}
	var doc struct {
		End  string   `json:"end_session_endpoint"`
		Algs []string `json:"id_token_signing_alg_values_supported"`
		Iss  bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := op.Claims(&doc); err != nil {
		return nil, err
	}
	return &discovered{
		oidc: op, end: doc.End, endpoint: op.Endpoint(), iss: doc.Iss,
		verifier: op.VerifierContext(client, &oidc.Config{ClientID: p.ClientID, SupportedSigningAlgs: signingAlgs}),
	}, nil
}

// signingAlgs are the algorithms of ID tokens that are accepted: those with public
// keys.
var signingAlgs = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// endSession is where the user logs out of the provider, "" if it has no such page.
func (p *provider) endSession() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.found == nil || !strings.HasPrefix(p.found.end, "http") {
		return ""
	}
	return p.found.end
}

func (p *provider) oauth(d *discovered) *oauth2.Config {
	return &oauth2.Config{ClientID: p.ClientID, ClientSecret: p.ClientSecret, Endpoint: d.endpoint, RedirectURL: p.callback, Scopes: p.Scopes}
}

// start returns the URL of the provider's login page.
func (p *provider) start(ctx context.Context, f flow) (string, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(f.Verifier)}
	if !p.GitHub {
		options = append(options, oidc.Nonce(f.Nonce))
	}
	return p.oauth(d).AuthCodeURL(f.State, options...), nil
}

// finish exchanges a code and returns who has logged in. An error is of the
// provider, or of somebody who made up the code: [registry.ErrUnauthorized].
func (p *provider) finish(ctx context.Context, f flow, code, iss string) (person, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return person{}, err
	}
	// RFC 9207: the answer of another provider is not taken for this one's.
	if !p.GitHub && (d.iss || iss != "") && iss != p.Issuer {
		return person{}, registry.ErrUnauthorized.Because(errors.New("the answer is another issuer's"))
	}
	ctx = context.WithValue(ctx, oauth2.HTTPClient, p.HTTP)
	token, err := p.oauth(d).Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return person{}, registry.ErrUnauthorized.Because(fmt.Errorf("exchanging the code: %w", hideToken(err)))
	}
	if p.GitHub {
		return p.githubUser(ctx, token)
	}
	return p.oidcUser(ctx, d, f, token)
}

// hideToken keeps a provider's answer out of the log, which may have a secret in it.
func hideToken(err error) error {
	if e, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		return fmt.Errorf("the token endpoint answered %d %q", e.Response.StatusCode, e.ErrorCode)
	}
	return errors.New("the token endpoint gave no answer that can be used")
}

// oidcUser verifies the ID token, and asks for what it does not say.
func (p *provider) oidcUser(ctx context.Context, d *discovered, f flow, token *oauth2.Token) (person, error) {
	refused := func(err error) (person, error) { return person{}, registry.ErrUnauthorized.Because(err) }
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return refused(errors.New("the provider sent no ID token"))
	}
	id, err := d.verifier.Verify(ctx, raw)
	if err != nil {
		return refused(fmt.Errorf("the ID token: %w", err))
	}
	if id.Nonce != f.Nonce || f.Nonce == "" {
		return refused(errors.New("the ID token is of another login"))
	}
	if id.Subject == "" {
		return refused(errors.New("the ID token names nobody"))
	}
	claims := map[string]json.RawMessage{}
	if err := id.Claims(&claims); err != nil {
		return refused(err)
	}
	user, groups := p.names()
	if claims[user] == nil || claims[groups] == nil {
		if info, err := d.oidc.UserInfo(oidc.ClientContext(ctx, p.HTTP), oauth2.StaticTokenSource(token)); err == nil && info.Subject == id.Subject {
			more := map[string]json.RawMessage{}
			if err := info.Claims(&more); err != nil {
				return refused(err)
			}
			for k, v := range more {
				if claims[k] == nil {
					claims[k] = v
				}
			}
		}
	}
	who := person{name: textOf(claims[user]), groups: listOf(claims[groups]), origin: p.Issuer + "\n" + id.Subject, claims: texts(claims)}
	switch {
	case who.name == "":
		return refused(fmt.Errorf("the provider does not say the claim %q, which names users", user))
	case user == "email" && !p.AnyEmail && textOf(claims["email_verified"]) != "true":
		// Some providers leave the claim out when it is false.
		return refused(errors.New("the provider does not say that the e-mail address is verified (email_verified); use another claim, or set allowUnverifiedEmail if users can't choose their address there"))
	}
	return who, nil
}

func (p *provider) names() (user, groups string) {
	user, groups = p.UserClaim, p.GroupsClaim
	if user == "" {
		user = "email"
	}
	if groups == "" {
		groups = "groups"
	}
	return user, groups
}

// textOf returns a claim that is text, a number or a boolean.
func textOf(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	if len(v) > 0 && v[0] != '{' && v[0] != '[' && string(v) != "null" {
		return string(v)
	}
	return ""
}

// listOf returns a claim that is a list of texts, or one text.
func listOf(v json.RawMessage) []string {
	var all []string
	if json.Unmarshal(v, &all) == nil {
		return all
	}
	if s := textOf(v); s != "" {
		return []string{s}
	}
	return nil
}

// Claims that are kept for access conditions: short texts, up to so many bytes.
const (
	maxClaim  = 500
	maxClaims = 4 << 10
)

func texts(claims map[string]json.RawMessage) map[string]string {
	out, n := make(map[string]string), 0
	for k, v := range claims {
		switch k {
		case "nonce", "at_hash", "c_hash", "s_hash", "iat", "exp", "nbf", "jti", "auth_time", "sid":
			continue // of this login alone
		}
		if s := textOf(v); s != "" && len(s)+len(k) <= maxClaim && n+len(s)+len(k) <= maxClaims {
			out[k] = s
			n += len(s) + len(k)
		}
	}
	return out
}
