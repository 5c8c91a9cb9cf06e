package trust

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

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
func (k *Keys) simple(d registry.Digest, payload []byte, signature string, p proof, now time.Time) (author string, err error) {
	sig, err := base64.StdEncoding.DecodeString(signature)
	if err != nil || len(sig) == 0 {
		return "", errMalformed
	}
	if author, err = k.signed(payload, nil, sig, p, now); err != nil {
		return "", err
	}
	var said struct {
		Critical struct {
			Image struct {
				Digest registry.Digest `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(payload, &said); err != nil || said.Critical.Type != simpleType {
		return "", errMalformed
	}
	if said.Critical.Image.Digest != d {
		return "", errOtherOne
	}
	return author, nil
}

// bundle verifies a sigstore bundle about the manifest d, whose bytes are content.
func (k *Keys) bundle(d registry.Digest, content, text []byte, now time.Time) (author string, err error) {
	var b struct {
		MediaType string   `json:"mediaType"`
		Material  material `json:"verificationMaterial"`
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
		return k.signed(content, nil, m.Signature, b.Material.proof(), now)
	}
	e := b.Envelope
	if e.PayloadType != inTotoType || len(e.Signatures) != 1 {
		return "", errMalformed
	}
	// DSSE v1, "Pre-Authentication Encoding".
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(e.PayloadType), e.PayloadType, len(e.Payload), e.Payload)
	if author, err = k.signed(pae, e.Payload, e.Signatures[0].Sig, b.Material.proof(), now); err != nil {
		return "", err
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

// signed returns the key, PEM, that has signed message; or, if there is a proof, who it
// says has. payload is what is within message, nil if it is message itself.
func (k *Keys) signed(message, payload, sig []byte, p proof, now time.Time) (author string, err error) {
	for _, c := range k.cosign {
		if signedWith(c.key, message, sig) {
			return c.pem, nil
		}
	}
	err = errNotOurs
	for _, l := range k.keyless {
		if author, err = l.verify(p, message, payload, sig, now); err == nil {
			return author, nil
		}
	}
	return "", err
}

func rsaSigned(key *rsa.PublicKey, sum, sig []byte) bool {
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum, sig) == nil || rsa.VerifyPSS(key, crypto.SHA256, sum, sig, nil) == nil
}
