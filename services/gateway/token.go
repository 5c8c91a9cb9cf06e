package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"sync"

	"github.com/berth-registry/berth/registry"
)

// session is what an upload token says. The token stands in the Location of an
// upload, carries the pool and the algorithm, and is authenticated together with
// the repository, the actor and the upload's ID, so that nobody can continue an
// upload under another name (compare CVE-2026-32589) and every gateway with the
// same Catalog can continue it.
type session struct {
	repo  registry.Name
	actor string
	id    registry.UploadID
	pool  registry.Pool
	alg   registry.Algorithm
}

// tokenVersion is the first byte of a token. Another one is another format.
const tokenVersion = 1

// maxToken is the length of the longest token that is looked at, in bytes.
const maxToken = 2 << 10

// seal returns the session's token: base64url of the version, the key's ID, the
// algorithm and the pool (each with its length before it), and the MAC.
func (s session) seal(k registry.Key) string {
	b := []byte{tokenVersion}
	b = appendField(b, k.ID)
	b = appendField(b, string(s.alg))
	b = appendField(b, string(s.pool))
	return base64.RawURLEncoding.EncodeToString(append(b, s.mac(k)...))
}

// mac authenticates all of s. Every field has its length before it, so no two
// sessions have the same input.
func (s session) mac(k registry.Key) []byte {
	b := []byte("berth upload\x00")
	for _, f := range []string{k.ID, string(s.repo), s.actor, string(s.id), string(s.pool), string(s.alg)} {
		b = appendField(b, f)
	}
	h := hmac.New(sha256.New, k.Secret)
	h.Write(b)
	return h.Sum(nil)
}

func appendField(b []byte, f string) []byte {
	b = binary.AppendUvarint(b, uint64(len(f)))
	return append(b, f...)
}

// token is a parsed token that nobody has authenticated yet.
type token struct {
	key  string // its ID
	alg  registry.Algorithm
	pool registry.Pool
	mac  []byte
}

// parseToken reads a token, or returns [registry.ErrUploadUnknown].
func parseToken(s string) (token, error) {
	// The decoder skips line breaks: one session would have many tokens.
	if s == "" || len(s) > maxToken || strings.ContainsAny(s, "\r\n") {
		return token{}, registry.ErrUploadUnknown
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < 1+sha256.Size || b[0] != tokenVersion {
		return token{}, registry.ErrUploadUnknown
	}
	var t token
	b, t.mac = b[1:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	key, b, ok1 := cutField(b)
	alg, b, ok2 := cutField(b)
	pool, b, ok3 := cutField(b)
	if !ok1 || !ok2 || !ok3 || len(b) > 0 {
		return token{}, registry.ErrUploadUnknown
	}
	t.key, t.alg, t.pool = key, registry.Algorithm(alg), registry.Pool(pool)
	return t, nil
}

func cutField(b []byte) (field string, rest []byte, ok bool) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return "", nil, false
	}
	b = b[used:]
	return string(b[:n]), b[n:], true
}

// keyring caches the Catalog's keys until a token names one that is not there.
type keyring struct {
	from registry.Keyring

	mu   sync.Mutex // guards keys
	keys []registry.Key
}

// signing returns the key to make tokens with.
func (k *keyring) signing(ctx context.Context) (registry.Key, error) {
	keys, err := k.known(ctx, false)
	if err != nil {
		return registry.Key{}, err
	}
	return keys[0], nil
}

// open authenticates a token and returns the pool and algorithm in it. s holds
// all the rest. A token that is not ours, or not for s, is
// [registry.ErrUploadUnknown], like a session that does not exist.
func (k *keyring) open(ctx context.Context, text string, s session) (session, error) {
	t, err := parseToken(text)
	if err != nil {
		return session{}, err
	}
	s.pool, s.alg = t.pool, t.alg
	for _, fresh := range []bool{false, true} {
		keys, err := k.known(ctx, fresh)
		if err != nil {
			return session{}, err
		}
		for _, key := range keys {
			if key.ID != t.key {
				continue
			}
			if !hmac.Equal(t.mac, s.mac(key)) {
				return session{}, registry.ErrUploadUnknown
			}
			return s, nil
		}
	}
	return session{}, registry.ErrUploadUnknown
}

func (k *keyring) known(ctx context.Context, fresh bool) ([]registry.Key, error) {
	k.mu.Lock()
	keys := k.keys
	k.mu.Unlock()
	if keys != nil && !fresh {
		return keys, nil
	}
	keys, err := k.from.UploadKeys(ctx)
	if err != nil {
		return nil, err
	}
	if len(keys) == 0 {
		return nil, registry.ErrInternal.With("the catalog has no upload keys")
	}
	k.mu.Lock()
	k.keys = keys
	k.mu.Unlock()
	return keys, nil
}
