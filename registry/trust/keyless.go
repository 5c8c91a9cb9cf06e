package trust

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Keyless says whose signatures are trusted that were made with a certificate of some
// minutes (sigstore, "Fulcio" and "Rekor"). Such a signature has two witnesses: an
// authority says who asked for the certificate, and a transparency log has promised
// to list the signature, at a time when the certificate was valid.
type Keyless struct {
	roots, between *x509.CertPool
	logs           map[string]any // public keys, by their SHA-256 as the log's entries name them
	identities     []Identity
}

// Identity is who may have signed.
type Identity struct {
	// Issuer is the URL of the OpenID Connect provider that vouched for Subject.
	Issuer string
	// Subject is an e-mail address or URI; with * at its end, all that begin so.
	Subject string
}

// NewKeyless returns what trusts identities that certificates of an authority name:
// roots are PEM, self-signed ones and others between, logs public keys, PEM.
func NewKeyless(roots, logs string, identities []Identity) (*Keyless, error) {
	certs, err := parseCertificates(roots)
	if err != nil {
		return nil, fmt.Errorf("the authority: %w", err)
	}
	k := &Keyless{roots: x509.NewCertPool(), between: x509.NewCertPool(), logs: make(map[string]any), identities: identities}
	anchored := false
	for _, c := range certs {
		if c.CheckSignatureFrom(c) == nil {
			k.roots.AddCert(c)
			anchored = true
		} else {
			k.between.AddCert(c)
		}
	}
	if !anchored {
		return nil, errors.New("the authority: none of the certificates is signed by itself")
	}
	rest := []byte(logs)
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		key, err := parsePublic(string(pem.EncodeToMemory(block)))
		if err != nil {
			return nil, fmt.Errorf("the log: %w", err)
		}
		id := sha256.Sum256(block.Bytes)
		k.logs[string(id[:])] = key
	}
	if len(k.logs) == 0 {
		return nil, errors.New("the log: not a public key: want PEM blocks PUBLIC KEY")
	}
	return k, nil
}

// proof is what comes with a signature to say who made it, and when.
type proof struct {
	chain   [][]byte // certificates, DER, the signer's first
	entries []entry  // of transparency logs
}

// entry is what a log has promised to list: its SignedEntryTimestamp is over all of it
// (github.com/sigstore/rekor, "SET").
type entry struct {
	body    []byte
	logID   []byte // SHA-256 of the log's key
	index   int64
	seconds int64 // since 1970, when it was promised
	promise []byte
}

// maxEntries is how many entries of a signature are looked at.
const maxEntries = 5

// material is how sigstore's bundles have a proof.
type material struct {
	Certificate *struct {
		Raw []byte `json:"rawBytes"`
	} `json:"certificate"`
	Chain *struct {
		Certificates []struct {
			Raw []byte `json:"rawBytes"`
		} `json:"certificates"`
	} `json:"x509CertificateChain"`
	Entries []struct {
		Index int64 `json:"logIndex,string"`
		Log   struct {
			ID []byte `json:"keyId"`
		} `json:"logId"`
		Seconds int64 `json:"integratedTime,string"`
		Promise struct {
			SET []byte `json:"signedEntryTimestamp"`
		} `json:"inclusionPromise"`
		Body []byte `json:"canonicalizedBody"`
	} `json:"tlogEntries"`
}

func (m material) proof() (p proof) {
	if m.Certificate != nil {
		p.chain = append(p.chain, m.Certificate.Raw)
	} else if m.Chain != nil {
		for _, c := range m.Chain.Certificates {
			p.chain = append(p.chain, c.Raw)
		}
	}
	for _, e := range m.Entries {
		p.entries = append(p.entries, entry{e.Body, e.Log.ID, e.Index, e.Seconds, e.Promise.SET})
	}
	return p
}

// Where cosign has a proof beside a simple signature: annotations of its layer.
const (
	certificateKey = "dev.sigstore.cosign/certificate"
	chainKey       = "dev.sigstore.cosign/chain"
	bundleKey      = "dev.sigstore.cosign/bundle"
)

// annotatedProof returns the proof that annotations have; an empty one if there is none
// that can be read.
func annotatedProof(annotations map[string]string) (p proof) {
	rest := []byte(annotations[certificateKey] + "\n" + annotations[chainKey])
	for len(p.chain) <= maxChain {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		p.chain = append(p.chain, block.Bytes)
	}
	var b struct {
		SET     []byte `json:"SignedEntryTimestamp"`
		Payload struct {
			Body    []byte `json:"body"`
			Seconds int64  `json:"integratedTime"`
			Index   int64  `json:"logIndex"`
			Log     string `json:"logID"`
		} `json:"Payload"`
	}
	if json.Unmarshal([]byte(annotations[bundleKey]), &b) != nil {
		return proof{}
	}
	id, err := hex.DecodeString(b.Payload.Log)
	if err != nil {
		return proof{}
	}
	p.entries = []entry{{b.Payload.Body, id, b.Payload.Index, b.Payload.Seconds, b.SET}}
	return p
}

