package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"strings"
)

// APIKeyPrefix begins API keys, as zot's.
const APIKeyPrefix = "zak_"

// NewSecret returns a secret of 160 random bits with a prefix that says what it is.
func NewSecret(prefix string) string {
	return prefix + strings.ToLower(rand.Text()) + strings.ToLower(rand.Text()[:6])
}

// SecretHash is what [Identities] knows a secret by. The kind is part of it: the
// same text is nothing as another kind. Secrets are random, so a fast hash does.
func SecretHash(kind CredentialKind, secret string) [sha256.Size]byte {
	return sha256.Sum256([]byte("berth " + string(kind) + "\x00" + secret))
}
