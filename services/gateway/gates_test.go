package gateway

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/gateway/gate"
)

// gated is a gateway with gates, and what it knows of.
type gated struct {
	*world
	g     *Gateway
	url   string
	scans *memory.Scans
	now   time.Time
}

func newGated(t *testing.T, gates ...config.Gate) *gated {
	t.Helper()
	x := &gated{world: newWorld(), scans: memory.NewScans(), now: time.Now()}
	x.deps.Scans = x.scans
	x.g = x.gateway(t)
	x.url = serveGateway(t, x.g)
	c := config.Defaults()
	c.Extensions = &config.Extensions{Trust: &config.Trust{Cosign: true, Notation: true}, Gates: gates}
	ga, err := gate.New(c, gate.Deps{Catalog: x.deps.Catalog, Blobs: x.deps.Blobs, Scans: x.scans, Now: func() time.Time { return x.now }})
	if err != nil {
		t.Fatal(err)
	}
	x.g.SetGate(ga)
	return x
}

func (x *gated) get(t *testing.T, ref string) answer {
	t.Helper()
	return do(t, "GET", x.url+"/v2/"+ref, nil)
}

// TestGateBySeverity: what is known decides, and what is not known as the rule says.
func TestGateBySeverity(t *testing.T) {
	const high = "it has vulnerabilities of severity HIGH or worse: CVE-1"
	finding := func(id string, s registry.Severity, fixed string) registry.ScanFinding {
		return registry.ScanFinding{ID: id, Severity: s, Packages: []registry.FindingPackage{{Name: "x", Version: "1", Fixed: fixed}}}
	}
	for name, test := range map[string]struct {
		gate     config.Gate
		state    registry.ScanState
		db       string
		findings []registry.ScanFinding
		denied   string // "": it may be pulled
		warning  string
	}{
		"clean":          {config.Gate{}, registry.ScanDone, "1", nil, "", ""},
		"below":          {config.Gate{}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityMedium, "")}, "", ""},
		"as severe":      {config.Gate{}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, high, ""},
		"worse":          {config.Gate{}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityCritical, "")}, high, ""},
		"allowed":        {config.Gate{Allow: []string{"CVE-1"}}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, "", ""},
		"no fix":         {config.Gate{OnlyFixed: true}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, "", ""},
		"a fix":          {config.Gate{OnlyFixed: true}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "2")}, high, ""},
		"not begun":      {config.Gate{From: "2999-01-01"}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, "", "from 2999-01-01 on this image can't be pulled: " + high},
		"begun":          {config.Gate{From: "2020-01-01"}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, high, ""},
		"scanned again":  {config.Gate{}, registry.ScanQueued, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, high, ""},
		"being scanned":  {config.Gate{}, registry.ScanRunning, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, high, ""},
		"failed now":     {config.Gate{}, registry.ScanFailed, "1", nil, "", "it is not scanned (failed)"},
		"queued":         {config.Gate{}, registry.ScanQueued, "", nil, "", "it is not scanned (queued)"},
		"failed":         {config.Gate{}, registry.ScanFailed, "", nil, "", "it is not scanned (failed)"},
		"no database":    {config.Gate{}, registry.ScanDone, "", nil, "", "there is no vulnerability database yet"},
		"must be known":  {config.Gate{Unknown: "deny"}, registry.ScanFailed, "", nil, "it is not scanned (failed), and images here must be", ""},
		"nothing in it":  {config.Gate{Unknown: "deny"}, registry.ScanUnsupported, "", nil, "", ""},
		"another's name": {config.Gate{Repositories: []string{"b/**"}}, registry.ScanDone, "1", []registry.ScanFinding{finding("CVE-1", registry.SeverityHigh, "")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if test.gate.Repositories == nil {
				test.gate.Repositories = []string{"a"}
			}
			test.gate.Severity = "HIGH"
			x := newGated(t, test.gate)
			d := pushImage(t, x.url, "a", "v1")
			var counts registry.SeverityCounts
			for _, f := range test.findings {
				counts[f.Severity]++
			}
			x.scans.Put(registry.ScanStatus{Digest: d, State: test.state, DB: test.db, Counts: counts}, test.findings...)
			for _, ref := range []string{"a/manifests/v1", "a/manifests/" + string(d)} {
				a := x.get(t, ref)
				if want := map[bool]int{true: 200, false: 403}[test.denied == ""]; a.status != want {
					t.Fatalf("%s: got %d, %s", ref, a.status, a.body)
				}
				if test.denied != "" && (!strings.Contains(a.body, "this image can't be pulled: "+test.denied) || !strings.Contains(a.body, `"DENIED"`) || strings.Contains(a.body, "schemaVersion")) {
					t.Errorf("%s: %s", ref, a.body)
				}
				if w := a.header.Get("Warning"); (test.warning == "") != (w == "") || !strings.Contains(w, test.warning) {
					t.Errorf("%s: Warning %q", ref, w)
				}
				do(t, "HEAD", x.url+"/v2/"+ref, nil).want(t, 200)
			}
		})
	}
}

