package auth

import (
	"context"
	"crypto/x509"
	"fmt"
	"regexp"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// certificate is the method "mtls": it names a client by the certificate that the
// handshake has verified, good for clients and signed by one of http.tls.cacert.
type certificate struct {
	names []func(*x509.Certificate) string // the first that finds one counts
}

// OpenMTLS returns the method. m may be nil, which is the common name.
func OpenMTLS(m *config.MTLS) (Method, error) {
	if m == nil {
		m = &config.MTLS{IdentityAttributes: []string{"CommonName"}}
	}
	var c certificate
	for _, attribute := range m.IdentityAttributes {
		name, err := identity(attribute, m)
		if err != nil {
			return nil, err
		}
		c.names = append(c.names, name)
	}
	if len(c.names) == 0 {
		return nil, fmt.Errorf("identityAttributes names none")
	}
	return c, nil
}

// identity returns what reads one attribute, "" if a certificate has it not. Only
// the attributes that are configured count: a certificate authority that issues
// certificates for one purpose may let clients choose what is in the others.
func identity(attribute string, m *config.MTLS) (func(*x509.Certificate) string, error) {
	switch strings.ToLower(attribute) {
	case "commonname", "cn":
		return func(c *x509.Certificate) string { return c.Subject.CommonName }, nil
	case "subject", "dn":
		return func(c *x509.Certificate) string { return c.Subject.String() }, nil
	case "email", "rfc822name":
		return func(c *x509.Certificate) string { return at(c.EmailAddresses, m.EmailSANIndex) }, nil
	case "dnsname", "dns":
		return func(c *x509.Certificate) string { return at(c.DNSNames, m.DNSSANIndex) }, nil
	case "uri", "url":
		var pattern *regexp.Regexp
		if m.URISANPattern != "" {
			var err error
			if pattern, err = regexp.Compile(m.URISANPattern); err != nil {
				return nil, fmt.Errorf("uriSanPattern: %w", err)
			}
		}
		return func(c *x509.Certificate) string {
			if m.URISANIndex >= len(c.URIs) {
				return ""
			}
			uri := c.URIs[m.URISANIndex].String()
			if pattern == nil {
				return uri
			}
			if found := pattern.FindStringSubmatch(uri); len(found) > 1 {
				return found[1]
			}
			return ""
		}, nil
	}
	return nil, fmt.Errorf("identityAttributes: %q is not known", attribute)
}

func at(list []string, i int) string {
	if i >= len(list) {
		return ""
	}
	return list[i]
}

func (certificate) Name() string { return "mtls" }

// Authenticate implements [Method].
func (c certificate) Authenticate(_ context.Context, q *Request) (registry.Actor, Verdict, error) {
	if q.Certificate == nil {
		return registry.Actor{}, Unknown, nil
	}
	for _, name := range c.names {
		if id := name(q.Certificate); id != "" {
			return registry.Actor{ID: id}, Accepted, nil
		}
	}
	return registry.Actor{}, Unknown, refused("the client certificate has none of the attributes that name a user")
}
