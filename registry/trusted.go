package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
)

// TrustStore is the part of [Catalog] that keeps what signatures are verified with.
type TrustStore interface {
	// Trusted lists the keys and certificates, ordered by ID. They are public.
	Trusted(ctx context.Context) ([]TrustedKey, error)

	// AddTrusted adds one; what is there already stays as it is. a must be an
	// administrator. Who calls has made sure that it can be used.
	// [ErrTooLarge] beyond [MaxTrusted] of them or [MaxTrustedPEM] bytes.
	AddTrusted(ctx context.Context, a Actor, k TrustedKey) error

	// RemoveTrusted removes one. a must be an administrator. [ErrParameterInvalid] if
	// there is none.
	RemoveTrusted(ctx context.Context, a Actor, id string) error

	// Parents lists the indexes of repo that list the manifest d, at most 100.
	Parents(ctx context.Context, a Actor, repo Name, d Digest) ([]Digest, error)
}

// MaxTrusted is how many keys and certificates there may be, MaxTrustedPEM how many
// bytes one may have, MaxParents how many indexes [TrustStore.Parents] lists.
const (
	MaxTrusted    = 100
	MaxTrustedPEM = 64 << 10
	MaxParents    = 100
)

// The tools that sign.
const (
	ToolCosign   = "cosign"
	ToolNotation = "notation"
)

// TrustedKey is a public key of cosign's, or certificates of notation's.
type TrustedKey struct {
	// ID is made of the other fields, see [TrustedID].
	ID   string
	Tool string // ToolCosign or ToolNotation
	// Store is the kind of notation's trust store: ca or signingAuthority.
	Store string
	PEM   string
	Actor string // who added it
	Since int64  // when, microseconds since 1970
}

// TrustedID returns the ID of a key with these fields.
func TrustedID(k TrustedKey) string {
	sum := sha256.Sum256([]byte(k.Tool + "\n" + k.Store + "\n" + k.PEM))
	return hex.EncodeToString(sum[:16])
}
