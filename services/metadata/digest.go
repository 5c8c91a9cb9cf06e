package metadata

import (
	"encoding/hex"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

// The first byte of a stored digest says its algorithm; the hash follows. The
// order of stored digests is that of their strings.
const (
	algSHA256 = 1
	algSHA512 = 2
)

// pack returns d as it is stored, or [registry.ErrDigestInvalid].
func pack(d registry.Digest) ([]byte, error) {
	if _, err := registry.ParseDigest(string(d)); err != nil {
		return nil, err
	}
	alg := byte(algSHA256)
	if d.Algorithm() == registry.SHA512 {
		alg = algSHA512
	}
	b := make([]byte, 1, 65)
	b[0] = alg
	return hex.AppendDecode(b, []byte(d.Encoded()))
}

// unpack returns the digest that is stored as b.
func unpack(b []byte) (registry.Digest, error) {
	switch {
	case len(b) == 33 && b[0] == algSHA256:
		return registry.Digest("sha256:" + hex.EncodeToString(b[1:])), nil
	case len(b) == 65 && b[0] == algSHA512:
		return registry.Digest("sha512:" + hex.EncodeToString(b[1:])), nil
	}
	return "", fmt.Errorf("the database holds a malformed digest %x", b)
}
