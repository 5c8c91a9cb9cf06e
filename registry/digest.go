package registry

import (
	_ "crypto/sha256" // the algorithms that ParseDigest accepts
	_ "crypto/sha512"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Digest names content by its hash, "sha256:<64 lower-case hex digits>" or
// "sha512:<128>" (image-spec, descriptor.md, "Digests"). A Digest that comes
// from [ParseDigest] is well formed; the zero value names nothing.
type Digest = digest.Digest

// Algorithm is a hash algorithm of a [Digest].
type Algorithm = digest.Algorithm

// The algorithms Berth stores content under.
const (
	SHA256 = digest.SHA256
	SHA512 = digest.SHA512
)

// ParseDigest returns s as a Digest, or [ErrDigestInvalid] if it is malformed
// or of an algorithm other than [SHA256] and [SHA512].
func ParseDigest(s string) (Digest, error) {
	alg, hex, ok := strings.Cut(s, ":")
	if !ok {
		return "", ErrDigestInvalid.With("a digest has the form algorithm:hex")
	}
	want := 0
	switch Algorithm(alg) {
	case SHA256:
		want = 64
	case SHA512:
		want = 128
	default:
		return "", ErrDigestInvalid.With("digest algorithm is not sha256 or sha512")
	}
	if len(hex) != want || strings.Trim(hex, "0123456789abcdef") != "" {
		return "", ErrDigestInvalid.With("digest must have %d lower-case hex digits", want)
	}
	return Digest(s), nil
}

// ParseAlgorithm returns s as an Algorithm, or [ErrDigestInvalid].
func ParseAlgorithm(s string) (Algorithm, error) {
	switch a := Algorithm(s); a {
	case SHA256, SHA512:
		return a, nil
	}
	return "", ErrDigestInvalid.With("digest algorithm is not sha256 or sha512")
}
