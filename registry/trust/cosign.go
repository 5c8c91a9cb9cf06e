package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// What cosign stores (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md and
// specs/BUNDLE_SPEC.md).
const (
	typeCosignArtifact = "application/vnd.dev.cosign.artifact.sig.v1+json"
	typeSimpleSigning  = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeBundlePrefix   = "application/vnd.dev.sigstore.bundle"
	signatureKey       = "dev.cosignproject.cosign/signature"
	simpleType         = "cosign container image signature"
	inTotoType         = "application/vnd.in-toto+json"
	signPredicate      = "https://sigstore.dev/cosign/sign/v1"
)

var (
	errNotOurs   = errors.New("no uploaded key has made this signature")
	errOtherOne  = errors.New("the signature is of another image")
	errMalformed = errors.New("the signature can't be read")
)

// simple verifies a signature over a payload in the simple signing format.
func (k *Keys) simple(d registry.Digest, payload []byte, signature string) (author string, err error) {
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(sig) == 0 {
		return "", errMalformed
	}
	author, ok := k.signed(payload, sig)
	if !ok {
		return "", errNotOurs
	}
	var p struct {
		Critical struct {
			Image struct {
				Digest registry.Digest `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &p); err != nil || p.Critical.Type != simpleType {
		return "", errMalformed
	}
	if p.Critical.Image.Digest != d {
		return "", errOtherOne
	}
	return author, nil
}

// bundle verifies a sigstore bundle about the manifest d, whose bytes are content.
func (k *Keys) bundle(d registry.Digest, content, text []byte) (author string, err error) {
	var b struct {
		MediaType string `json:"mediaType"`
		Envelope  *struct {
			Payload     []byte `json:"payload"`
			PayloadType string `json:"payloadType"`
			Signatures  []struct {
				Sig []byte `json:"sig"`
			} `json:"signatures"`
		} `json:"dsseEnvelope"`
		Message *struct {
			Digest struct {
				Algorithm string `json:"algorithm"`
				Digest    []byte `json:"digest"`
			} `json:"messageDigest"`
			Signature []byte `json:"signature"`
		} `json:"messageSignature"`
	}
	if err := json.Unmarshal(text, &b); err != nil || !strings.HasPrefix(b.MediaType, typeBundlePrefix) || (b.Envelope == nil) == (b.Message == nil) {
		return "", errMalformed
	}
	if m := b.Message; m != nil {
		sum := sha256.Sum256(content)
		if m.Digest.Algorithm != "SHA2_256" || string(m.Digest.Digest) != string(sum[:]) {
			return "", errOtherOne
		}
		author, ok := k.signed(content, m.Signature)
		if !ok {
			return "", errNotOurs
		}
		return author, nil
	}
	e := b.Envelope
	if e.PayloadType != inTotoType || len(e.Signatures) != 1 {
		return "", errMalformed
	}
	// DSSE v1, "Pre-Authentication Encoding".
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
	author, ok := k.signed(pae, e.Signatures[0].Sig)
	if !ok {
		return "", errNotOurs
	}
	var statement struct {
		Type      string `json:"_type"`
		Predicate string `json:"predicateType"`
		Subject   []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
	}
	if err := json.Unmarshal(e.Payload, &statement); err != nil || !strings.HasPrefix(statement.Type, "https://in-toto.io/Statement/") {
		return "", errMalformed
	}
	if statement.Predicate != signPredicate {
		return "", errors.New("an attestation, no signature")
	}
	for _, s := range statement.Subject {
		if s.Digest[string(d.Algorithm())] == d.Encoded() {
			return author, nil
		}
	}
	return "", errOtherOne
}

// signed returns the key, PEM, that has signed message.
func (k *Keys) signed(message, sig []byte) (author string, ok bool) {
	sum := sha256.Sum256(message)
	for _, p := range k.cosign {
		switch key := p.key.(type) {
		case *ecdsa.PublicKey:
			ok = ecdsa.VerifyASN1(key, sum[:], sig)
		case ed25519.PublicKey:
			ok = ed25519.Verify(key, message, sig)
		case *rsa.PublicKey:
			ok = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sig) == nil || rsa.VerifyPSS(key, crypto.SHA256, sum[:], sig, nil) == nil
		}
		if ok {
			return p.pem, true
		}
	}
	return "", false
}
