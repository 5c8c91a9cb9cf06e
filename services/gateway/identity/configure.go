package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/outbound"
)

// tokenPath is where the token service is below the external URL.
const tokenPath = "/zot/auth/token"

// Realm returns the URL of the token service that clients are sent to, "" if the
// config file says none: it is never taken from a request.
func Realm(h config.HTTP) string {
	switch {
	case idle(h) || h.Auth.Open(): // who has no certificate has nothing to get a token with
		return ""
	case h.Auth.Token != nil && h.Auth.Token.Realm != "":
		return h.Auth.Token.Realm
	case h.ExternalURL != "":
		return strings.TrimSuffix(h.ExternalURL, "/") + tokenPath
	}
	return ""
}

// idle reports whether there is nothing to do here: no authentication, or tokens of a
// token server elsewhere. Tokens of OpenID Connect issuers are exchanged for ours.
// Where users come with certificates alone, disabled ones are kept out.
func idle(h config.HTTP) bool {
	return h.Open() || h.Auth != nil && h.Auth.Bearer != nil && len(h.Auth.Bearer.OIDC) == 0
}

// Audience is what the registry is called in tokens and challenges.
func Audience(h config.HTTP) string {
	if h.Auth != nil && h.Auth.Bearer != nil && h.Auth.Bearer.Service != "" {
		return h.Auth.Bearer.Service
	}
	for _, text := range []string{h.ExternalURL, Realm(h)} {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			return u.Host
		}
	}
	return "berth"
}

// Configured returns the service that a config file asks for, nil if it has
// nothing to do. event may be nil.
func Configured(c *config.Config, catalog registry.Catalog, p daemon.Process) (*Service, error) {
	h := c.HTTP
	if idle(h) {
		relay, err := configuredRelay(c, p)
		if relay == nil || err != nil {
			return nil, err
		}
		return New(Options{Catalog: catalog, Relay: relay, Log: p.Log.With("module", "identity")}), nil
	}
	if h.Auth == nil {
		h.Auth = new(config.Auth)
	}
	o := Options{
		Catalog: catalog, Audience: Audience(h), External: External(h),
		APIKeys: h.Auth.Bearer == nil && (h.Auth.APIKey || h.Auth.OpenID != nil),
		Secure:  h.Auth.SecureSession || strings.HasPrefix(h.ExternalURL, "https://"),
		Log:     p.Log.With("module", "identity"),
	}
	if f := h.Auth.SessionKeysFile; f != "" {
		key, err := readCookieKey(f)
		if err != nil {
			return nil, fmt.Errorf("http.auth.sessionKeysFile: %w", err)
		}
		o.CookieKey = key
	}
	if oid := h.Auth.OpenID; oid != nil && h.Auth.Bearer == nil {
		o.CallbackOrigins = oid.CallbackAllowOrigins
		for name, p2 := range oid.Providers {
			prov, err := configured(name, p2, c, p)
			if err != nil {
				return nil, fmt.Errorf("http.auth.openid.providers.%s: %w", name, err)
			}
			o.Providers = append(o.Providers, prov)
		}
	}
	return New(o), nil
}

// External is the URL that browsers reach the registry by: http.externalUrl, or,
// as zot does it, the address that it listens on.
func External(h config.HTTP) string {
	if h.ExternalURL != "" {
		return strings.TrimSuffix(h.ExternalURL, "/")
	}
	scheme := "http"
	if h.Encrypted() {
		scheme = "https"
	}
	_, address := h.Endpoint()
	return scheme + "://" + address
}

func configured(name string, c config.OpenIDProvider, all *config.Config, p daemon.Process) (Provider, error) {
	o := Provider{
		Name: strings.ToLower(name), Label: c.Name, GitHub: strings.EqualFold(name, "github"), Issuer: c.Issuer,
		AuthURL: c.AuthURL, TokenURL: c.TokenURL, ClientID: c.ClientID, AnyEmail: c.AllowUnverifiedEmail, Scopes: slices.Clone(c.Scopes),
	}
	if c.KeyPath != "" {
		return o, errors.New("keypath is not supported: give the client a secret")
	}
	if m := c.ClaimMapping; m != nil {
		o.UserClaim, o.GroupsClaim = m.Username, m.Groups
	}
	secret, err := config.ReadSecret(c.ClientSecret, c.ClientSecretFile)
	if err != nil {
		return o, err
	}
	o.ClientSecret = string(secret)
	if c.CredentialsFile != "" {
		if o.ClientID, o.ClientSecret, err = readClient(c.CredentialsFile); err != nil {
			return o, err
		}
	}
	if !o.GitHub && !slices.Contains(o.Scopes, "openid") {
		o.Scopes = append([]string{"openid"}, o.Scopes...)
	}
	rules, err := all.Outbound.Rules()
	if err != nil {
		return o, err
	}
	var named []string
	plain := false
	for _, u := range []string{c.Issuer, c.AuthURL, c.TokenURL} {
		if u != "" {
			named = append(named, u)
			plain = plain || strings.HasPrefix(u, "http://")
		}
	}
	client, err := outbound.New(outbound.Options{
		Purpose: "oidc", Rules: rules, Named: named, PlainHTTP: plain, Redirects: -1, MaxBody: maxGitHubAnswer, Log: p.Log, Metrics: p.Metrics,
	})
	if err != nil {
		return o, err
	}
	o.HTTP = client.HTTP()
	return o, nil
}

// readFile reads a small file.
func readFile(name string, v any) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := json.NewDecoder(io.LimitReader(f, 64<<10)).Decode(v); err != nil {
		return fmt.Errorf("%s is not the JSON that is expected there", name) // the error could show a part of it
	}
	return nil
}

func readClient(name string) (id, secret string, err error) {
	var c struct {
		ClientID     string `json:"clientid"`
		ClientSecret string `json:"clientsecret"`
	}
	if err := readFile(name, &c); err != nil {
		return "", "", err
	}
	if c.ClientID == "" {
		return "", "", fmt.Errorf("%s has no clientid", name)
	}
	return c.ClientID, c.ClientSecret, nil
}

// readCookieKey reads zot's file of session keys.
func readCookieKey(name string) ([]byte, error) {
	var c struct {
		HashKey    string `json:"hashKey"`
		EncryptKey string `json:"encryptKey"`
	}
	if err := readFile(name, &c); err != nil {
		return nil, err
	}
	if len(c.HashKey) < 16 {
		return nil, fmt.Errorf("%s has no hashKey of 16 bytes or more", name)
	}
	return []byte(c.HashKey + "\x00" + c.EncryptKey), nil
}
