package trust

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

var (
	imageBytes = []byte(`{"schemaVersion":2}`)
	image      = registry.Descriptor{MediaType: registry.TypeManifest, Digest: registry.SHA256.FromBytes(imageBytes), Size: int64(len(imageBytes))}
	other      = registry.SHA256.FromString("another image")
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicPEM(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func cosignKeys(t *testing.T, keys ...crypto.Signer) *Keys {
	t.Helper()
	var all []registry.TrustedKey
	for _, k := range keys {
		t1 := registry.TrustedKey{Tool: registry.ToolCosign, PEM: publicPEM(t, k.Public())}
		if err := Check(t1); err != nil {
			t.Fatal(err)
		}
		all = append(all, t1)
	}
	return New(all)
}

func sign(t *testing.T, k crypto.Signer, message []byte) []byte {
	t.Helper()
	sum, hash := sha256.Sum256(message), crypto.SHA256
	digest := sum[:]
	if _, ok := k.(ed25519.PrivateKey); ok {
		digest, hash = message, 0
	}
	sig, err := k.Sign(rand.Reader, digest, hash)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func simplePayload(d registry.Digest, kind string) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":%q},"type":%q},"optional":null}`, d, kind)
}

// TestS086S087SimpleSigning: nothing but a signature of this very image by
// an uploaded key is trusted.
func TestS086S087SimpleSigning(t *testing.T) {
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	mine, stranger := newKey(t), newKey(t)
	keys := cosignKeys(t, stranger, mine, edwards, rsaKey)
	payload := simplePayload(image.Digest, simpleType)
	b64 := base64.StdEncoding.EncodeToString
	for _, k := range []crypto.Signer{mine, edwards, rsaKey} {
		author, err := keys.simple(image.Digest, payload, b64(sign(t, k, payload)), proof{}, time.Now())
		if err != nil || author != publicPEM(t, k.Public()) {
			t.Errorf("a good signature by %T: %q, %v", k, author, err)
		}
	}
	moved := simplePayload(other, simpleType)
	wrongType := simplePayload(image.Digest, "something else")
	for name, test := range map[string]struct {
		keys      *Keys
		payload   []byte
		signature string
	}{
		"unknown key":     {cosignKeys(t, newKey(t)), payload, b64(sign(t, mine, payload))},
		"no key":          {New(nil), payload, b64(sign(t, mine, payload))},
		"another image":   {keys, moved, b64(sign(t, mine, moved))},
		"wrong payload":   {keys, append([]byte(" "), payload...), b64(sign(t, mine, payload))},
		"another type":    {keys, wrongType, b64(sign(t, mine, wrongType))},
		"no signature":    {keys, payload, ""},
		"no base64":       {keys, payload, "!"},
		"garbage":         {keys, payload, b64([]byte("garbage"))},
		"signed no JSON":  {keys, []byte("x"), b64(sign(t, mine, []byte("x")))},
		"signed nothing":  {keys, nil, b64(sign(t, mine, nil))},
		"signed no image": {keys, []byte(`{}`), b64(sign(t, mine, []byte(`{}`)))},
	} {
		if author, err := test.keys.simple(image.Digest, test.payload, test.signature, proof{}, time.Now()); err == nil || author != "" {
			t.Errorf("%s is trusted, by %q", name, author)
		}
	}
}

func statement(d registry.Digest, predicate string) string {
	return fmt.Sprintf(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"","digest":{"sha256":%q}}],"predicateType":%q}`, d.Encoded(), predicate)
}

func envelope(t *testing.T, k crypto.Signer, payloadType, payload string) string {
	t.Helper()
	sig := sign(t, k, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"x"}},"dsseEnvelope":{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}]}}`,
		b64([]byte(payload)), payloadType, b64(sig))
}

