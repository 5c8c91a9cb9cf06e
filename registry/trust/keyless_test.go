package trust

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	workflow = "https://github.com/berth/app/.github/workflows/release.yaml@refs/tags/v1"
	provider = "https://token.actions.example.com"
)

// sigstore is an authority and a log, as Fulcio and Rekor are.
type sigstore struct {
	root, middle *authority
	log          *ecdsa.PrivateKey
}

func newSigstore(t *testing.T) *sigstore {
	root := issue(t, nil, isCA)
	return &sigstore{root, issue(t, root, isCA), newKey(t)}
}

// signer makes a certificate of ten minutes.
func (s *sigstore) signer(t *testing.T, change func(*x509.Certificate)) *authority {
	t.Helper()
	return issue(t, s.middle, func(c *x509.Certificate) {
		u, err1 := url.Parse(workflow)
		issuer, err2 := asn1.MarshalWithParams(provider, "utf8")
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		c.Subject, c.URIs = pkix.Name{}, []*url.URL{u}
		c.NotBefore, c.NotAfter = time.Now().Add(-30*time.Minute), time.Now().Add(-20*time.Minute)
		c.ExtraExtensions = []pkix.Extension{{Id: issuerOIDs[0], Value: issuer}}
		if change != nil {
			change(c)
		}
	})
}

// signed is a signature and what the log has promised of it.
type signed struct {
	by      *authority
	sig     []byte
	kind    string
	sum     string // of what was signed, as the entry has it
	entryOf []byte // the signature that the entry is of
	cert    *x509.Certificate
	at      time.Time
	log     *ecdsa.PrivateKey
}

// signed signs message within a quarter of an hour after its certificate began.
func (s *sigstore) signed(t *testing.T, by *authority, kind string, message, hashed []byte) *signed {
	sum := sha256.Sum256(hashed)
	sig := sign(t, by.key, message)
	return &signed{by, sig, kind, hex.EncodeToString(sum[:]), sig, by.cert, time.Now().Add(-25 * time.Minute), s.log}
}

// promise returns the entry's body and what the log has signed.
func (x *signed) promise(t *testing.T) (body, id, set []byte) {
	t.Helper()
	b64 := base64.StdEncoding.EncodeToString
	verifier := b64([]byte(certPEM(x.cert)))
	switch x.kind {
	case "dsse":
		body = fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":"dsse","spec":{"payloadHash":{"algorithm":"sha256","value":%q},"signatures":[{"signature":%q,"verifier":%q}]}}`, x.sum, b64(x.entryOf), verifier)
	default:
		body = fmt.Appendf(nil, `{"apiVersion":"0.0.1","kind":%q,"spec":{"data":{"hash":{"algorithm":"sha256","value":%q}},"signature":{"content":%q,"publicKey":{"content":%q}}}}`, x.kind, x.sum, b64(x.entryOf), verifier)
	}
	block, _ := pem.Decode([]byte(publicPEM(t, x.log.Public())))
	sum := sha256.Sum256(block.Bytes)
	text := fmt.Sprintf(`{"body":"%s","integratedTime":%d,"logID":"%s","logIndex":7}`, b64(body), x.at.Unix(), hex.EncodeToString(sum[:]))
	return body, sum[:], sign(t, x.log, []byte(text))
}

// annotations are those of cosign's layer.
func (x *signed) annotations(t *testing.T, s *sigstore) map[string]string {
	body, id, set := x.promise(t)
	b, err := json.Marshal(map[string]any{"SignedEntryTimestamp": set, "Payload": map[string]any{"body": body, "integratedTime": x.at.Unix(), "logIndex": 7, "logID": hex.EncodeToString(id)}})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{certificateKey: certPEM(x.by.cert), chainKey: certPEM(s.middle.cert) + certPEM(s.root.cert), bundleKey: string(b)}
}