// sign stores a signature of cosign's by k over the digest named in it.
func (x *gated) sign(t *testing.T, k *ecdsa.PrivateKey, tagged, named registry.Digest) {
	t.Helper()
	payload := fmt.Sprintf(`{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, named)
	sum := sha256.Sum256([]byte(payload))
	sig, err := ecdsa.SignASN1(rand.Reader, k, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	layer := pushBlob(t, x.url, "a", payload)
	m := `{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` + string(pushBlob(t, x.url, "a", "{}")) +
		`","size":2},"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"` + string(layer) + `","size":` + strconv.Itoa(len(payload)) +
		`,"annotations":{"dev.cosignproject.cosign/signature":"` + base64.StdEncoding.EncodeToString(sig) + `"}}]}`
	tag := strings.Replace(string(tagged), ":", "-", 1) + ".sig"
	do(t, "PUT", x.url+"/v2/a/manifests/"+tag, strings.NewReader(m), "Content-Type: "+registry.TypeManifest).want(t, 201)
	x.get(t, "a/manifests/"+tag).want(t, 200) // no gate holds for it
	x.now = x.now.Add(time.Minute)            // what was found out before is old now
}

// TestS086GateBySignature: an image, and what a signed index lists, may be pulled when an
// uploaded key has signed it, and not before.
func TestS086GateBySignature(t *testing.T) {
	x := newGated(t, config.Gate{Repositories: []string{"a"}, SignedBy: "cosign", Except: []string{"ci", "group:signers"}})
	mine, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	other, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err3 := x509.MarshalPKIXPublicKey(mine.Public())
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	d := pushImage(t, x.url, "a", "v1")
	blocked := func(why string) {
		t.Helper()
		if a := x.get(t, "a/manifests/v1").want(t, 403); !strings.Contains(a.body, why) {
			t.Errorf("got %s, want %q", a.body, why)
		}
	}
	blocked("it has no signature of cosign")
	x.sign(t, mine, d, d)
	blocked("its signature is not trusted: no uploaded key has made this signature")
	do(t, "POST", x.url+"/v2/_zot/ext/cosign", strings.NewReader("no key")).want(t, 400)
	do(t, "POST", x.url+"/v2/_zot/ext/cosign", strings.NewReader(strings.Repeat("x", registry.MaxTrustedPEM+1))).want(t, 413)
	do(t, "POST", x.url+"/v2/_zot/ext/notation?truststoreType=x", strings.NewReader(key)).want(t, 400)
	do(t, "POST", x.url+"/v2/_zot/ext/cosign", strings.NewReader(key)).want(t, 200)
	x.get(t, "a/manifests/v1").want(t, 200)
	x.sign(t, other, d, d)
	blocked("its signature is not trusted")
	x.sign(t, mine, d, registry.SHA256.FromString("another image"))
	blocked("the signature is of another image")
	if a := do(t, "GET", x.url+"/v2/a/blobs/"+string(d), nil).want(t, 403); !strings.Contains(a.body, "not trusted") {
		t.Errorf("as a blob: %s", a.body)
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, registry.TypeIndex, registry.TypeManifest, d, len(emptyImage))
	do(t, "PUT", x.url+"/v2/a/manifests/all", strings.NewReader(index), "Content-Type: "+registry.TypeIndex).want(t, 201)
	x.get(t, "a/manifests/all").want(t, 403)
	root := registry.SHA256.FromString(index)
	x.sign(t, mine, root, root)
	x.get(t, "a/manifests/all").want(t, 200)
	x.get(t, "a/manifests/"+string(d)).want(t, 200)
}

// TestGateUnscannable: what can't be scanned by what it says of itself, and can be run all
// the same, is unknown.
func TestGateUnscannable(t *testing.T) {
	x := newGated(t, config.Gate{Repositories: []string{"a"}, Severity: "HIGH", Unknown: "deny"})
	for n, test := range []struct {
		config, of, layer string
		status            int
	}{
		{"application/octet-stream", `{"rootfs":{"type":"layers"}}`, "application/vnd.oci.image.layer.v1.tar+gzip", 403},
		{"application/vnd.oci.empty.v1+json", `{"RootFS":{}}`, "application/vnd.oci.image.layer.v1.tar+gzip", 403},
		{"application/vnd.oci.image.config.v1+json", "{}", "application/vnd.in-toto+json", 403},
		{"application/vnd.docker.container.image.v1+json", `{"rootfs":{}}`, "application/vnd.in-toto+json", 403},
		{"application/vnd.cncf.helm.config.v1+json", `{"name":"app"}`, "application/vnd.cncf.helm.chart.content.v1.tar+gzip", 200},
		{"application/vnd.oci.empty.v1+json", "{}", "application/vnd.x", 200},
	} {
		m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":6}]}`,
			registry.TypeManifest, test.config, pushBlob(t, x.url, "a", test.of), len(test.of), test.layer, pushBlob(t, x.url, "a", "no tar"))
		ref := fmt.Sprint("a/manifests/v", n)
		do(t, "PUT", x.url+"/v2/"+ref, strings.NewReader(m), "Content-Type: "+registry.TypeManifest).want(t, 201)
		x.scans.Put(registry.ScanStatus{Digest: registry.SHA256.FromString(m), State: registry.ScanUnsupported})
		if a := x.get(t, ref); a.status != test.status || test.status == 403 && !strings.Contains(a.body, "it can't be scanned, and some clients can run it") {
			t.Errorf("%+v: %d %s", test, a.status, a.body)
		}
	}
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, registry.TypeIndex)
	do(t, "PUT", x.url+"/v2/a/manifests/all", strings.NewReader(index), "Content-Type: "+registry.TypeIndex).want(t, 201)
	x.scans.Put(registry.ScanStatus{Digest: registry.SHA256.FromString(index), State: registry.ScanUnsupported})
	x.get(t, "a/manifests/all").want(t, 200)
}

