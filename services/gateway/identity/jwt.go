package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// A token is a JWT (RFC 7519) signed with Ed25519 (RFC 8037). Only such are read:
// there is nothing to choose for whoever makes up a token, neither an algorithm
// nor a key other than by name.
type (
	tokenHeader struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}
	tokenClaims struct {
		Issuer    string            `json:"iss"`
		Audience  string            `json:"aud"`
		Subject   string            `json:"sub,omitempty"`
		IssuedAt  int64             `json:"iat"`
		NotBefore int64             `json:"nbf"`
		Expires   int64             `json:"exp"`
		ID        string            `json:"jti"`
		Access    []tokenAccess     `json:"access"`
		Groups    []string          `json:"groups,omitempty"`
		Claims    map[string]string `json:"claims,omitempty"`
		JSON      map[string]string `json:"json_claims,omitempty"`
	}
	// tokenAccess is an entry of docker's access claim (distribution, "Token
	// Authentication Implementation"). Rights are what the actions mean here.
	tokenAccess struct {
		Type    string           `json:"type"`
		Name    string           `json:"name"`
		Actions []string         `json:"actions"`
		Rights  registry.Actions `json:"rights"`
	}
)

const (
	tokenIssuer = "berth"
	// tokenNames is the type of access to a list of those repositories that the name,
	// a pattern, matches: of a token for a credential that is limited to them.
	tokenNames = "names"
	tokenAlg   = "EdDSA"
	// tokenLife is how long a token is good, and leeway how wrong clocks may be.
	tokenLife = 5 * time.Minute
	leeway    = time.Minute
	// maxTokenText bounds what is looked at. A request header has at most 64 KiB.
	maxTokenText = 32 << 10
)

// errToken says no more than that a token is not good: what is wrong with it is
// nobody's business who made it up.
var errToken = errors.New("the token is not one of ours, or not good any more")

// sign returns the token with the claims.
func sign(k registry.SigningKey, c tokenClaims) (string, error) {
	head, err := json.Marshal(tokenHeader{Alg: tokenAlg, Kid: k.ID, Typ: "JWT"})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString(head) + "." + enc.EncodeToString(body)
	return text + "." + enc.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(k.Seed), []byte(text))), nil
}

// verify returns the claims of a token that one of the keys has signed, if it is
// for the audience and for now. keys returns a public key by its name, nil if
// there is none.
func verify(text, audience string, now time.Time, keys func(kid string) ed25519.PublicKey) (tokenClaims, error) {
	kid, signed, signature, body, err := splitToken(text)
	if err != nil {
		return tokenClaims{}, errToken
	}
	key := keys(kid)
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, []byte(signed), signature) {
		return tokenClaims{}, errToken
	}
	var c tokenClaims
	if err := strictJSON(body, &c); err != nil {
		return tokenClaims{}, errToken
	}
	at := func(sec int64) time.Time { return time.Unix(sec, 0) }
	switch {
	case c.Issuer != tokenIssuer, c.Audience != audience:
	case c.Expires <= 0, !now.Before(at(c.Expires).Add(leeway)):
	case now.Before(at(c.NotBefore).Add(-leeway)), now.Before(at(c.IssuedAt).Add(-leeway)):
	case c.Expires-c.IssuedAt > int64((tokenLife+leeway)/time.Second):
	default:
		return c, nil
	}
	return tokenClaims{}, errToken
}

// splitToken takes a token apart without believing it.
func splitToken(text string) (kid, signed string, signature, body []byte, err error) {
	if len(text) > maxTokenText || strings.Count(text, ".") != 2 {
		return "", "", nil, nil, errToken
	}
	last := strings.LastIndexByte(text, '.')
	head, payload, _ := strings.Cut(text[:last], ".")
	enc := base64.RawURLEncoding.Strict()
	if strings.ContainsAny(text, "\r\n") { // the decoder skips them
		return "", "", nil, nil, errToken
	}
	h, err := enc.DecodeString(head)
	if err != nil {
		return "", "", nil, nil, err
	}
	if body, err = enc.DecodeString(payload); err != nil {
		return "", "", nil, nil, err
	}
	if signature, err = enc.DecodeString(text[last+1:]); err != nil {
		return "", "", nil, nil, err
	}
	var header tokenHeader
	if err := strictJSON(h, &header); err != nil {
		return "", "", nil, nil, err
	}
	if header.Alg != tokenAlg || header.Typ != "JWT" {
		return "", "", nil, nil, errToken
	}
	return header.Kid, text[:last], signature, body, nil
}

// strictJSON reads an object that has no other keys than v, and nothing behind it:
// not jwk, jku, x5u or crit, which name other keys or other rules.
func strictJSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errToken
	}
	return nil
}

// actorOf returns on whose behalf a token is shown.
func (c *tokenClaims) actor() registry.Actor {
	a := registry.Actor{ID: c.Subject, Groups: c.Groups, Claims: c.Claims, JSONClaims: c.JSON, Scope: make([]registry.Grant, 0, len(c.Access))}
	for _, x := range c.Access {
		switch x.Type {
		case "repository":
			a.Scope = append(a.Scope, registry.Grant{Repositories: x.Name, Actions: x.Rights})
		case "registry":
			a.Scope = append(a.Scope, registry.Grant{Repositories: "**", Actions: registry.ActList})
		case tokenNames:
			a.Scope = append(a.Scope, registry.Grant{Repositories: x.Name, Actions: registry.ActList})
		}
	}
	return a
}
