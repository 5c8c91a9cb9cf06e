package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// TestKeysOfASecret: the key that a token names is the only one that verifies it; a key
// that is new or gone counts when the secret is read again; without any key the answer
// is that nobody can tell, and keys of before go on.
func TestKeysOfASecret(t *testing.T) {
	first, second := named(t, "1"), named(t, "2")
	secret, reads := map[string]any{"1": string(first.pem(t))}, 0
	var broken error
	d := OpenBearerSecret(func(context.Context) ([]byte, error) {
		if reads++; broken != nil {
			return nil, broken
		}
		return json.Marshal(secret)
	}, time.Minute, "hub", env()).(*docker)
	now := time.Now()
	d.now = func() time.Time { return now }
	d.ring.now = d.now
	try := func(s signer, header map[string]any) error {
		t.Helper()
		_, verdict, err := d.Authenticate(t.Context(), &auth.Request{Bearer: s.token(t, good(nil), header)})
		if err == nil && verdict != auth.Accepted {
			err = errors.New("refused")
		}
		return err
	}
	broken = errors.New("no route")
	if err := try(first, nil); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("before the secret was read: %v", err)
	}
	broken = nil
	now = now.Add(keysAgain)
	for range 10 {
		if err := try(first, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, header := range []map[string]any{{"kid": "2"}, {"kid": ""}, {"kid": "1x"}} {
		if try(first, header) == nil {
			t.Errorf("taken with %v", header)
		}
	}
	if try(second, map[string]any{"kid": "1"}) == nil {
		t.Error("another key is taken under the name of the first")
	}
	if reads != 2 {
		t.Errorf("read %d times, want twice", reads)
	}
	secret = map[string]any{"2": second.jwk()}
	now = now.Add(keysAgain)
	if err := try(second, nil); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if try(first, nil) == nil {
		t.Error("a key that is gone is taken")
	}
	secret = map[string]any{"1": string(first.pem(t))}
	now = now.Add(time.Minute)
	if try(second, nil) == nil {
		t.Error("a key that is gone is taken after the interval")
	}
	broken = errors.New("no route")
	now = now.Add(time.Hour)
	if err := try(first, nil); err == nil {
		t.Error("the token has expired") // it is for five minutes
	}
	now = time.Now()
	if err := try(first, nil); err != nil {
		t.Errorf("while the secret can't be read: %v", err)
	}
}

func TestParseSecret(t *testing.T) {
	a, b := newSigner(t, "EdDSA"), newSigner(t, "ES256")
	text := func(v any) string {
		j, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(j)
	}
	jwk := b.jwk()
	jwk["kid"] = "what it says"
	for name, test := range map[string]struct {
		secret any
		want   []string // ids
	}{
		"PEM":            {map[string]any{"x": string(a.pem(t))}, []string{"x"}},
		"two keys":       {map[string]any{"y": string(b.pem(t)), "x": string(a.pem(t))}, []string{"x", "y"}},
		"two of one id":  {map[string]any{"x": string(a.pem(t)) + string(b.pem(t))}, []string{"x", "x"}},
		"a JWK":          {map[string]any{"x": jwk}, []string{"x"}},
		"a JWK as text":  {map[string]any{"x": text(jwk)}, []string{"x"}},
		"a set":          {map[string]any{"x": map[string]any{"keys": []any{jwk}}}, []string{"x"}},
		"a set as text":  {map[string]any{"x": text(map[string]any{"keys": []any{jwk}})}, []string{"x"}},
		"nothing":        {map[string]any{}, nil},
		"no object":      {"canary", nil},
		"no key":         {map[string]any{"x": "canary"}, nil},
		"a number":       {map[string]any{"x": 1}, nil},
		"an empty set":   {map[string]any{"x": map[string]any{"keys": []any{}}}, nil},
		"a symmetric":    {map[string]any{"x": map[string]any{"kty": "oct", "k": "canary"}}, nil},
		"a private key":  {map[string]any{"x": "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n"}, nil},
		"no id":          {map[string]any{"": string(a.pem(t))}, nil},
		"one that isn't": {map[string]any{"x": string(a.pem(t)), "y": "canary"}, nil},
	} {
		keys, err := parseSecret([]byte(text(test.secret)))
		var got []string
		for _, k := range keys {
			got = append(got, k.ID)
		}
		if diff := cmp.Diff(test.want, got); diff != "" || (err == nil) != (test.want != nil) {
			t.Errorf("%s: %v, -want +got\n%s", name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: the error tells what is in the secret: %v", name, err)
		}
	}
	many := map[string]any{}
	for i := range maxKeys + 1 {
		many[fmt.Sprint(i)] = jwk
	}
	if _, err := parseSecret([]byte(text(many))); err == nil {
		t.Error("any number of keys is taken")
	}
}

func FuzzParseSecret(f *testing.F) {
	f.Add([]byte(`{"x":"-----BEGIN PUBLIC KEY-----"}`))
	f.Add([]byte(`{"x":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseSecret(text)
		if err == nil && len(keys) == 0 {
			t.Error("no key and no error")
		}
		for _, k := range keys {
			if k.ID == "" || usable(k.Public) != nil {
				t.Errorf("%+v", k)
			}
		}
	})
}
