package trust

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Keys are what signatures are verified with. The zero value trusts nobody. Its
// methods may be called by many goroutines.
type Keys struct {
	cosign []publicKey
	stores map[string][]*x509.Certificate // of notation, by kind
	// keyless are authorities of the config file, for cosign's signatures without a key.
	keyless []*Keyless
	// Revision is another one whenever the keys are.
	Revision string
}

type publicKey struct {
	key any // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
	pem string
}

// The kinds of notation's trust stores (notaryproject specification, "Trust Store").
const (
	StoreCA        = "ca"
	StoreAuthority = "signingAuthority"
)

// New returns the keys of a catalog. What can't be read trusts nobody.
func New(all []registry.TrustedKey) *Keys {
	k := &Keys{stores: make(map[string][]*x509.Certificate)}
	var ids []string
	for _, t := range all {
		ids = append(ids, t.ID)
		switch t.Tool {
		case registry.ToolCosign:
			if key, err := parsePublic(t.PEM); err == nil {
				k.cosign = append(k.cosign, publicKey{key, t.PEM})
			}
		case registry.ToolNotation:
			if certs, err := parseCertificates(t.PEM); err == nil {
				k.stores[t.Store] = append(k.stores[t.Store], certs...)
			}
		}
	}
	slices.Sort(ids)
	k.Revision = strings.Join(ids, " ")
	return k
}

// With returns keys that also trust what authorities vouch for.
func (k *Keys) With(all []*Keyless) *Keys {
	more := *k
	more.keyless = all
	return &more
}

// Check returns [registry.ErrParameterInvalid] if t is nothing to verify signatures
// with.
func Check(t registry.TrustedKey) error {
	var err error
	switch {
	case t.Tool == registry.ToolCosign && t.Store == "":
		_, err = parsePublic(t.PEM)
	case t.Tool == registry.ToolNotation && (t.Store == StoreCA || t.Store == StoreAuthority):
		_, err = parseCertificates(t.PEM)
	default:
		err = errors.New("there is no such tool or trust store")
	}
	if err != nil {
		return registry.ErrParameterInvalid.With("%v", err)
	}
	return nil
}

// parsePublic reads one public key, PEM of PKIX.
func parsePublic(text string) (any, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PUBLIC KEY" || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("not a public key: want one PEM block PUBLIC KEY")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a public key")
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return k, nil
	case *rsa.PublicKey:
		if k.N.BitLen() < 2048 || !usable(k) {
			return nil, errors.New("an RSA key must have 2048 to 8192 bits")
		}
		return k, nil
	}
	return nil, fmt.Errorf("keys of type %T are not supported", key)
}

// parseCertificates reads certificates, PEM.
func parseCertificates(text string) (all []*x509.Certificate, err error) {
	rest := []byte(text)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("not a certificate: want PEM blocks CERTIFICATE")
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !usable(c.PublicKey) {
			return nil, errors.New("not a certificate, or one with an RSA key of more than 8192 bits")
		}
		all = append(all, c)
	}
	if len(all) == 0 || strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("not a certificate: want PEM blocks CERTIFICATE")
	}
	return all, nil
}

// usable reports whether it takes no more than milliseconds to verify a signature with
// a key: the time grows with the square of its length, and whoever stores a signature
// chooses its certificates.
func usable(key any) bool {
	k, ok := key.(*rsa.PublicKey)
	return !ok || k.N.BitLen() <= 8192
}
