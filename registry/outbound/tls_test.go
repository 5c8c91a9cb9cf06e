package outbound

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// TestTLS believes a directory like Docker's certs.d, and shows its certificate.
func TestTLS(t *testing.T) {
	ca, other := certstest.NewAuthority(t, "ca"), certstest.NewAuthority(t, "other")
	dir := t.TempDir()
	server := ca.Save(t, t.TempDir(), certstest.Request{Names: []string{"one.test"}})
	client := ca.Save(t, t.TempDir(), certstest.Request{Subject: "us"})
	link := func(from, to string) {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		certstest.Write(t, filepath.Join(dir, to), b)
	}
	certstest.Write(t, filepath.Join(dir, "ca.crt"), ca.Cert)
	link(client.Cert, "client.cert")
	link(client.Key, "client.key")
	wrong := filepath.Join(t.TempDir(), "other.pem")
	certstest.Write(t, wrong, other.Cert)

	pair, err := tls.LoadX509KeyPair(server.Cert, server.Key)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			_, _ = io.WriteString(rw, r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequestClientCert}
	srv.StartTLS()
	defer srv.Close()
	for name, test := range map[string]struct {
		tls  TLS
		host string
		want string
	}{
		"directory":       {TLS{CertDir: dir}, "one.test", "us"},
		"another name":    {TLS{CertDir: dir}, "two.test", "!"},
		"by its address":  {TLS{CertDir: dir}, "1.1.1.1", "!"},
		"file":            {TLS{CAFile: filepath.Join(dir, "ca.crt"), CertFile: client.Cert, KeyFile: client.Key}, "one.test", "us"},
		"only":            {TLS{CAFile: filepath.Join(dir, "ca.crt"), CAOnly: true}, "one.test", ""},
		"other authority": {TLS{CAFile: wrong}, "one.test", "!"},
		"system":          {TLS{}, "one.test", "!"},
		"unverified":      {TLS{SkipVerify: true}, "two.test", ""},
	} {
		c, err := New(Options{TLS: test.tls, Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("1.1.1.1")}, nil
		}})
		if err != nil {
			t.Fatal(name, err)
		}
		c.connect = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, srv.Listener.Addr().String())
		}
		got := "!"
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+test.host+"/", nil)
		if resp, err := c.Do(r); err == nil {
			b, _ := ReadAll(resp, 1<<10)
			got = string(b)
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
		c.CloseIdle()
	}
	for _, bad := range []TLS{{CertDir: filepath.Join(dir, "none")}, {CAFile: client.Key}, {CertFile: client.Cert, KeyFile: server.Key}} {
		if _, err := New(Options{TLS: bad}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}
