package credentials

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// The URNs of OAuth 2.0's assertions (RFC 7523) and token exchange (RFC 8693).
const (
	grantClient    = "client_credentials"
	grantAssertion = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	assertionType  = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
	jwtToken       = "urn:ietf:params:oauth:token-type:jwt"
)

const (
	// assertionLife is how long an assertion that we sign holds.
	assertionLife = 5 * time.Minute
	// tokenLife is that of a token whose server does not say.
	tokenLife = 5 * time.Minute
	maxAnswer = 1 << 20
	maxFile   = 64 << 10
)

// OAuth2 is the helper that exchanges an assertion for a token of the registry.
func OAuth2(o Options) (Source, error) {
	h := o.Registry.OAuth2CredentialHelper
	if h == nil {
		return nil, errors.New("oauth2CredentialHelper: needed")
	}
	client, err := o.Client(h.TokenURL)
	if err != nil {
		return nil, err
	}
	now := o.Now
	if now == nil {
		now = time.Now
	}
	return Kept(func(ctx context.Context) (*upstream.Credentials, error) { return exchange(ctx, client, h, now) }, now), nil
}

func exchange(ctx context.Context, client *http.Client, h *config.OAuth2CredentialHelper, now func() time.Time) (*upstream.Credentials, error) {
	assertion, err := assertionOf(h, now())
	if err != nil {
		return nil, err
	}
	form := url.Values{"grant_type": {h.GrantType}}
	set := func(key, value string) {
		if value != "" {
			form.Set(key, value)
		}
	}
	set("scope", strings.Join(h.Scopes, " "))
	set("audience", h.Audience)
	switch h.GrantType {
	case grantClient:
		form.Set("client_assertion_type", assertionType)
		form.Set("client_assertion", assertion)
		set("client_id", h.ClientID)
	case grantAssertion:
		form.Set("assertion", assertion)
	case grantExchange:
		form.Set("subject_token", assertion)
		form.Set("subject_token_type", jwtToken)
		set("subject_token_type", h.SubjectTokenType)
		set("requested_token_type", h.RequestedTokenType)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, errors.New("tokenURL is no URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if h.ClientSecretFile != "" {
		secret, err := readSmall(h.ClientSecretFile)
		if err != nil {
			return nil, fmt.Errorf("clientSecretFile: %w", err)
		}
		req.SetBasicAuth(url.QueryEscape(h.ClientID), url.QueryEscape(secret)) // RFC 6749 §2.3.1
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking the token server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the token server answers with status %d", resp.StatusCode)
	}
	var answer struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&answer); err != nil || answer.AccessToken == "" {
		return nil, errors.New("the token server answers no token")
	}
	life := tokenLife
	if answer.ExpiresIn > 0 {
		life = time.Duration(min(answer.ExpiresIn, 7*24*60*60)) * time.Second
	}
	return &upstream.Credentials{Username: h.Username, Password: answer.AccessToken, Until: now().Add(life)}, nil
}

// readSmall returns the text of a file without white space around it.
func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	return strings.TrimSpace(string(b)), err
}

// assertionOf returns the assertion of a file, which may be replaced at any time, or
// one that we sign.
func assertionOf(h *config.OAuth2CredentialHelper, now time.Time) (string, error) {
	if h.AssertionFile != "" {
		text, err := readSmall(h.AssertionFile)
		if err != nil {
			return "", fmt.Errorf("assertionFile: %w", err)
		}
		return text, nil
	}
	text, err := readSmall(h.SigningFile)
	if err != nil {
		return "", fmt.Errorf("signingFile: %w", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return "", fmt.Errorf("signingFile: %w", err)
	}
	audience := h.Audience
	if audience == "" || h.GrantType == grantExchange {
		audience = h.TokenURL
	}
	claims, err := json.Marshal(map[string]any{
		"iss": h.ClientID, "sub": h.ClientID, "aud": audience, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return "", err
	}
	return sign(key, claims)
}

// parseKey reads a private key in PEM.
func parseKey(text string) (crypto.Signer, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("no private key in PEM")
	}
	if k, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	if k, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
		return k, nil
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("no private key that is known")
	}
	signer, ok := k.(crypto.Signer)
	if !ok {
		return nil, errors.New("a key that can't sign")
	}
	return signer, nil
}

// sign returns claims as a JSON Web Token.
func sign(key crypto.Signer, claims []byte) (string, error) {
	var alg jose.SignatureAlgorithm
	switch k := key.(type) {
	case *rsa.PrivateKey:
		alg = jose.RS256
	case ed25519.PrivateKey:
		alg = jose.EdDSA
	case *ecdsa.PrivateKey:
		alg = map[int]jose.SignatureAlgorithm{256: jose.ES256, 384: jose.ES384, 521: jose.ES512}[k.Params().BitSize]
	}
	if alg == "" {
		return "", errors.New("a key of a kind that is not known")
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, new(jose.SignerOptions).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("signing an assertion: %w", err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		return "", fmt.Errorf("signing an assertion: %w", err)
	}
	return signed.CompactSerialize()
}