// TestGateDisguised: layers that only say that they are signatures or bills of materials
// are unpacked by some clients, so a gate holds for them.
func TestGateDisguised(t *testing.T) {
	x := newGated(t, config.Gate{Repositories: []string{"a"}, SignedBy: "cosign"})
	var archive bytes.Buffer
	z := gzip.NewWriter(&archive)
	w := tar.NewWriter(z)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "bin/sh", Size: 1}), errOf(w.Write([]byte("x"))), w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	polyglot := tarOfText(t)
	const image, empty = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.empty.v1+json"
	for n, test := range []struct {
		mediaType, config, of, layer, content string
		status                                int
	}{
		{registry.TypeManifest, image, "{}", "text/spdx", archive.String(), 403},
		{registry.TypeManifest, image, "{}", "application/vnd.dev.cosign.simplesigning.v1+json", archive.String(), 403},
		{registry.TypeManifest, image, "{}", "application/vnd.in-toto+json", polyglot, 403},
		{registry.TypeDockerManifest, empty, "{}", "application/vnd.in-toto+json", archive.String(), 403},
		// Docker before 23 does not ask what type the configuration has.
		{registry.TypeManifest, empty, `{"rootfs":{}}`, "text/spdx", archive.String(), 403},
		{registry.TypeManifest, "application/octet-stream", `{"Rootf\u017f":{}}`, "text/spdx", archive.String(), 403},
		{registry.TypeManifest, "application/octet-stream", `{"rootfs":{}}`, "application/vnd.in-toto+json", `{"_type":"x"}`, 200},
		{registry.TypeManifest, "text/html", "no object", "text/spdx", archive.String(), 403},
		{registry.TypeManifest, image, "{}", "application/vnd.in-toto+json", `{"_type":"x"}`, 200},
		{registry.TypeManifest, empty, "{}", "text/spdx", "SPDXVersion: SPDX-2.3", 200},
	} {
		layer := pushBlob(t, x.url, "a", test.content)
		m := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,"digest":%q,"size":%d},"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			test.mediaType, test.config, pushBlob(t, x.url, "a", test.of), len(test.of), test.layer, layer, len(test.content))
		ref := fmt.Sprint("a/manifests/v", n)
		do(t, "PUT", x.url+"/v2/"+ref, strings.NewReader(m), "Content-Type: "+test.mediaType).want(t, 201)
		if a := x.get(t, ref); a.status != test.status {
			t.Errorf("%+v: %d", test, a.status)
		}
		// What berth why and REST say is what pulls get.
		v, err := policy{x.g.gate.Load}.Judge(t.Context(), registry.Actor{}, registry.Actor{}, "a", registry.SHA256.FromString(m))
		if err != nil || (v.Denied == "") != (test.status == 200) || test.status == 200 && !strings.Contains(strings.Join(v.Steps, ""), "which no gate holds for") {
			t.Errorf("%+v: judged %+v, %v", test, v, err)
		}
	}
}

