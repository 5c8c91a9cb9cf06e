package auth

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/certs/certstest"
	"github.com/berth-registry/berth/registry/config"
)

// TestS057IdentityOfTheConfiguredField: a certificate names its owner by what the
// configuration says, and by nothing else in it.
func TestS057IdentityOfTheConfiguredField(t *testing.T) {
	text, _ := certstest.NewAuthority(t, "ca").Issue(t, certstest.Request{
		Subject: "admin",
		Names:   []string{"spiffe://example.org/ns/ci/sa/builder", "https://second.example/x", "bob.example", "alice.example"},
	})
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	cert.EmailAddresses = []string{"bob@example.org"}
	for name, test := range map[string]struct {
		m    *config.MTLS
		want string // "": refused
	}{
		"no block":           {nil, "admin"},
		"common name":        {&config.MTLS{IdentityAttributes: []string{"cn"}}, "admin"},
		"subject":            {&config.MTLS{IdentityAttributes: []string{"DN"}}, "CN=admin"},
		"email":              {&config.MTLS{IdentityAttributes: []string{"rfc822name"}}, "bob@example.org"},
		"second email":       {&config.MTLS{IdentityAttributes: []string{"Email"}, EmailSANIndex: 1}, ""},
		"DNS name":           {&config.MTLS{IdentityAttributes: []string{"DNSName"}}, "bob.example"},
		"second DNS name":    {&config.MTLS{IdentityAttributes: []string{"DNS"}, DNSSANIndex: 1}, "alice.example"},
		"SPIFFE ID":          {&config.MTLS{IdentityAttributes: []string{"URI"}}, "spiffe://example.org/ns/ci/sa/builder"},
		"part of a URI":      {&config.MTLS{IdentityAttributes: []string{"URL"}, URISANPattern: `^spiffe://example\.org/ns/ci/sa/(.+)$`}, "builder"},
		"another URI":        {&config.MTLS{IdentityAttributes: []string{"URI"}, URISANIndex: 1}, "https://second.example/x"},
		"no such URI":        {&config.MTLS{IdentityAttributes: []string{"URI"}, URISANIndex: 2}, ""},
		"no match":           {&config.MTLS{IdentityAttributes: []string{"URI"}, URISANPattern: `^spiffe://other/(.+)$`}, ""},
		"the first one":      {&config.MTLS{IdentityAttributes: []string{"DNSName", "CommonName"}}, "bob.example"},
		"the first there is": {&config.MTLS{IdentityAttributes: []string{"URI", "CommonName"}, URISANIndex: 9}, "admin"},
	} {
		m, err := OpenMTLS(test.m)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, verdict, err := m.Authenticate(t.Context(), &Request{Certificate: cert})
		if a.ID != test.want || (verdict == Accepted) != (test.want != "") || (test.want == "") != errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("%s: got %q, %v, %v; want %q", name, a.ID, verdict, err, test.want)
		}
	}
	m, _ := OpenMTLS(nil)
	if a, verdict, err := m.Authenticate(t.Context(), &Request{}); verdict != Unknown || err != nil || a.ID != "" {
		t.Errorf("without a certificate: %v, %v, %v", a, verdict, err)
	}
	if _, err := OpenMTLS(&config.MTLS{IdentityAttributes: []string{"serial"}}); err == nil {
		t.Error("an attribute that is not known is taken")
	}
}