// TestS087Bundle is the same for sigstore bundles.
func TestS087Bundle(t *testing.T) {
	mine := newKey(t)
	keys := cosignKeys(t, mine)
	good := envelope(t, mine, inTotoType, statement(image.Digest, signPredicate))
	sum := sha256.Sum256(imageBytes)
	b64 := base64.StdEncoding.EncodeToString
	message := func(digest []byte, k crypto.Signer) string {
		return fmt.Sprintf(`{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.2","messageSignature":{"messageDigest":{"algorithm":"SHA2_256","digest":%q},"signature":%q}}`, b64(digest), b64(sign(t, k, imageBytes)))
	}
	for _, text := range []string{good, message(sum[:], mine)} {
		if author, err := keys.bundle(image.Digest, imageBytes, []byte(text), time.Now()); err != nil || author != publicPEM(t, mine.Public()) {
			t.Errorf("a good bundle: %q, %v\n%s", author, err, text)
		}
	}
	for name, text := range map[string]string{
		"unknown key":     envelope(t, newKey(t), inTotoType, statement(image.Digest, signPredicate)),
		"another image":   envelope(t, mine, inTotoType, statement(other, signPredicate)),
		"an attestation":  envelope(t, mine, inTotoType, statement(image.Digest, "https://spdx.dev/Document")),
		"another payload": envelope(t, mine, "text/plain", statement(image.Digest, signPredicate)),
		"no statement":    envelope(t, mine, inTotoType, `{}`),
		"no subject":      envelope(t, mine, inTotoType, `{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"`+signPredicate+`"}`),
		"no signature":    strings.Replace(good, `"signatures":[`, `"signatures":[],"x":[`, 1),
		"other message":   message(make([]byte, 32), mine),
		"other signer":    message(sum[:], newKey(t)),
		"neither":         `{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}`,
		"no type":         strings.Replace(good, "mediaType", "x", 1),
		"no JSON":         "x",
		"both":            strings.Replace(good, `{"mediaType"`, `{"messageSignature":{},"mediaType"`, 1),
	} {
		if author, err := keys.bundle(image.Digest, imageBytes, []byte(text), time.Now()); err == nil || author != "" {
			t.Errorf("%s is trusted, by %q", name, author)
		}
	}
}

// authority is a certificate with its key.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func issue(t *testing.T, by *authority, change func(*x509.Certificate)) *authority {
	t.Helper()
	k := newKey(t)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer", Country: []string{"DE"}}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, BasicConstraintsValid: true,
	}
	if change != nil {
		change(c)
	}
	if by == nil {
		by = &authority{k, c}
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by.cert, k.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{k, cert}
}

func isCA(c *x509.Certificate) {
	c.NotBefore = c.NotBefore.Add(-24 * time.Hour)
	c.IsCA, c.KeyUsage, c.ExtKeyUsage, c.Subject.CommonName = true, x509.KeyUsageCertSign, nil, "authority"
}

func certPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

