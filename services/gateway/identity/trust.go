package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

const (
	// trustEvery is how often the Catalog is asked what was taken away: who is
	// disabled, and which credentials are gone.
	trustEvery = 5 * time.Second
	// trustLife is how long an answer is believed when the Catalog gives no other.
	trustLife = time.Minute
	// knownLife is how long the owner of an API key or session is known.
	knownLife = time.Minute
	// maxKnown bounds each of the caches.
	maxKnown = 20_000
)

// trust is what tokens are verified with, and what credentials were good for a
// moment ago. It follows the Catalog.
type trust struct {
	from registry.Identities
	log  *slog.Logger
	now  func() time.Time

	reading sync.Mutex // held by who asks the Catalog

	mu       sync.Mutex // guards all below
	revision int64
	read     time.Time // when the Catalog was asked last
	signing  registry.SigningKey
	keys     map[string]publicKey
	disabled map[string]bool
	tokens   map[[sha256.Size]byte]knownToken
	owners   map[[sha256.Size]byte]knownOwner
}

type publicKey struct {
	key   ed25519.PublicKey
	until int64
}

// knownToken is a token that was verified.
type knownToken struct {
	actor registry.Actor
	until time.Time // the token expires
	kid   string
}

// knownOwner is a credential that the Catalog knew.
type knownOwner struct {
	credential registry.Credential
	user       registry.User
	until      time.Time
}

func newTrust(from registry.Identities, log *slog.Logger) *trust {
	return &trust{from: from, log: log, now: time.Now}
}

// follow asks the Catalog again and again until ctx ends.
func (t *trust) follow(ctx context.Context) {
	tick := time.NewTicker(trustEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !t.wanted() {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, trustEvery)
		if err := t.refresh(ask); err != nil && ctx.Err() == nil {
			t.log.Warn("asking the catalog which tokens are good", "error", err)
		}
		cancel()
	}
}

// wanted reports whether anything is kept that could have become wrong.
func (t *trust) wanted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.revision != 0
}

// refresh asks the Catalog.
func (t *trust) refresh(ctx context.Context) error {
	t.reading.Lock()
	defer t.reading.Unlock()
	t.mu.Lock()
	have, began := t.revision, t.now()
	t.mu.Unlock()
	got, err := t.from.Trust(ctx, have)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.read = began
	if got.Revision == have && have != 0 {
		return nil
	}
	t.revision = got.Revision
	t.keys, t.disabled = make(map[string]publicKey, len(got.Keys)), make(map[string]bool, len(got.Disabled))
	for _, k := range got.Keys {
		if len(k.Seed) != ed25519.SeedSize {
			continue
		}
		pub, _ := ed25519.NewKeyFromSeed(k.Seed).Public().(ed25519.PublicKey)
		t.keys[k.ID] = publicKey{pub, k.Until}
	}
	t.signing = registry.SigningKey{}
	if len(got.Keys) > 0 {
		t.signing = got.Keys[0]
	}
	for _, id := range got.Disabled {
		t.disabled[id] = true
	}
	// Credentials are asked for again; tokens stay as long as their keys do.
	t.owners = nil
	for h, k := range t.tokens {
		if _, ok := t.keys[k.kid]; !ok {
			delete(t.tokens, h)
		}
	}
	return nil
}

// fresh makes sure that what is known is not older than it may be.
func (t *trust) fresh(ctx context.Context) error {
	t.mu.Lock()
	ok := t.revision != 0 && t.now().Sub(t.read) < trustLife
	t.mu.Unlock()
	if ok {
		return nil
	}
	return t.refresh(ctx)
}