// verify returns who has signed message, whose content within is payload, nil if it is
// message itself.
func (k *Keyless) verify(p proof, message, payload, sig []byte, now time.Time) (author string, err error) {
	if len(p.chain) == 0 || len(p.chain) > maxChain || len(p.entries) == 0 {
		return "", errNotOurs
	}
	chain := make([]*x509.Certificate, len(p.chain))
	for i, der := range p.chain {
		if chain[i], err = x509.ParseCertificate(der); err != nil || !usable(chain[i].PublicKey) {
			return "", errMalformed
		}
	}
	leaf := chain[0]
	if author, err = k.identify(leaf); err != nil {
		return "", err
	}
	if !signedWith(leaf.PublicKey, message, sig) {
		return "", errors.New("the certificate's key has not made this signature")
	}
	problem := errors.New("no log that is trusted here has promised to list the signature")
	for _, e := range p.entries[:min(len(p.entries), maxEntries)] {
		if !k.promised(e) {
			continue
		}
		if err := e.isAbout(leaf, message, payload, sig); err != nil {
			problem = err
			continue
		}
		at := time.Unix(e.seconds, 0)
		if at.After(now) {
			problem = errMalformed
			continue
		}
		if problem = k.vouched(chain, at); problem == nil {
			return author, nil
		}
	}
	return "", problem
}

// promised reports whether a log whose key is known has signed the entry.
func (k *Keyless) promised(e entry) bool {
	// JSON in its canonical form (RFC 8785).
	text := fmt.Appendf(nil, `{"body":%q,"integratedTime":%d,"logID":%q,"logIndex":%d}`,
		base64.StdEncoding.EncodeToString(e.body), e.seconds, hex.EncodeToString(e.logID), e.index)
	key, ok := k.logs[string(e.logID)]
	return ok && signedWith(key, text, e.promise)
}

// isAbout returns nil if the entry is of this very signature by this certificate: that
// some entry is listed says nothing (S-087).
func (e entry) isAbout(leaf *x509.Certificate, message, payload, sig []byte) error {
	type hash struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"value"`
	}
	var b struct {
		Version string `json:"apiVersion"`
		Kind    string `json:"kind"`
		Spec    struct {
			// Of kind hashedrekord.
			Data struct {
				Hash hash `json:"hash"`
			} `json:"data"`
			Signature struct {
				Content []byte `json:"content"`
				Key     struct {
					Content []byte `json:"content"`
				} `json:"publicKey"`
			} `json:"signature"`
			// Of kind dsse.
			Payload    hash `json:"payloadHash"`
			Signatures []struct {
				Signature []byte `json:"signature"`
				Verifier  []byte `json:"verifier"`
			} `json:"signatures"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(e.body, &b); err != nil || b.Version != "0.0.1" {
		return errMalformed
	}
	of, sum, signature, verifier := message, b.Spec.Data.Hash, b.Spec.Signature.Content, b.Spec.Signature.Key.Content
	switch {
	case b.Kind == "hashedrekord":
	case b.Kind == "dsse" && payload != nil && len(b.Spec.Signatures) == 1:
		of, sum, signature, verifier = payload, b.Spec.Payload, b.Spec.Signatures[0].Signature, b.Spec.Signatures[0].Verifier
	default:
		return fmt.Errorf("entries of logs of kind %.40q are not read", b.Kind)
	}
	want := sha256.Sum256(of)
	block, _ := pem.Decode(verifier)
	if sum.Algorithm != "sha256" || sum.Value != hex.EncodeToString(want[:]) || string(signature) != string(sig) || block == nil || string(block.Bytes) != string(leaf.Raw) {
		return errors.New("the log's entry is of another signature")
	}
	return nil
}

// vouched returns nil if a chain leads to the authority, all of it valid at a time.
func (k *Keyless) vouched(chain []*x509.Certificate, at time.Time) error {
	between := k.between.Clone()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	o := x509.VerifyOptions{Roots: k.roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	if _, err := chain[0].Verify(o); err != nil {
		if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
			return errors.New("the certificate was not valid when the log was told of the signature")
		}
		return errors.New("no authority that is trusted here vouches for the signer")
	}
	return nil
}

// The issuer in a certificate of Fulcio's, as a UTF8String and, formerly, as it is
// (github.com/sigstore/fulcio, docs/oid-info.md).
var issuerOIDs = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 57264, 1, 8}, {1, 3, 6, 1, 4, 1, 57264, 1, 1}}

// identify returns whom a certificate names, if that is somebody who may sign.
func (k *Keyless) identify(c *x509.Certificate) (string, error) {
	subjects := slices.Clone(c.EmailAddresses)
	for _, u := range c.URIs {
		subjects = append(subjects, u.String())
	}
	if len(subjects) != 1 || len(c.DNSNames)+len(c.IPAddresses) > 0 || c.IsCA {
		return "", errors.New("the certificate does not name one signer")
	}
	issuer := ""
	for i, oid := range issuerOIDs {
		for _, e := range c.Extensions {
			if issuer != "" || !e.Id.Equal(oid) {
				continue
			}
			if issuer = string(e.Value); i == 0 {
				if rest, err := asn1.UnmarshalWithParams(e.Value, &issuer, "utf8"); err != nil || len(rest) > 0 {
					return "", errMalformed
				}
			}
		}
	}
	for _, id := range k.identities {
		prefix, open := strings.CutSuffix(id.Subject, "*")
		if id.Issuer == issuer && (subjects[0] == id.Subject || open && strings.HasPrefix(subjects[0], prefix)) {
			return subjects[0] + " (" + issuer + ")", nil
		}
	}
	return "", fmt.Errorf("signatures of %.200q by %.200q are not trusted here", subjects[0], issuer)
}

// signedWith reports whether a key has signed message.
func signedWith(key any, message, sig []byte) bool {
	sum := sha256.Sum256(message)
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, sum[:], sig)
	case ed25519.PublicKey:
		return ed25519.Verify(key, message, sig)
	case *rsa.PublicKey:
		return rsaSigned(key, sum[:], sig)
	}
	return false
}
