package rpc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/berth-registry/berth/registry/certs"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
)

// Security is how the programs of an installation know each other: each shows a
// certificate of the same authority, whose names say which [Role] it has. Both
// ends check: a client talks to a server with the role it looks for and to no
// other, wherever the address leads, and a server to clients that have a role.
// What they may call then is in methods.go. TLS 1.3, no resumption.
//
// Certificate, key and authority follow their files, see package certs. A nil
// Security is plaintext, where everybody who gets through to us is trusted with
// every role: for loopback and networks of our own only.
type Security struct {
	pair  *certs.Pair
	ca    *certs.Authorities
	named roleNamed
	log   *slog.Logger

	mu     sync.Mutex // guards the rest
	told   time.Time  // when a refused connection was last logged
	untold int        // refused since
}

// Secure returns the security that a config file asks for: nil without
// services.tls.
func Secure(s config.Services, log *slog.Logger) (*Security, error) {
	if s.TLS == nil {
		return nil, nil
	}
	pair, err := certs.LoadPair(s.TLS.Cert, s.TLS.Key, log)
	if err != nil {
		return nil, fmt.Errorf("services.tls: %w", err)
	}
	ca, err := certs.LoadAuthorities(s.TLS.CACert, log)
	if err != nil {
		return nil, fmt.Errorf("services.tls.cacert: %w", err)
	}
	p := s.TLS.Peers
	sec := &Security{pair: pair, ca: ca, log: log, named: roleNamed{
		Gateway: p.Gateway, Blobstore: p.Blobstore, Metadata: p.Metadata,
		Syncer: p.Syncer, Scanner: p.Scanner, Automation: p.Automation,
	}}
	if roles, _ := sec.named.of(namesOf(pair.Current().Leaf)); roles == noRole {
		return nil, fmt.Errorf("services.tls.cert: %s names nothing that services.tls.peers knows: its names are %q", s.TLS.Cert, namesOf(pair.Current().Leaf))
	}
	return sec, nil
}

// TLS returns the configuration of a server for anybody, who need not show a
// certificate. nil without security.
func (s *Security) TLS() *tls.Config {
	if s == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.Current(), nil },
	}
}

// observe tells when our certificate expires.
func (s *Security) observe(m *metrics.Set) {
	if s != nil {
		daemon.CertificateExpiry(m, "services.tls", func() time.Time { return s.pair.Current().Leaf.NotAfter })
	}
}

// mayServe returns an error if clients would not take this program for a server
// of the given role.
func (s *Security) mayServe(role Role) error {
	if s == nil {
		return nil
	}
	names := namesOf(s.pair.Current().Leaf)
	if roles, _ := s.named.of(names); roles&role == 0 {
		return fmt.Errorf("services.tls.cert: the certificate is for %q, none of which is a %s by services.tls.peers", names, role)
	}
	return nil
}

// client returns the credentials of a client that looks for a role.
func (s *Security) client(want Role) credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13,
		// The check below is in place of the one that compares the name in the
		// address, which may be an IP address and says nothing of roles.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			p, err := s.check(state, x509.ExtKeyUsageServerAuth)
			if err == nil && p.roles&want == 0 {
				err = fmt.Errorf("the server's certificate does not name a %s but %q (%s)", want, p.names, p.roles)
			}
			return err
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return s.pair.Current(), nil },
	})
}

// server returns the credentials of a server.
func (s *Security) server() credentials.TransportCredentials {
	return serverCredentials{credentials.NewTLS(&tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.pair.Current(), nil },
		ClientAuth:     tls.RequireAnyClientCert, // checked below, against the authority of the moment
		VerifyConnection: func(state tls.ConnectionState) error {
			p, err := s.check(state, x509.ExtKeyUsageClientAuth)
			if err == nil && p.roles == noRole {
				err = fmt.Errorf("no role has a name of the client's certificate: %q", p.names)
			}
			return err
		},
		// A session that is resumed would outlive its certificate's authority.
		SessionTicketsDisabled: true,
	}), s}
}

// check verifies the certificate at the other end and says who it is.
func (s *Security) check(state tls.ConnectionState, usage x509.ExtKeyUsage) (peerInfo, error) {
	if len(state.PeerCertificates) == 0 {
		return peerInfo{}, errors.New("the other end shows no certificate")
	}
	leaf := state.PeerCertificates[0]
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots:         s.ca.Current(),
		Intermediates: between,
		KeyUsages:     []x509.ExtKeyUsage{usage},
	})
	if err != nil {
		return peerInfo{}, err
	}
	return s.identify(leaf), nil
}

// identify says who a verified certificate is.
func (s *Security) identify(c *x509.Certificate) peerInfo {
	names := namesOf(c)
	roles, name := s.named.of(names)
	return peerInfo{roles: roles, name: name, names: names}
}

// namesOf returns the names of a certificate that count: URIs, as SPIFFE has
// them, before DNS names. The subject and mail addresses do not count.
func namesOf(c *x509.Certificate) []string {
	var names []string
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return append(names, c.DNSNames...)
}

// peerInfo is who is at the other end of a connection.
type peerInfo struct {
	roles Role
	name  string   // the first of names that shows a role
	names []string // of the certificate
}

// identity is what a server's handshake finds out about the client.
type identity struct {
	credentials.TLSInfo
	peer peerInfo
}

// serverCredentials tell who the client is, once for each connection, and log
// those that are turned away.
type serverCredentials struct {
	credentials.TransportCredentials
	security *Security
}

func (c serverCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		c.security.refused(conn, err)
		return nil, nil, err
	}
	t, ok := info.(credentials.TLSInfo)
	if !ok || len(t.State.PeerCertificates) == 0 { // does not happen: the handshake has checked it
		return nil, nil, errors.Join(errors.New("the client shows no certificate"), secure.Close())
	}
	return secure, identity{t, c.security.identify(t.State.PeerCertificates[0])}, nil
}

func (c serverCredentials) Clone() credentials.TransportCredentials {
	return serverCredentials{c.TransportCredentials.Clone(), c.security}
}

// refusals is the time between two lines about connections that were refused.
const refusals = 10 * time.Second

// refused logs a connection that was turned away, but not each of many.
func (s *Security) refused(conn net.Conn, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return // who only looks whether the port is open, as probes do
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.told) < refusals {
		s.untold++
		return
	}
	s.log.Warn("refused a connection", "from", conn.RemoteAddr().String(), "error", err.Error(), "others", s.untold)
	s.told, s.untold = time.Now(), 0
}
