package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/services/gateway/auth"
)

// ReadSecret reads the text of a secret.
type ReadSecret func(ctx context.Context) ([]byte, error)

// OpenBearerSecret returns the method of [OpenBearer] with keys from a secret, zot's
// JSON of key id to public key. Nothing is read before the first token comes, and the
// start does not depend on it. The secret is read again after every, and sooner, but at
// most each 10 seconds, for a token that names a key which is not in it. While it can't
// be read the keys of before go on, and without any the answer is 503.
func OpenBearerSecret(read ReadSecret, every time.Duration, service string, e auth.Env) auth.Method {
	log := e.Log.With("method", "bearer")
	return &docker{service: service, log: log, now: time.Now, ring: &keyring{
		load: func(ctx context.Context) ([]Key, error) {
			text, err := read(ctx)
			if err != nil {
				return nil, err
			}
			return parseSecret(text)
		},
		life: max(every, keysAgain), log: log, now: time.Now,
	}}
}

// parseSecret reads keys by their ids: each a text of PEM or of a JWK or JWK set, or one
// of the latter two as an object. The id of the secret counts, whatever a JWK says.
func parseSecret(text []byte) ([]Key, error) {
	var all map[string]json.RawMessage
	if json.Unmarshal(text, &all) != nil {
		return nil, errors.New("the secret is not a JSON object of key ids") // not with what stands in it
	}
	if len(all) > maxKeys {
		return nil, fmt.Errorf("the secret has more than %d keys", maxKeys)
	}
	var ids []string
	for id := range all {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var keys []Key
	for _, id := range ids {
		if id == "" {
			return nil, errors.New("a key of the secret has no id")
		}
		of, err := keysOf(all[id])
		if err != nil {
			return nil, fmt.Errorf("key %q of the secret: %w", id, err)
		}
		for _, k := range of {
			k.ID = id
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the secret has no key in it")
	}
	return keys, nil
}

// keysOf reads the value of one id.
func keysOf(raw json.RawMessage) ([]Key, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		if !json.Valid([]byte(text)) {
			return ParsePEM([]byte(text))
		}
		raw = json.RawMessage(text)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(raw, &set) != nil {
		return nil, errors.New("it is neither PEM nor a JWK")
	}
	if set.Keys == nil { // one key
		set.Keys = []json.RawMessage{raw}
	}
	b, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	return parseSet(b)
}
