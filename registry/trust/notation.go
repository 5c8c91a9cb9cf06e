package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
)

// What notation stores (notaryproject specification, "OCI Signatures" and "JWS
// Signature Envelope").
const (
	typeNotation    = "application/vnd.cncf.notary.signature"
	typeJWS         = "application/jose+json"
	typePayload     = "application/vnd.cncf.notary.payload.v1+json"
	headerScheme    = "io.cncf.notary.signingScheme"
	headerExpiry    = "io.cncf.notary.expiry"
	headerAuthentic = "io.cncf.notary.authenticSigningTime"
	schemeX509      = "notary.x509"
	schemeAuthority = "notary.x509.signingAuthority"
)

// maxChain is how many certificates a signature may have.
const maxChain = 10

// jws verifies a signature of notation's about the manifest d of that type and size.
func (k *Keys) jws(d registry.Descriptor, text []byte, now time.Time) (author string, err error) {
	var e struct {
		Payload   string `json:"payload"`
		Protected string `json:"protected"`
		Header    struct {
			X5C [][]byte `json:"x5c"`
		} `json:"header"`
		Signature string `json:"signature"`
	}
	if err := json.Unmarshal(text, &e); err != nil || len(e.Header.X5C) == 0 || len(e.Header.X5C) > maxChain {
		return "", errMalformed
	}
	chain := make([]*x509.Certificate, len(e.Header.X5C))
	for i, der := range e.Header.X5C {
		if chain[i], err = x509.ParseCertificate(der); err != nil || !usable(chain[i].PublicKey) {
			return "", errMalformed
		}
	}
	protected, err1 := base64.RawURLEncoding.DecodeString(e.Protected)
	payload, err2 := base64.RawURLEncoding.DecodeString(e.Payload)
	sig, err3 := base64.RawURLEncoding.DecodeString(e.Signature)
	if errors.Join(err1, err2, err3) != nil {
		return "", errMalformed
	}
	var h struct {
		Alg       string    `json:"alg"`
		Type      string    `json:"cty"`
		Critical  []string  `json:"crit"`
		Scheme    string    `json:"io.cncf.notary.signingScheme"`
		Expiry    time.Time `json:"io.cncf.notary.expiry"`
		Authentic time.Time `json:"io.cncf.notary.authenticSigningTime"`
	}
	if err := json.Unmarshal(protected, &h); err != nil || h.Type != typePayload || !slices.Contains(h.Critical, headerScheme) {
		return "", errMalformed
	}
	for _, c := range h.Critical {
		if c != headerScheme && c != headerExpiry && c != headerAuthentic {
			return "", errors.New("the signature needs what is not known here: " + c)
		}
	}
	if err := verifyJWS(h.Alg, chain[0].PublicKey, []byte(e.Protected+"."+e.Payload), sig); err != nil {
		return "", err
	}
	store, at := StoreCA, now
	switch h.Scheme {
	case schemeX509:
	case schemeAuthority:
		if h.Authentic.IsZero() || h.Authentic.After(now) || !slices.Contains(h.Critical, headerAuthentic) {
			return "", errMalformed
		}
		store, at = StoreAuthority, h.Authentic
	default:
		return "", errors.New("the signing scheme is not known here")
	}
	if !h.Expiry.IsZero() && !now.Before(h.Expiry) {
		return "", errors.New("the signature has expired")
	}
	if err := k.anchored(chain, store, at); err != nil {
		return "", err
	}
	var p struct {
		Target struct {
			MediaType string          `json:"mediaType"`
			Digest    registry.Digest `json:"digest"`
			Size      int64           `json:"size"`
		} `json:"targetArtifact"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return "", errMalformed
	}
	if t := p.Target; t.Digest != d.Digest || t.Size != d.Size || t.MediaType != d.MediaType {
		return "", errOtherOne
	}
	return chain[0].Subject.String(), nil
}

// verifyJWS verifies a signature with the one algorithm that a key of its kind and
// size is used with (notaryproject specification, "Algorithm Selection").
func verifyJWS(alg string, key any, message, sig []byte) error {
	sum := func(h crypto.Hash) []byte {
		w := h.New()
		_, _ = w.Write(message)
		return w.Sum(nil)
	}
	switch pub := key.(type) {
	case *rsa.PublicKey:
		h, ok := map[int]crypto.Hash{2048: crypto.SHA256, 3072: crypto.SHA384, 4096: crypto.SHA512}[pub.N.BitLen()]
		if !ok || alg != map[crypto.Hash]string{crypto.SHA256: "PS256", crypto.SHA384: "PS384", crypto.SHA512: "PS512"}[h] {
			return errMalformed
		}
		if rsa.VerifyPSS(pub, h, sum(h), sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) != nil {
			return errNotOurs
		}
		return nil
	case *ecdsa.PublicKey:
		bits := pub.Curve.Params().BitSize
		h, ok := map[int]crypto.Hash{256: crypto.SHA256, 384: crypto.SHA384, 521: crypto.SHA512}[bits]
		n := (bits + 7) / 8
		if !ok || alg != map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[bits] || len(sig) != 2*n {
			return errMalformed
		}
		if !ecdsa.Verify(pub, sum(h), new(big.Int).SetBytes(sig[:n]), new(big.Int).SetBytes(sig[n:])) {
			return errNotOurs
		}
		return nil
	}
	return errMalformed
}

// anchored returns nil if a chain of certificates, the signer's first, leads to one
// of a trust store, all of them valid at a time.
func (k *Keys) anchored(chain []*x509.Certificate, store string, at time.Time) error {
	leaf := chain[0]
	if leaf.IsCA && !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) || leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return errors.New("the certificate is not for signatures")
	}
	if len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return errors.New("the certificate is not for signatures of code")
	}
	o := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	for _, c := range k.stores[store] {
		o.Roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		o.Intermediates.AddCert(c)
	}
	if _, err := leaf.Verify(o); err != nil {
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			return errors.New("the certificate is not valid now")
		} else if ok && invalid.Reason == x509.IncompatibleUsage {
			return errors.New("a certificate that vouches for the signer is not for signatures of code")
		}
		return errors.New("no uploaded certificate vouches for the signer")
	}
	return nil
}