// jwsOf makes an envelope as notation does; change is for its protected header.
func jwsOf(t *testing.T, by *authority, target registry.Descriptor, change func(map[string]any), chain ...*authority) []byte {
	t.Helper()
	h := map[string]any{"alg": "ES256", "cty": typePayload, "crit": []string{headerScheme}, headerScheme: schemeX509, "io.cncf.notary.signingTime": time.Now().UTC()}
	if change != nil {
		change(h)
	}
	protected, err1 := json.Marshal(h)
	payload, err2 := json.Marshal(map[string]any{"targetArtifact": map[string]any{"mediaType": target.MediaType, "digest": target.Digest, "size": target.Size}})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	sum := sha256.Sum256([]byte(b64(protected) + "." + b64(payload)))
	r, s, err := ecdsa.Sign(rand.Reader, by.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	x5c := [][]byte{by.cert.Raw}
	for _, c := range chain {
		x5c = append(x5c, c.cert.Raw)
	}
	text, err := json.Marshal(map[string]any{"payload": b64(payload), "protected": b64(protected), "header": map[string]any{"x5c": x5c}, "signature": b64(sig)})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestS087Notation: envelopes of notation's, their chains, times, and what is signed.
func TestS087Notation(t *testing.T) {
	now := time.Now()
	root := issue(t, nil, isCA)
	middle := issue(t, root, isCA)
	leaf := issue(t, middle, nil)
	self := issue(t, nil, nil)
	old := issue(t, middle, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-3*time.Hour), now.Add(-time.Hour) })
	early := issue(t, middle, func(c *x509.Certificate) { c.NotBefore = now.Add(30 * time.Minute) })
	server := issue(t, middle, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
	forger := issue(t, leaf, nil) // a leaf is no authority
	tls := issue(t, root, func(c *x509.Certificate) {
		isCA(c)
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	keys := New([]registry.TrustedKey{
		{ID: "1", Tool: registry.ToolNotation, Store: StoreCA, PEM: certPEM(root.cert)},
		{ID: "2", Tool: registry.ToolNotation, Store: StoreCA, PEM: certPEM(self.cert)},
		{ID: "3", Tool: registry.ToolNotation, Store: StoreAuthority, PEM: certPEM(root.cert)},
	})
	authentic := func(at time.Time) func(map[string]any) {
		return func(h map[string]any) {
			h["crit"], h[headerScheme], h[headerAuthentic] = []string{headerScheme, headerAuthentic}, schemeAuthority, at
		}
	}
	for name, text := range map[string][]byte{
		"chain":       jwsOf(t, leaf, image, nil, middle, root),
		"self-signed": jwsOf(t, self, image, nil),
		"expires": jwsOf(t, leaf, image, func(h map[string]any) {
			h["crit"], h[headerExpiry] = []string{headerScheme, headerExpiry}, now.Add(time.Hour)
		}, middle),
		"authority vouches for the time": jwsOf(t, old, image, authentic(now.Add(-2*time.Hour)), middle),
	} {
		if author, err := keys.jws(image, text, now); err != nil || !strings.Contains(author, "CN=signer") {
			t.Errorf("%s: %q, %v", name, author, err)
		}
	}
	another := image
	another.Digest = other
	longer := image
	longer.Size++
	good := string(jwsOf(t, leaf, image, nil, middle, root))
	for name, text := range map[string][]byte{
		"another image":           jwsOf(t, leaf, another, nil, middle, root),
		"another size":            jwsOf(t, leaf, longer, nil, middle, root),
		"a stranger":              jwsOf(t, issue(t, nil, nil), image, nil),
		"a chain with a gap":      jwsOf(t, leaf, image, nil),
		"expired certificate":     jwsOf(t, old, image, nil, middle),
		"certificate of tomorrow": jwsOf(t, early, image, nil, middle),
		"certificate of a server": jwsOf(t, server, image, nil, middle),
		"authority of servers":    jwsOf(t, issue(t, tls, nil), image, nil, tls, root),
		"issued by a signer":      jwsOf(t, forger, image, nil, leaf, middle, root),
		"expired signature": jwsOf(t, leaf, image, func(h map[string]any) {
			h["crit"], h[headerExpiry] = []string{headerScheme, headerExpiry}, now.Add(-time.Minute)
		}, middle),
		"needs a plugin": jwsOf(t, leaf, image, func(h map[string]any) {
			h["crit"] = []string{headerScheme, "io.cncf.notary.verificationPlugin"}
		}, middle),
		"unknown scheme":        jwsOf(t, leaf, image, func(h map[string]any) { h[headerScheme] = "x" }, middle),
		"scheme not critical":   jwsOf(t, leaf, image, func(h map[string]any) { h["crit"] = []string{} }, middle),
		"another algorithm":     jwsOf(t, leaf, image, func(h map[string]any) { h["alg"] = "none" }, middle),
		"another content":       jwsOf(t, leaf, image, func(h map[string]any) { h["cty"] = "text/plain" }, middle),
		"signed in the future":  jwsOf(t, leaf, image, authentic(now.Add(time.Minute)), middle),
		"self as authority":     jwsOf(t, self, image, authentic(now.Add(-time.Minute))),
		"another's certificate": jwsOf(t, &authority{newKey(t), leaf.cert}, image, nil, middle),
		"no certificates":       []byte(strings.Replace(good, "x5c", "x5d", 1)),
		"no JSON":               []byte("x"),
		"wrong payload":         []byte(strings.Replace(good, `"payload":"`, `"payload":"e30","x":"`, 1)),
	} {
		if author, err := keys.jws(image, text, now); err == nil || author != "" {
			t.Errorf("%s is trusted, by %q", name, author)
		}
	}
	if _, err := New(nil).jws(image, []byte(good), now); err == nil {
		t.Error("trusted without certificates")
	}
}

// TestKeys: what is no key is refused when it is uploaded, and trusts nobody.
func TestKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this Go makes no weak keys:", err)
	}
	key := publicPEM(t, newKey(t).Public())
	cert := certPEM(issue(t, nil, nil).cert)
	for name, k := range map[string]registry.TrustedKey{
		"nothing":       {Tool: registry.ToolCosign},
		"two":           {Tool: registry.ToolCosign, PEM: key + key},
		"a certificate": {Tool: registry.ToolCosign, PEM: cert},
		"a store":       {Tool: registry.ToolCosign, Store: StoreCA, PEM: key},
		"weak":          {Tool: registry.ToolCosign, PEM: publicPEM(t, weak.Public())},
		"no tool":       {PEM: key},
		"no store":      {Tool: registry.ToolNotation, PEM: cert},
		"a key":         {Tool: registry.ToolNotation, Store: StoreCA, PEM: key},
		"more":          {Tool: registry.ToolNotation, Store: StoreCA, PEM: cert + "x"},
	} {
		if err := Check(k); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := Check(registry.TrustedKey{Tool: registry.ToolNotation, Store: StoreCA, PEM: cert + cert}); err != nil {
		t.Error(err)
	}
	if k := New([]registry.TrustedKey{{ID: "a", Tool: registry.ToolCosign, PEM: "x"}}); len(k.cosign) != 0 || k.Revision != "a" {
		t.Errorf("%+v", k)
	}
}

// TestLargeKeys: a chain whose keys take minutes to compute with is refused before
// anything is computed with them.
func TestLargeKeys(t *testing.T) {
	signer := newKey(t)
	n := new(big.Int).Lsh(big.NewInt(1), 1_000_000)
	huge := &rsa.PublicKey{N: n.Sub(n, big.NewInt(1)), E: 65537}
	root := issue(t, nil, isCA)
	ca := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true}
	isCA(ca)
	ca.Subject.CommonName = "large"
	der, err := x509.CreateCertificate(rand.Reader, ca, root.cert, huge, root.key)
	if err != nil {
		t.Fatal(err)
	}
	middle, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	// What it has signed has a signature of its size, of no value.
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "signer"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if der, err = x509.CreateCertificate(rand.Reader, leaf, ca, signer.Public(), small); err != nil {
		t.Fatal(err)
	}
	var parts struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &parts); err != nil {
		t.Fatal(err)
	}
	parts.Signature.Bytes = make([]byte, huge.Size())
	parts.Signature.Bytes[0], parts.Signature.BitLength = 1, 8*huge.Size()
	if der, err = asn1.Marshal(parts); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	keys := New([]registry.TrustedKey{{ID: "1", Tool: registry.ToolNotation, Store: StoreCA, PEM: certPEM(root.cert)}})
	envelope := jwsOf(t, &authority{signer, cert}, image, nil, &authority{nil, middle})
	if _, err := keys.jws(image, envelope, time.Now()); !errors.Is(err, errMalformed) {
		t.Errorf("a key of a million bits: %v", err)
	}
	if err := Check(registry.TrustedKey{Tool: registry.ToolNotation, Store: StoreCA, PEM: certPEM(middle)}); err == nil {
		t.Error("a certificate with a key of a million bits can be uploaded")
	}
}

