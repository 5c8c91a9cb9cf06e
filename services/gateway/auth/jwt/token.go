package jwt

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	// maxToken is how many bytes a token may have.
	maxToken = 32 << 10
	// leeway is how wrong clocks may be.
	leeway = time.Minute
)

// The reasons to refuse a token, for the log.
var (
	errMalformed = errors.New("the token is not a JWT")
	errSignature = errors.New("no key that fits has signed the token")
)

// parsed is a token that nobody has verified yet.
type parsed struct {
	alg, kid  string
	signed    []byte // what the signature is of
	signature []byte
	payload   []byte
}

// split takes a token apart. It allocates nothing for what is not one.
func split(text string) (*parsed, error) {
	if len(text) > maxToken || strings.Count(text, ".") != 2 || strings.ContainsAny(text, "\r\n") {
		return nil, errMalformed
	}
	last := strings.LastIndexByte(text, '.')
	first := strings.IndexByte(text, '.')
	var parts [3][]byte
	for i, s := range []string{text[:first], text[first+1 : last], text[last+1:]} {
		b, err := base64.RawURLEncoding.Strict().DecodeString(s)
		if err != nil {
			return nil, errMalformed
		}
		parts[i] = b
	}
	var header struct {
		Alg  string          `json:"alg"`
		Kid  string          `json:"kid"`
		Crit json.RawMessage `json:"crit"`
	}
	if json.Unmarshal(parts[0], &header) != nil {
		return nil, errMalformed
	}
	if header.Crit != nil {
		return nil, errors.New("the token has critical extensions")
	}
	return &parsed{alg: header.Alg, kid: header.Kid, signed: []byte(text[:last]), signature: parts[2], payload: parts[1]}, nil
}

// claims are what a token says. Numbers are [json.Number].
type claims map[string]any

// verify returns the claims if one of keys has signed the token and it is for one of
// the audiences and for now. Claims are not looked at before the signature is.
func (p *parsed) verify(keys []Key, audiences []string, now time.Time) (claims, error) {
	var signer *Key
	for i := range keys {
		if k := &keys[i]; (p.kid == "" || k.ID == "" || k.ID == p.kid) && k.verifies(p) {
			signer = k
			break
		}
	}
	if signer == nil {
		return nil, errSignature
	}
	c, err := decodeClaims(p.payload)
	if err != nil {
		return nil, err
	}
	if err := c.good(now); err != nil {
		return nil, err
	}
	for _, a := range audiences {
		if c.names("aud", a) {
			return c, nil
		}
	}
	return nil, errors.New("the token is for another audience")
}

func decodeClaims(payload []byte) (claims, error) {
	var c claims
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&c); err != nil || c == nil || d.More() {
		return nil, errMalformed
	}
	return c, nil
}

// good checks the times (RFC 7519, section 4.1). A token that is good for ever is not.
func (c claims) good(now time.Time) error {
	expires, ok := c.time("exp")
	if !ok {
		return errors.New("the token does not say when it expires")
	}
	if !now.Before(expires.Add(leeway)) {
		return errors.New("the token has expired")
	}
	for _, name := range []string{"nbf", "iat"} {
		if _, there := c[name]; !there {
			continue
		}
		at, ok := c.time(name)
		if !ok {
			return fmt.Errorf("the token's %s is not a time", name)
		}
		if now.Add(leeway).Before(at) {
			return errors.New("the token is not good yet")
		}
	}
	return nil
}

// time returns a NumericDate.
func (c claims) time(name string) (time.Time, bool) {
	n, ok := c[name].(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || math.Abs(f) > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// names reports whether a claim is a text, or a list that has it.
func (c claims) names(name, want string) bool {
	switch v := c[name].(type) {
	case string:
		return v == want
	case []any:
		for _, item := range v {
			if item == want {
				return true
			}
		}
	}
	return false
}

func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

// Key verifies signatures.
type Key struct {
	ID     string // "" fits any
	Public crypto.PublicKey
	// Alg is the only algorithm it is for, "" for all that its type has.
	Alg string
}
