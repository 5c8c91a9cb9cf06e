package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // for crypto.SHA256
	_ "crypto/sha512" // for crypto.SHA384 and crypto.SHA512
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
)

// minRSA and maxRSA are how many bits an RSA key may have: smaller ones are weak,
// larger ones take long.
const (
	minRSA = 2048
	maxRSA = 8192
)

// verifies reports whether k has signed the token, by an algorithm that is k's.
func (k *Key) verifies(p *parsed) bool {
	if k.Alg != "" && k.Alg != p.alg {
		return false
	}
	switch key := k.Public.(type) {
	case ed25519.PublicKey:
		return p.alg == "EdDSA" && len(key) == ed25519.PublicKeySize && ed25519.Verify(key, p.signed, p.signature)
	case *rsa.PublicKey:
		hash, pss := rsaHash(p.alg)
		switch {
		case hash == 0:
			return false
		case pss:
			return rsa.VerifyPSS(key, hash, sum(hash, p.signed), p.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(key, hash, sum(hash, p.signed), p.signature) == nil
	case *ecdsa.PublicKey:
		hash, size := ecHash(p.alg, key.Curve)
		if hash == 0 || len(p.signature) != 2*size {
			return false
		}
		r, s := new(big.Int).SetBytes(p.signature[:size]), new(big.Int).SetBytes(p.signature[size:])
		return ecdsa.Verify(key, sum(hash, p.signed), r, s)
	}
	return false
}

func rsaHash(alg string) (hash crypto.Hash, pss bool) {
	switch alg {
	case "RS256":
		return crypto.SHA256, false
	case "RS384":
		return crypto.SHA384, false
	case "RS512":
		return crypto.SHA512, false
	case "PS256":
		return crypto.SHA256, true
	case "PS384":
		return crypto.SHA384, true
	case "PS512":
		return crypto.SHA512, true
	}
	return 0, false
}

// ecHash returns the hash, and the length of each half of a signature in bytes.
// Each algorithm has its own curve (RFC 7518, section 3.4).
func ecHash(alg string, curve elliptic.Curve) (hash crypto.Hash, size int) {
	switch {
	case alg == "ES256" && curve == elliptic.P256():
		return crypto.SHA256, 32
	case alg == "ES384" && curve == elliptic.P384():
		return crypto.SHA384, 48
	case alg == "ES512" && curve == elliptic.P521():
		return crypto.SHA512, 66
	}
	return 0, 0
}

func sum(hash crypto.Hash, b []byte) []byte {
	h := hash.New()
	h.Write(b)
	return h.Sum(nil)
}

// usable returns an error unless key can verify tokens.
func usable(key any) error {
	switch key := key.(type) {
	case ed25519.PublicKey, *ecdsa.PublicKey:
		return nil
	case *rsa.PublicKey:
		if n := key.N.BitLen(); n < minRSA || n > maxRSA {
			return fmt.Errorf("an RSA key of %d bits; from %d to %d are allowed", n, minRSA, maxRSA)
		}
		return nil
	}
	return errors.New("the key is none of RSA, ECDSA and Ed25519")
}

// ParsePEM returns the public keys of certificates and keys, PEM.
func ParsePEM(text []byte) ([]Key, error) {
	var keys []Key
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var public any
		var err error
		switch block.Type {
		case "CERTIFICATE":
			var c *x509.Certificate
			if c, err = x509.ParseCertificate(block.Bytes); err == nil {
				public = c.PublicKey
			}
		case "PUBLIC KEY":
			public, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			public, err = x509.ParsePKCS1PublicKey(block.Bytes)
		default:
			return nil, fmt.Errorf("a block is %q, neither a certificate nor a public key", block.Type)
		}
		if err == nil {
			err = usable(public)
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, Key{Public: public})
	}
	if len(keys) == 0 {
		return nil, errors.New("there is no key, PEM, in it")
	}
	return keys, nil
}

// maxKeys bounds the keys of a set.
const maxKeys = 100

// parseSet reads a JSON Web Key Set (RFC 7517). Keys that can't verify tokens, or
// that are malformed, are left out: issuers have other keys, too.
func parseSet(text []byte) ([]Key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, errors.New("the key set is not JSON")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("the key set has more than %d keys", maxKeys)
	}
	var keys []Key
	for _, raw := range set.Keys {
		var j webKey
		if json.Unmarshal(raw, &j) != nil || j.Use != "" && j.Use != "sig" {
			continue
		}
		if public := j.public(); public != nil && usable(public) == nil {
			keys = append(keys, Key{ID: j.Kid, Public: public, Alg: j.Alg})
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set has no key that verifies tokens")
	}
	return keys, nil
}

// webKey is a JSON Web Key.
type webKey struct {
	Kty, Kid, Use, Alg, Crv string
	N, E, X, Y              string
}

// public returns the key, nil if it is none.
func (j *webKey) public() crypto.PublicKey {
	number := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			return nil
		}
		return b
	}
	switch j.Kty {
	case "RSA":
		n, e := new(big.Int).SetBytes(number(j.N)), new(big.Int).SetBytes(number(j.E))
		if !e.IsInt64() || e.Int64() < 3 || e.Int64() > 1<<31-1 || e.Bit(0) == 0 {
			return nil
		}
		return &rsa.PublicKey{N: n, E: int(e.Int64())}
	case "EC":
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[j.Crv]
		x, y := number(j.X), number(j.Y)
		if curve == nil {
			return nil
		}
		size := (curve.Params().BitSize + 7) / 8
		if len(x) != size || len(y) != size {
			return nil
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
		if err != nil { // not a point of the curve
			return nil
		}
		return key
	case "OKP":
		if x := number(j.X); j.Crv == "Ed25519" && len(x) == ed25519.PublicKeySize {
			return ed25519.PublicKey(x)
		}
	}
	return nil
}
