//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestP14BehindProxy puts nginx before the registry, which ends TLS, hides the
// port, and serves the registry below a path, too. crane pushes and pulls, and no
// answer names where the registry itself listens.
func TestP14BehindProxy(t *testing.T) {
	for _, topology := range []Topology{Linked, Split} {
		t.Run(string(topology), func(t *testing.T) {
			s := Start(t, Options{Topology: topology})
			front, ca := startTLSProxy(t, s.Addr)
			t.Run("crane", func(t *testing.T) { pushThroughProxy(t, front, ca) })
			for _, prefix := range []string{"", "/below/a/path"} {
				t.Run("raw"+prefix, func(t *testing.T) {
					p := proxied{base: "https://" + front + prefix, inside: s.Addr, client: trusting(t, ca)}
					p.pushAndPull(t)
				})
			}
		})
	}
}

// startTLSProxy runs nginx before backend as docs/clients.md tells to. It returns
// host:port and the file with the certificate.
func startTLSProxy(t *testing.T, backend string) (front, ca string) {
	t.Helper()
	own := t.TempDir()
	ca, key := selfSigned(t, own)
	front = fmt.Sprintf("localhost:%d", freePort(t))
	listen := strings.Replace(front, "localhost", "127.0.0.1", 1)
	config := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/1; proxy_temp_path %[1]s/2; fastcgi_temp_path %[1]s/3; uwsgi_temp_path %[1]s/4; scgi_temp_path %[1]s/5;
	server {
		listen %[2]s ssl http2;
		ssl_certificate %[3]s;
		ssl_certificate_key %[4]s;
		client_max_body_size 0;
		proxy_request_buffering off;
		proxy_buffering off;
		proxy_http_version 1.1;
		proxy_set_header Host $http_host;
		proxy_set_header X-Forwarded-For $remote_addr;
		proxy_set_header X-Forwarded-Proto $scheme;
		gzip off; absolute_redirect off;
		location / { proxy_pass http://%[5]s; }
		location /below/a/path/ { proxy_pass http://%[5]s/; proxy_redirect / /below/a/path/; }
	}
}
`, own, listen, ca, key, backend)
	path := filepath.Join(own, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: "nginx", Path: "/usr/sbin/nginx", Args: []string{"-e", "stderr", "-c", path}, ready: "https://" + listen + "/v2/"}
	p.start(t)
	p.waitReady(t)
	return front, ca
}

// selfSigned writes a certificate for localhost and its key.
func selfSigned(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "proxy"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret)
}

func trusting(t *testing.T, ca string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true, DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func pushThroughProxy(t *testing.T, front, ca string) {
	l := newLayout(t)
	manifest := image.Manifest{
		MediaType: image.MediaTypeImageManifest,
		Config:    l.add(t, image.MediaTypeEmptyJSON, []byte("{}")),
		Layers:    []image.Descriptor{l.add(t, image.MediaTypeImageLayer, random(t, 3<<20)), l.add(t, image.MediaTypeImageLayer, random(t, 1<<10))},
	}
	manifest.SchemaVersion = 2
	l.root = l.add(t, image.MediaTypeImageManifest, asJSON(t, manifest))
	l.seal(t)
	run := NewCommands(t, "SSL_CERT_FILE="+ca)
	crane := Client(t, "crane")
	ref := front + "/proxied/image:1"
	if out := run.Run(t, crane, "push", l.dir, ref); !strings.Contains(out, l.root.Digest.String()) {
		t.Errorf("crane pushed %s, want %s", out, l.root.Digest)
	}
	if got := run.Run(t, crane, "digest", ref); got != l.root.Digest.String() {
		t.Errorf("crane finds %s, want %s", got, l.root.Digest)
	}
	back := filepath.Join(t.TempDir(), "back")
	run.Run(t, crane, "pull", "--format", "oci", ref, back)
	for _, d := range append(manifest.Layers, manifest.Config, l.root) {
		got, err := os.ReadFile(layout{dir: back}.blob(d.Digest))
		if err != nil || digest.FromBytes(got) != d.Digest {
			t.Errorf("%s came back as other bytes (%v)", d.Digest, err)
		}
	}
}

// proxied is a client of a registry that it cannot reach itself.
type proxied struct {
	base, inside string
	client       *http.Client
}

// do sends a request and checks that the answer gives no address away.
func (p proxied) do(t *testing.T, method, target string, body []byte, want int) (http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", "zstd, gzip, deflate") // as containerd does
	if method == http.MethodPut && strings.Contains(target, "/manifests/") {
		req.Header.Set("Content-Type", image.MediaTypeImageManifest)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: %s %s %v, want %d", method, target, resp.Status, text, err, want)
	}
	for key, values := range resp.Header {
		for _, v := range values {
			if strings.Contains(v, p.inside) || strings.Contains(v, "127.0.0.1") {
				t.Errorf("%s %s: %s gives an address of the inside away: %s", method, target, key, v)
			}
		}
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" {
		t.Errorf("%s %s: Content-Encoding %s", method, target, e)
	}
	return resp.Header, text
}

// follow returns the URL of a Location or Link that was sent in answer to base.
func (p proxied) follow(t *testing.T, location string) string {
	t.Helper()
	if !strings.HasPrefix(location, "/") || strings.HasPrefix(location, "//") {
		t.Fatalf("%q is not a path", location)
	}
	scheme, rest, _ := strings.Cut(p.base, "://")
	host, _, _ := strings.Cut(rest, "/")
	return scheme + "://" + host + location
}

func (p proxied) pushAndPull(t *testing.T) {
	repo := p.base + "/v2/raw"
	blob := []byte(strings.Repeat("berth ", 1<<18))
	d := digest.FromBytes(blob)
	h, _ := p.do(t, http.MethodPost, repo+"/blobs/uploads/", nil, http.StatusAccepted)
	h, _ = p.do(t, http.MethodPatch, p.follow(t, h.Get("Location")), blob[:1<<20], http.StatusAccepted)
	h, _ = p.do(t, http.MethodPatch, p.follow(t, h.Get("Location")), blob[1<<20:], http.StatusAccepted)
	h, _ = p.do(t, http.MethodPut, p.follow(t, h.Get("Location"))+"&digest="+d.String(), nil, http.StatusCreated)
	if _, got := p.do(t, http.MethodGet, p.follow(t, h.Get("Location")), nil, http.StatusOK); !bytes.Equal(got, blob) {
		t.Errorf("the blob came back as %d other bytes", len(got))
	}
	m := image.Manifest{MediaType: image.MediaTypeImageManifest, Layers: []image.Descriptor{}}
	m.SchemaVersion = 2
	m.Config = image.Descriptor{MediaType: "application/x", Digest: d, Size: int64(len(blob))}
	h, _ = p.do(t, http.MethodPut, repo+"/manifests/1", asJSON(t, m), http.StatusCreated)
	if _, got := p.do(t, http.MethodGet, p.follow(t, h.Get("Location")), nil, http.StatusOK); digest.FromBytes(got) != digest.FromBytes(asJSON(t, m)) {
		t.Errorf("the manifest came back as %s", got)
	}
	p.do(t, http.MethodPut, repo+"/manifests/2", asJSON(t, m), http.StatusCreated)
	h, _ = p.do(t, http.MethodGet, repo+"/tags/list?n=1", nil, http.StatusOK)
	if link := h.Get("Link"); !strings.HasPrefix(link, "</v2/raw/tags/list?") {
		t.Errorf("Link is %s", link)
	}
	p.do(t, http.MethodGet, p.base+"/v2/none/manifests/x", nil, http.StatusNotFound)
	p.do(t, http.MethodGet, p.base+"/v2/", nil, http.StatusOK)
}