// signer returns the key to sign with.
func (t *trust) signer(ctx context.Context) (registry.SigningKey, error) {
	if err := t.fresh(ctx); err != nil {
		return registry.SigningKey{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.signing.Seed) != ed25519.SeedSize {
		return registry.SigningKey{}, registry.ErrInternal.With("the catalog has no signing key")
	}
	return t.signing, nil
}

// tokenHash returns the hash of a token. One of the usual size is not copied to the heap.
func tokenHash(text string) [sha256.Size]byte {
	var usual [2 << 10]byte
	if len(text) > len(usual) {
		return sha256.Sum256([]byte(text))
	}
	return sha256.Sum256(usual[:copy(usual[:], text)])
}

// token returns the actor of a token. A token that names a key which is not known
// yet has the Catalog asked, but not more often than once a second.
func (t *trust) token(ctx context.Context, text, audience string) (registry.Actor, error) {
	if len(text) > maxTokenText {
		return registry.Actor{}, errToken
	}
	if err := t.fresh(ctx); err != nil {
		return registry.Actor{}, err
	}
	hash := tokenHash(text)
	now := t.now()
	t.mu.Lock()
	if k, ok := t.tokens[hash]; ok && now.Before(k.until) {
		off := t.disabled[k.actor.ID]
		t.mu.Unlock()
		if off {
			return registry.Actor{}, errToken
		}
		return k.actor, nil
	}
	t.mu.Unlock()

	kid, _, _, _, err := splitToken(text)
	if err != nil || len(kid) > registry.MaxCredentialID {
		return registry.Actor{}, errToken
	}
	if t.key(kid) == nil && t.old(time.Second) {
		if err := t.refresh(ctx); err != nil {
			return registry.Actor{}, err
		}
	}
	c, err := verify(text, audience, now, t.key)
	if err != nil {
		return registry.Actor{}, err
	}
	a := c.actor()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.disabled[a.ID] {
		return registry.Actor{}, errToken
	}
	if _, ok := t.keys[kid]; !ok {
		return registry.Actor{}, errToken
	}
	if len(t.tokens) >= maxKnown || t.tokens == nil {
		t.tokens = make(map[[sha256.Size]byte]knownToken)
	}
	t.tokens[hash] = knownToken{a, time.Unix(c.Expires, 0).Add(leeway), kid}
	return a, nil
}

func (t *trust) key(kid string) ed25519.PublicKey {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k, ok := t.keys[kid]; ok && k.until > t.now().UnixMicro() {
		return k.key
	}
	return nil
}

// old reports whether the Catalog was not asked for so long.
func (t *trust) old(d time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now().Sub(t.read) >= d
}

// owner returns the credential of a secret and whose it is, as the Catalog said at
// most knownLife ago; [registry.ErrUnauthorized] if it is none.
func (t *trust) owner(ctx context.Context, kind registry.CredentialKind, secret string) (registry.Credential, registry.User, error) {
	if err := t.fresh(ctx); err != nil {
		return registry.Credential{}, registry.User{}, err
	}
	hash := registry.SecretHash(kind, secret)
	now := t.now()
	t.mu.Lock()
	k, ok := t.owners[hash]
	revision := t.revision
	t.mu.Unlock()
	if ok && now.Before(k.until) && !k.credential.Expired(now) {
		return k.credential, k.user, nil
	}
	c, u, err := t.from.UseCredential(ctx, kind, hash[:])
	if err != nil {
		return registry.Credential{}, registry.User{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.revision == revision { // nothing was taken away meanwhile
		if len(t.owners) >= maxKnown || t.owners == nil {
			t.owners = make(map[[sha256.Size]byte]knownOwner)
		}
		t.owners[hash] = knownOwner{c, u, now.Add(knownLife)}
	}
	return c, u, nil
}

// has reports whether it is known without asking the Catalog that a secret is owner's.
func (t *trust) has(kind registry.CredentialKind, secret, owner string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	k, ok := t.owners[registry.SecretHash(kind, secret)]
	return ok && k.credential.Owner == owner && t.now().Before(k.until)
}

// isDisabled reports whether a user may not come in, by whatever way.
func (t *trust) isDisabled(ctx context.Context, id string) (bool, error) {
	if err := t.fresh(ctx); err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.disabled[id], nil
}

// forget drops what is known of a secret.
func (t *trust) forget(kind registry.CredentialKind, secret string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.owners, registry.SecretHash(kind, secret))
}
