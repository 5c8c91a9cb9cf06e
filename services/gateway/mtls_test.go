package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/config"
)

// mutual is a gateway that asks clients for certificates.
type mutual struct {
	addr    string
	server  *certstest.Authority
	clients *certstest.Authority
	cacert  string // file
}

func serveMutual(t *testing.T, a *config.Auth) *mutual {
	t.Helper()
	return serveMutualWith(t, a, newWorld().deps)
}

// serveMutualWith is serveMutual on other services.
func serveMutualWith(t *testing.T, a *config.Auth, deps Deps) *mutual {
	t.Helper()
	dir := t.TempDir()
	m := &mutual{server: certstest.NewAuthority(t, "server"), clients: certstest.NewAuthority(t, "clients"), cacert: filepath.Join(dir, "clients.pem")}
	f := m.server.Save(t, dir, certstest.Request{Names: []string{"localhost"}})
	certstest.Write(t, m.cacert, m.clients.Cert)
	h := config.Defaults().HTTP
	h.Port, h.Auth = "0", a
	h.TLS = &config.TLS{Cert: f.Cert, Key: f.Key, CACert: m.cacert}
	m.addr = runWith(t, h, deps)
	return m
}

// config returns what a client has that shows a certificate made by an authority, or
// none.
func (m *mutual) config(t *testing.T, by *certstest.Authority, r certstest.Request) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(m.server.Cert)
	c := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	if by != nil {
		pair, err := tls.X509KeyPair(by.Issue(t, r))
		if err != nil {
			t.Fatal(err)
		}
		// Whatever the server says that it takes.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c
}

// get returns the status of a request, 0 if there is none.
func (m *mutual) get(c *tls.Config, user, password string) int {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
	r, err := http.NewRequest(http.MethodGet, "https://"+m.addr+"/v2/_catalog", nil)
	if err != nil {
		return 0
	}
	if user != "" {
		r.SetBasicAuth(user, password)
	}
	res, err := client.Do(r)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

// TestS057ClientCertificates: which certificates a handshake takes, and who has none.
func TestS057ClientCertificates(t *testing.T) {
	m := serveMutual(t, nil)
	for name, test := range map[string]struct {
		by   *certstest.Authority
		r    certstest.Request
		want int
	}{
		"good":              {m.clients, certstest.Request{Subject: "alice"}, 200},
		"none":              {nil, certstest.Request{}, 401},
		"another authority": {m.server, certstest.Request{Subject: "alice"}, 0},
		"for servers only":  {m.clients, certstest.Request{Subject: "alice", ExtUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, 0},
		"expired":           {m.clients, certstest.Request{Subject: "alice", Since: time.Now().Add(-2 * time.Hour), Until: time.Now().Add(-time.Hour)}, 0},
		"not good yet":      {m.clients, certstest.Request{Subject: "alice", Since: time.Now().Add(time.Hour)}, 0},
		"without a name":    {m.clients, certstest.Request{Names: []string{"bob.example"}}, 401},
	} {
		if got := m.get(m.config(t, test.by, test.r), "", ""); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// TestDisabledUserWithACertificate: a user who is disabled does not come in by a
// certificate either, also where http.tls.cacert is all that there is of authentication.
func TestDisabledUserWithACertificate(t *testing.T) {
	for name, a := range map[string]*config.Auth{
		"cacert alone":   nil,
		"an empty block": {},
		"http.auth.mtls": {MTLS: &config.MTLS{IdentityAttributes: []string{"CommonName"}}},
	} {
		deps := newWorld().deps
		if err := deps.Catalog.PutUser(t.Context(), registry.Actor{System: true}, registry.User{ID: "alice", Disabled: true}); err != nil {
			t.Fatal(err)
		}
		m := serveMutualWith(t, a, deps)
		for user, want := range map[string]int{"alice": 401, "bob": 200} {
			if got := m.get(m.config(t, m.clients, certstest.Request{Subject: user}), "", ""); got != want {
				t.Errorf("%s: %s gets %d, want %d", name, user, got, want)
			}
		}
	}
}

// TestCertificateOrPassword: where there are passwords, too, either will do, and a
// wrong password is wrong whatever the certificate says.
func TestCertificateOrPassword(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("bob:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := serveMutual(t, &config.Auth{HTPasswd: &config.HTPasswd{Path: file}})
	none, alice := m.config(t, nil, certstest.Request{}), m.config(t, m.clients, certstest.Request{Subject: "alice"})
	for _, test := range []struct {
		what           string
		c              *tls.Config
		user, password string
		want           int
	}{
		{"certificate", alice, "", "", 200},
		{"password", none, "bob", "sesame", 200},
		{"both", alice, "bob", "sesame", 200},
		{"neither", none, "", "", 401},
		{"wrong password", none, "bob", "x", 401},
		{"certificate and wrong password", alice, "bob", "x", 401},
	} {
		if got := m.get(test.c, test.user, test.password); got != test.want {
			t.Errorf("%s: %d, want %d", test.what, got, test.want)
		}
	}
}

// TestS056SessionsOfAnAuthorityThatIsGone: who had a session under an authority that
// is not in the file any more does not get in by resuming it (compare CVE-2025-68121).
func TestS056SessionsOfAnAuthorityThatIsGone(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		m := serveMutual(t, nil)
		c := m.config(t, m.clients, certstest.Request{Subject: "alice"})
		c.MinVersion, c.MaxVersion = version, version
		c.ClientSessionCache = tls.NewLRUClientSessionCache(8)
		for range 2 {
			if got := m.get(c, "", ""); got != 200 {
				t.Fatalf("before: %d", got)
			}
		}
		certstest.Write(t, m.cacert, certstest.NewAuthority(t, "next").Cert)
		deadline := time.Now().Add(30 * time.Second)
		for m.get(c, "", "") != 0 { // the file is looked at once a second
			if time.Now().After(deadline) {
				t.Fatalf("TLS %x: with the authority gone the session goes on", version)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}
