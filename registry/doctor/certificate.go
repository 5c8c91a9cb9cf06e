package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"time"
)

// soon is how long before its end a certificate should have been renewed.
const soon = 14 * 24 * time.Hour

// Certificate looks at a key pair that the config file names at key. host, if not
// "", is the name that clients use. authorities, if not "", is the file of those
// that must have signed it, for servers and clients; otherwise the system's may.
func Certificate(key, certFile, keyFile, authorities, host string) Check {
	return func(_ context.Context, r *Report) {
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			r.Fail(key, "give files in PEM form whose key belongs to the certificate", "%v", err)
			return
		}
		leaf := pair.Leaf
		left := time.Until(leaf.NotAfter)
		switch {
		case left <= 0:
			r.Fail(key, "renew it", "%s expired on %s", certFile, leaf.NotAfter.Format(time.DateOnly))
		case time.Now().Before(leaf.NotBefore):
			r.Fail(key, "check the clock of this machine", "%s is not valid before %s", certFile, leaf.NotBefore.Format(time.RFC3339))
		case left < soon:
			r.Warn(key, "renew it; a running server takes over the new files", "%s expires on %s, in %d days", certFile, leaf.NotAfter.Format(time.DateOnly), int(left.Hours()/24))
		default:
			r.OK(key, "%s and its key belong together, valid until %s, for %s", certFile, leaf.NotAfter.Format(time.DateOnly), strings.Join(append(leaf.DNSNames, uris(leaf)...), ", "))
		}
		if host != "" {
			if err := leaf.VerifyHostname(host); err != nil {
				r.Fail(key, "have the name added to the certificate", "clients that use http.externalUrl will refuse it: %v", err)
			}
		}
		if info, err := os.Stat(keyFile); err == nil && info.Mode().Perm()&0o007 != 0 {
			r.Warn(key, "chmod o= "+keyFile, "every user of this machine can read the private key %s", keyFile)
		}
		chain(r, key, pair, authorities)
	}
}

func uris(c *x509.Certificate) []string {
	var all []string
	for _, u := range c.URIs {
		all = append(all, u.String())
	}
	return all
}

// chain looks whether the authorities lead to the certificate.
func chain(r *Report, key string, pair tls.Certificate, authorities string) {
	at := time.Now() // or a moment at which it is valid: its age was told above
	if at.After(pair.Leaf.NotAfter) {
		at = pair.Leaf.NotAfter
	} else if at.Before(pair.Leaf.NotBefore) {
		at = pair.Leaf.NotBefore
	}
	o := x509.VerifyOptions{Intermediates: x509.NewCertPool(), CurrentTime: at}
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			o.Intermediates.AddCert(c)
		}
	}
	if authorities == "" {
		if _, err := pair.Leaf.Verify(o); err != nil {
			r.Warn(key, "put the intermediate certificates behind it into the file, or give clients the authority", "this machine would not trust it: %v", err)
		}
		return
	}
	pem, err := os.ReadFile(authorities)
	o.Roots = x509.NewCertPool()
	if err != nil || !o.Roots.AppendCertsFromPEM(pem) {
		r.Fail(key, "name a PEM file of certificates", "no authority in %s: %v", authorities, err)
		return
	}
	for usage, name := range map[x509.ExtKeyUsage]string{x509.ExtKeyUsageServerAuth: "servers", x509.ExtKeyUsageClientAuth: "clients"} {
		o.KeyUsages = []x509.ExtKeyUsage{usage}
		if _, err := pair.Leaf.Verify(o); err != nil {
			r.Fail(key, "have it signed by that authority, with both extended key usages", "not good for %s by %s: %v", name, authorities, err)
		}
	}
}
