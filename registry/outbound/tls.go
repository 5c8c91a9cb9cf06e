package outbound

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/berth-registry/berth/registry/certs"
)

// TLS says whom to believe and who we are. Certificates of ours follow their files;
// authorities are read once, when the client is made.
type TLS struct {
	// CertDir is a directory like those of Docker's certs.d: *.crt are authorities,
	// *.cert and *.key certificates of ours.
	CertDir string
	// CAFile holds authorities, PEM, that are believed besides those of the system.
	CAFile string
	// CAOnly believes those of CertDir and CAFile only.
	CAOnly bool
	// CertFile and KeyFile are a certificate of ours.
	CertFile, KeyFile string
	// SkipVerify believes everybody. It is what tlsVerify: false means.
	SkipVerify bool
}

// config returns what a transport takes.
func (t TLS) config(log *slog.Logger) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(64)}
	var authorities []string
	var pairs []*certs.Pair
	pair := func(cert, key string) error {
		p, err := certs.LoadPair(cert, key, log)
		if err == nil {
			pairs = append(pairs, p)
		}
		return err
	}
	if t.CertDir != "" {
		entries, err := os.ReadDir(t.CertDir)
		if err != nil {
			return nil, fmt.Errorf("reading certificates: %w", err)
		}
		for _, e := range entries {
			file := filepath.Join(t.CertDir, e.Name())
			if strings.HasSuffix(file, ".crt") {
				authorities = append(authorities, file)
			} else if base, ok := strings.CutSuffix(file, ".cert"); ok {
				if err := pair(file, base+".key"); err != nil {
					return nil, err
				}
			}
		}
	}
	if t.CAFile != "" {
		authorities = append(authorities, t.CAFile)
	}
	if t.CertFile != "" {
		if err := pair(t.CertFile, t.KeyFile); err != nil {
			return nil, err
		}
	}
	if len(pairs) > 0 {
		cfg.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			for _, p := range pairs {
				if c := p.Current(); info.SupportsCertificate(c) == nil {
					return c, nil
				}
			}
			return pairs[0].Current(), nil
		}
	}
	if t.SkipVerify {
		cfg.InsecureSkipVerify = true
		return cfg, nil
	}
	var err error
	cfg.RootCAs, err = t.roots(authorities)
	return cfg, err
}

// roots returns whom to believe; nil are the authorities of the system.
func (t TLS) roots(files []string) (*x509.CertPool, error) {
	if len(files) == 0 && !t.CAOnly {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if !t.CAOnly {
		system, err := x509.SystemCertPool()
		if err != nil {
			return nil, fmt.Errorf("reading the authorities of the system: %w", err)
		}
		pool = system
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("reading authorities: %w", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("reading authorities: %s holds no certificate", f)
		}
	}
	return pool, nil
}