func errOf(_ int, err error) error { return err }

// tarOfText returns an archive that is JSON, too.
func tarOfText(t *testing.T) string {
	t.Helper()
	h := []byte(strings.Repeat("x", 1024))
	copy(h, `{"a":"`)
	copy(h[100:], "0000644 0000000 0000000 00000000776 00000000000 ")
	copy(h[148:], "        0")
	copy(h[1022:], `"}`)
	sum := 0
	for _, b := range h[:512] {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o  ", sum))
	if _, err := tar.NewReader(bytes.NewReader(h)).Next(); err != nil || !json.Valid(h) {
		t.Fatalf("not both: %v, %t", err, json.Valid(h))
	}
	return string(h)
}

// TestKeylessFiles: a gate reads the authority and the log that the file names, and is
// not made without them.
func TestKeylessFiles(t *testing.T) {
	dir := t.TempDir()
	k, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err2 := x509.MarshalPKIXPublicKey(k.Public())
	c := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	root, err3 := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	log, authority := filepath.Join(dir, "log"), filepath.Join(dir, "authority")
	err4 := os.WriteFile(log, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600)
	err5 := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root}), 0o600)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	for name, test := range map[string]struct {
		k    config.Keyless
		want string // of the error; "": none
	}{
		"both":          {config.Keyless{Authority: authority, Log: log}, ""},
		"no file":       {config.Keyless{Authority: authority, Log: filepath.Join(dir, "none")}, "no such file"},
		"mixed up":      {config.Keyless{Authority: log, Log: authority}, "not a certificate"},
		"no public key": {config.Keyless{Authority: authority, Log: authority}, "not a public key"},
	} {
		c := config.Defaults()
		c.Extensions = &config.Extensions{Trust: &config.Trust{Cosign: true, Keyless: []config.Keyless{test.k}}}
		g, err := gate.New(c, gate.Deps{Catalog: w.deps.Catalog, Blobs: w.deps.Blobs})
		if test.want == "" && (err != nil || g == nil) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "extensions.trust.keyless[0]")) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
