package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
)

// Pair is a certificate chain with its private key. It is safe for concurrent
// use.
//
// From two weeks before it expires, or the last quarter of its life if that is
// less, this is logged twice a day while the pair is in use.
type Pair struct {
	f follower[*tls.Certificate]
}

// LoadPair reads a key pair, both PEM. An error names the files.
func LoadPair(certFile, keyFile string, log *slog.Logger) (*Pair, error) {
	p := &Pair{follower[*tls.Certificate]{
		what:  "certificate",
		files: []string{certFile, keyFile},
		read: func() (*tls.Certificate, validity, error) {
			pair, err := tls.LoadX509KeyPair(certFile, keyFile)
			if err != nil {
				return nil, validity{}, fmt.Errorf("loading the certificate %s with the key %s: %w", certFile, keyFile, err)
			}
			return &pair, validity{pair.Leaf.NotBefore, pair.Leaf.NotAfter}, nil
		},
		log: log,
	}}
	if err := p.f.start(); err != nil {
		return nil, err
	}
	return p, nil
}

// Current returns the pair to use for a handshake that begins now.
func (p *Pair) Current() *tls.Certificate { return p.f.current() }

// Authorities are the certificates that sign those of others. They are safe for
// concurrent use. A file may hold several, as it does while one authority takes
// the place of another; that all of them expire is logged as for [Pair].
type Authorities struct {
	f follower[*x509.CertPool]
}

// LoadAuthorities reads PEM certificates from a file, which an error names.
func LoadAuthorities(file string, log *slog.Logger) (*Authorities, error) {
	a := &Authorities{follower[*x509.CertPool]{
		what:  "authority",
		files: []string{file},
		read:  func() (*x509.CertPool, validity, error) { return readPool(file) },
		log:   log,
	}}
	if err := a.f.start(); err != nil {
		return nil, err
	}
	return a, nil
}

// Current returns the authorities to trust in a handshake that begins now.
func (a *Authorities) Current() *x509.CertPool { return a.f.current() }

func readPool(file string) (*x509.CertPool, validity, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, validity{}, fmt.Errorf("reading authorities: %w", err)
	}
	pool := x509.NewCertPool()
	var last validity
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, validity{}, fmt.Errorf("reading authorities: %s: %w", file, err)
		}
		pool.AddCert(c)
		if c.NotAfter.After(last.until) {
			last = validity{c.NotBefore, c.NotAfter}
		}
	}
	if last == (validity{}) {
		return nil, validity{}, fmt.Errorf("reading authorities: %s holds no certificate", file)
	}
	return pool, last, nil
}