// counting counts the manifests that are read of a catalog.
type counting struct {
	*memory.Catalog
	read int
}

func (c *counting) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	c.read++
	return c.Catalog.Manifest(ctx, a, repo, q)
}

// TestManyReferrers: what calls itself a signature and has none in it costs no more to look
// at than signatures do.
func TestManyReferrers(t *testing.T) {
	c := &counting{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
	who := registry.Actor{ID: "x", System: true}
	put := func(text string) registry.Descriptor {
		t.Helper()
		d := registry.Descriptor{MediaType: registry.TypeIndex, Digest: registry.SHA256.FromString(text), Size: int64(len(text))}
		if _, err := c.PutManifest(t.Context(), who, "r", registry.ManifestPut{Digest: d.Digest, MediaType: d.MediaType, Bytes: []byte(text), ByDigest: true}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := put(`{"schemaVersion":2,"manifests":[]}`)
	for i := range 3 * maxSignatures {
		put(fmt.Sprintf(`{"schemaVersion":2,"artifactType":%q,"manifests":[],"annotations":{"n":"%d"},"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
			typeNotation, i, d.MediaType, d.Digest, d.Size))
	}
	v := Verifier{Catalog: c, Blobs: memory.NewBlobs()}
	all, err := v.Signatures(t.Context(), who, "r", d.Digest, New(nil))
	if err != nil || len(all) != 0 || c.read > maxSignatures+2 {
		t.Errorf("%d manifests were read, %d signatures found, %v", c.read, len(all), err)
	}
}
