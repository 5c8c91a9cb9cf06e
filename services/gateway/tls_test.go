package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/http2test"
)

// TestConfiguredTLS serves HTTPS as a config says, HTTP/2 included.
func TestConfiguredTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.NewAuthority(t, "one")
	f := ca.Save(t, dir, certstest.Request{Names: []string{"localhost"}})
	h := config.Defaults().HTTP
	h.Port = "0"
	h.TLS = &config.TLS{Cert: f.Cert, Key: f.Key}
	addr := run(t, h)

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.Cert)
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

// TestS109AbuseOfHTTP2 does to the port for clients what hostile ones do.
func TestS109AbuseOfHTTP2(t *testing.T) {
	ca := certstest.NewAuthority(t, "one")
	f := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"localhost"}})
	h := config.Defaults().HTTP
	h.Port = "0"
	h.TLS = &config.TLS{Cert: f.Cert, Key: f.Key}
	addr := run(t, h)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.Cert)
	good := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, ForceAttemptHTTP2: true}}
	defer good.CloseIdleConnections()
	http2test.Abuse(t, http2test.Target{
		Address: addr,
		Config:  &tls.Config{},
		Header:  [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "localhost"}, {":path", "/v2/_catalog"}},
		Well: func(when string) {
			t.Helper()
			res, err := good.Get("https://" + addr + "/v2/")
			if err != nil {
				t.Fatalf("%s others are not served: %v", when, err)
			}
			if res.Body.Close(); res.StatusCode != 200 || res.ProtoMajor != 2 {
				t.Errorf("%s others get %s by %s", when, res.Status, res.Proto)
			}
		},
	})
}

func TestConfiguredTLSNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.NewAuthority(t, "one")
	cert, key := ca.Issue(t, certstest.Request{})
	_, other := ca.Issue(t, certstest.Request{})
	certstest.Write(t, filepath.Join(dir, "cert"), cert)
	certstest.Write(t, filepath.Join(dir, "key"), key)
	certstest.Write(t, filepath.Join(dir, "other"), other)
	for _, names := range [][2]string{{"cert", "missing"}, {"missing", "key"}, {"cert", "other"}, {"key", "cert"}} {
		h := config.Defaults().HTTP
		h.Port = "0"
		h.TLS = &config.TLS{Cert: filepath.Join(dir, names[0]), Key: filepath.Join(dir, names[1])}
		unit, err := Configured(t.Context(), httpOf(h), newWorld().deps, process("", slog.New(slog.DiscardHandler)))
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
