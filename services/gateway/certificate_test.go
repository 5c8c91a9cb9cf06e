package gateway

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry/config"
)

// keyPair returns a certificate for localhost that names its subject, in PEM.
func keyPair(t *testing.T, subject string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}, DNSNames: []string{"localhost"},
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	c, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestCertificateFollowsItsFiles renews a pair in the ways there are.
func TestCertificateFollowsItsFiles(t *testing.T) {
	oneCert, oneKey := keyPair(t, "one")
	twoCert, twoKey := keyPair(t, "two")
	overwrite := func(dir string) {
		write(t, filepath.Join(dir, "cert"), twoCert)
		write(t, filepath.Join(dir, "key"), twoKey)
	}
	for name, test := range map[string]struct {
		change func(dir string)
		want   string // the subject served then
		logged string
	}{
		"nothing":    {func(string) {}, "one", ""},
		"in place":   {overwrite, "two", `"using a new certificate"`},
		"only cert":  {func(dir string) { write(t, filepath.Join(dir, "cert"), twoCert) }, "one", "private key does not match"},
		"only key":   {func(dir string) { write(t, filepath.Join(dir, "key"), twoKey) }, "one", "private key does not match"},
		"not PEM":    {func(dir string) { write(t, filepath.Join(dir, "cert"), []byte("x")) }, "one", "failed to find any PEM data"},
		"empty file": {func(dir string) { write(t, filepath.Join(dir, "key"), nil) }, "one", "key"},
		"removed":    {func(dir string) { os.Remove(filepath.Join(dir, "cert")) }, "one", "no such file"},
		"renamed over": {func(dir string) {
			write(t, filepath.Join(dir, "cert.new"), twoCert)
			write(t, filepath.Join(dir, "key.new"), twoKey)
			os.Rename(filepath.Join(dir, "cert.new"), filepath.Join(dir, "cert"))
			os.Rename(filepath.Join(dir, "key.new"), filepath.Join(dir, "key"))
		}, "two", `"using a new certificate"`},
		"broken, then good": {func(dir string) {
			write(t, filepath.Join(dir, "cert"), []byte("x"))
		}, "one", "failed to find any PEM data"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				write(t, filepath.Join(dir, "cert"), oneCert)
				write(t, filepath.Join(dir, "key"), oneKey)
				var out logBuffer
				c, err := loadCertificate(filepath.Join(dir, "cert"), filepath.Join(dir, "key"), slog.New(slog.NewTextHandler(&out, nil)))
				if err != nil {
					t.Fatal(err)
				}
				subject := func() string {
					t.Helper()
					pair, err := c.config().GetCertificate(&tls.ClientHelloInfo{})
					if err != nil {
						t.Fatal(err)
					}
					return pair.Leaf.Subject.CommonName
				}
				test.change(dir)
				if got := subject(); got != "one" {
					t.Errorf("within a second: %s", got)
				}
				for range 3 {
					time.Sleep(recheck) // fake: this is a bubble
					if got := subject(); got != test.want {
						t.Errorf("got %s, want %s", got, test.want)
					}
				}
				text := out.take()
				if !strings.Contains(text, test.logged) || strings.Count(text, "\n") > 1 || test.logged == "" && text != "" {
					t.Errorf("logged %q", text)
				}
				overwrite(dir) // whatever was wrong is right then
				time.Sleep(recheck)
				if got := subject(); got != "two" {
					t.Errorf("at last: %s", got)
				}
			})
		})
	}
}

// TestCertificateBehindSymlinks swaps a directory as Kubernetes does: cert is a
// link to ..data/cert, and ..data one to a directory.
func TestCertificateBehindSymlinks(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"one", "two"} {
		cert, key := keyPair(t, version)
		os.Mkdir(filepath.Join(dir, version), 0o700)
		write(t, filepath.Join(dir, version, "cert"), cert)
		write(t, filepath.Join(dir, version, "key"), key)
	}
	swap := func(version string) {
		t.Helper()
		tmp := filepath.Join(dir, "..tmp")
		if err := os.Symlink(version, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("one")
	for _, f := range []string{"cert", "key"} {
		if err := os.Symlink("..data/"+f, filepath.Join(dir, f)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		c, err := loadCertificate(filepath.Join(dir, "cert"), filepath.Join(dir, "key"), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		swap("two")
		time.Sleep(recheck) // fake: this is a bubble
		if pair, _ := c.current(nil); pair.Leaf.Subject.CommonName != "two" {
			t.Errorf("serves %s", pair.Leaf.Subject.CommonName)
		}
	})
}

// TestConfiguredTLS serves HTTPS as a config says, HTTP/2 included.
func TestConfiguredTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := keyPair(t, "one")
	write(t, filepath.Join(dir, "cert"), cert)
	write(t, filepath.Join(dir, "key"), key)
	h := config.Defaults().HTTP
	h.Port = "0"
	h.TLS = &config.TLS{Cert: filepath.Join(dir, "cert"), Key: filepath.Join(dir, "key")}
	addr := run(t, h)

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	get := func(c *tls.Config) (*http.Response, error) {
		c.ServerName = "localhost"
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: true, DisableKeepAlives: true}}
		res, err := client.Get("https://" + addr + "/v2/")
		if err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		return res, err
	}
	if res, err := get(&tls.Config{RootCAs: pool}); err != nil || res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Errorf("got %v, %v", res, err)
	}
	if res, err := get(&tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS12}); err != nil || res.StatusCode != 200 {
		t.Errorf("TLS 1.2: %v, %v", res, err)
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is served")
	}
	if res, err := http.Get("http://" + addr + "/v2/"); err == nil && res.StatusCode == 200 {
		t.Error("plaintext is served")
	}
}

func TestConfiguredTLSNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	cert, key := keyPair(t, "one")
	_, other := keyPair(t, "two")
	write(t, filepath.Join(dir, "cert"), cert)
	write(t, filepath.Join(dir, "key"), key)
	write(t, filepath.Join(dir, "other"), other)
	for _, names := range [][2]string{{"cert", "missing"}, {"missing", "key"}, {"cert", "other"}, {"key", "cert"}} {
		h := config.Defaults().HTTP
		h.Port = "0"
		h.TLS = &config.TLS{Cert: filepath.Join(dir, names[0]), Key: filepath.Join(dir, names[1])}
		unit, err := Configured(t.Context(), h, newWorld().deps, "", slog.New(slog.DiscardHandler))
		if err == nil {
			unit.Stop(context.Background())
			t.Errorf("%v: no error", names)
			continue
		}
		named := names[1]
		if names[0] == "missing" {
			named = names[0]
		}
		if !strings.Contains(err.Error(), "http.tls") || !strings.Contains(err.Error(), filepath.Join(dir, named)) {
			t.Errorf("%v: %v", names, err)
		}
	}
}