// material is that of a bundle.
func (x *signed) material(t *testing.T) string {
	body, id, set := x.promise(t)
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"certificate":{"rawBytes":%q},"tlogEntries":[{"logIndex":"7","logId":{"keyId":%q},"kindVersion":{"kind":%q,"version":"0.0.1"},"integratedTime":"%d","inclusionPromise":{"signedEntryTimestamp":%q},"canonicalizedBody":%q}]}`,
		b64(x.by.cert.Raw), b64(id), x.kind, x.at.Unix(), b64(set), b64(body))
}

func (s *sigstore) keys(t *testing.T, identities ...Identity) *Keys {
	t.Helper()
	k, err := NewKeyless(certPEM(s.root.cert)+certPEM(s.middle.cert), publicPEM(t, s.log.Public()), identities)
	if err != nil {
		t.Fatal(err)
	}
	return New(nil).With([]*Keyless{k})
}

// TestS087Keyless: signatures without a key, in cosign's annotations and in
// both kinds of bundles.
func TestS087Keyless(t *testing.T) {
	s, now := newSigstore(t), time.Now()
	keys := s.keys(t, Identity{provider, "https://github.com/berth/*"})
	payload := simplePayload(image.Digest, simpleType)
	simple := func(x *signed) (string, error) {
		return keys.simple(image.Digest, payload, base64.StdEncoding.EncodeToString(x.sig), annotatedProof(x.annotations(t, s)), now)
	}
	attested := []byte(statement(image.Digest, signPredicate))
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(inTotoType), inTotoType, len(attested), attested)
	envelope := func(x *signed) (string, error) {
		return keys.bundle(image.Digest, imageBytes, fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":%s,"dsseEnvelope":{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}]}}`,
			x.material(t), base64.StdEncoding.EncodeToString(attested), inTotoType, base64.StdEncoding.EncodeToString(x.sig)), now)
	}
	sum := sha256.Sum256(imageBytes)
	message := func(x *signed) (string, error) {
		return keys.bundle(image.Digest, imageBytes, fmt.Appendf(nil, `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":%s,"messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`,
			x.material(t), base64.StdEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(x.sig)), now)
	}
	forms := map[string]struct {
		sign   func(by *authority) *signed
		verify func(*signed) (string, error)
	}{
		"annotations": {func(by *authority) *signed { return s.signed(t, by, "hashedrekord", payload, payload) }, simple},
		"envelope":    {func(by *authority) *signed { return s.signed(t, by, "dsse", pae, attested) }, envelope},
		"message":     {func(by *authority) *signed { return s.signed(t, by, "hashedrekord", imageBytes, imageBytes) }, message},
	}
	stranger := newSigstore(t)
	for form, f := range forms {
		if author, err := f.verify(f.sign(s.signer(t, nil))); err != nil || author != workflow+" ("+provider+")" {
			t.Errorf("%s: %q, %v", form, author, err)
		}
		old := func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: issuerOIDs[1], Value: []byte(provider)}}
		}
		if _, err := f.verify(f.sign(s.signer(t, old))); err != nil {
			t.Errorf("%s, with the issuer as it was formerly: %v", form, err)
		}
		for name, change := range map[string]func(*x509.Certificate){
			"another workflow": func(c *x509.Certificate) { c.URIs[0].Path = "/evil/app" },
			"another host":     func(c *x509.Certificate) { c.URIs[0].Host = "github.com.example.com" },
			"another provider": func(c *x509.Certificate) { c.ExtraExtensions[0].Value[3] ^= 1 },
			"no provider":      func(c *x509.Certificate) { c.ExtraExtensions = nil },
			"two names":        func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} },
			"no name":          func(c *x509.Certificate) { c.URIs = nil },
			"of a server":      func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
			"not valid then":   func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-26 * time.Minute) },
			"valid after that": func(c *x509.Certificate) { c.NotBefore = time.Now().Add(-22 * time.Minute) },
			"for an authority": func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign },
			"critical unknowns": func(c *x509.Certificate) {
				c.ExtraExtensions[0].Id, c.ExtraExtensions[0].Critical = asn1.ObjectIdentifier{1, 2, 3}, true
			},
		} {
			if author, err := f.verify(f.sign(s.signer(t, change))); err == nil || author != "" {
				t.Errorf("%s: a certificate, %s, is trusted: %q", form, name, author)
			}
		}
		for name, change := range map[string]func(*signed){
			"a log of strangers":            func(x *signed) { x.log = stranger.log },
			"an entry of other content":     func(x *signed) { x.sum = strings.Repeat("0", 64) },
			"an entry of another signature": func(x *signed) { x.entryOf = sign(t, x.by.key, []byte("other")) },
			"an entry of another signer":    func(x *signed) { x.cert = s.signer(t, nil).cert },
			"an entry of an unknown kind":   func(x *signed) { x.kind = "rfc3161" },
			"another's certificate":         func(x *signed) { x.by = s.signer(t, nil); x.cert = x.by.cert },
			"promised too late":             func(x *signed) { x.at = time.Now().Add(-19 * time.Minute) },
			"promised tomorrow":             func(x *signed) { x.at = time.Now().Add(24 * time.Hour) },
			"no signature":                  func(x *signed) { x.sig, x.entryOf = nil, nil },
		} {
			x := f.sign(s.signer(t, nil))
			change(x)
			if author, err := f.verify(x); err == nil || author != "" {
				t.Errorf("%s: %s is trusted: %q", form, name, author)
			}
		}
		if author, err := f.verify(f.sign(stranger.signer(t, nil))); err == nil {
			t.Errorf("%s: an authority of strangers is trusted: %q", form, author)
		}
	}
	// What was promised at one time does not hold for another.
	x := s.signed(t, s.signer(t, nil), "hashedrekord", payload, payload)
	p := annotatedProof(x.annotations(t, s))
	b64 := base64.StdEncoding.EncodeToString(x.sig)
	for name, change := range map[string]func(*proof){
		"another time":    func(p *proof) { p.entries[0].seconds++ },
		"another index":   func(p *proof) { p.entries[0].index++ },
		"no entry":        func(p *proof) { p.entries = nil },
		"no certificate":  func(p *proof) { p.chain = nil },
		"no DER":          func(p *proof) { p.chain = [][]byte{{1}} },
		"too many of one": func(p *proof) { p.chain = append(p.chain, make([][]byte, maxChain)...) },
	} {
		changed := proof{append([][]byte(nil), p.chain...), append([]entry(nil), p.entries...)}
		change(&changed)
		if author, err := keys.simple(image.Digest, payload, b64, changed, now); err == nil || author != "" {
			t.Errorf("%s: trusted, by %q", name, author)
		}
	}
	if _, err := keys.simple(image.Digest, payload, b64, p, now); err != nil {
		t.Errorf("unchanged: %v", err)
	}
	if _, err := keys.simple(other, payload, b64, p, now); err == nil {
		t.Error("a signature of another image is trusted")
	}
	if _, err := s.keys(t, Identity{provider, "https://github.com/berth/app"}).simple(image.Digest, payload, b64, p, now); err == nil {
		t.Error("a subject without * is one that others may begin with")
	}
	if _, err := New(nil).simple(image.Digest, payload, b64, p, now); err == nil {
		t.Error("trusted without an authority")
	}
	for name, files := range map[string][2]string{
		"no root":        {certPEM(s.middle.cert), publicPEM(t, s.log.Public())},
		"no certificate": {"", publicPEM(t, s.log.Public())},
		"no key":         {certPEM(s.root.cert), ""},
		"no public key":  {certPEM(s.root.cert), certPEM(s.root.cert)},
	} {
		if _, err := NewKeyless(files[0], files[1], nil); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
