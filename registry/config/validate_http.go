package config

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (ch *checker) http(h *HTTP) {
	at := place{"http"}
	ch.address(h, at.with("address"))
	ch.port(h.Port, at.with("port"))
	if h.ExternalURL != "" {
		ch.url(h.ExternalURL, at.with("externalUrl"), "http", "https")
	}
	if t := h.TLS; t != nil {
		ch.tls(t, at.with("tls"))
	}
	ch.require(h.UploadsPerClient >= 0, at.with("uploadsPerClient"), "must not be negative")
	ch.require(h.OpenUploads >= 0, at.with("openUploads"), "must not be negative")
	if r := h.Ratelimit; r != nil {
		at := at.with("ratelimit")
		ch.require(r.Rate >= 0, at.with("rate"), "must not be negative")
		ch.require(r.Concurrent >= 0, at.with("concurrent"), "must not be negative")
		for i, m := range r.Methods {
			ch.require(m.Method != "", at.with("methods", i, "method"), "needed")
			ch.require(m.Rate >= 0, at.with("methods", i, "rate"), "must not be negative")
		}
	}
	if c := h.Connections; c != nil {
		ch.require(c.Max >= -1, at.with("connections", "max"), "must not be less than -1")
		ch.require(c.PerAddress >= 0, at.with("connections", "perAddress"), "must not be negative")
	}
	if a := h.Auth; a != nil {
		ch.auth(a, at.with("auth"))
		if h.Open() {
			ch.warn("names no method of authentication: everybody may come in", "http", "auth")
		}
		if a.MTLS != nil {
			ch.require(h.TLS != nil && h.TLS.CACert != "", at.with("auth", "mtls"), "needs http.tls.cacert")
		}
	}
	if h.AccessControl != nil {
		ch.accessControl(h.AccessControl, h.Open())
	}
}

// maxSocket is how long the path of a unix socket may be, in bytes (sun_path in
// unix(7), less its end).
const maxSocket = 107

// address refuses what can't be listened on, host:port above all.
func (ch *checker) address(h *HTTP, at place) {
	if path, ok := h.socket(); ok {
		ch.require(path != "", at, "needs a path behind unix:")
		ch.require(len(path) <= maxSocket, at, "must have a path of at most %d bytes", maxSocket)
		return
	}
	opens, closes := strings.HasPrefix(h.Address, "["), strings.HasSuffix(h.Address, "]")
	ip, err := netip.ParseAddr(h.host())
	switch {
	case opens || closes || strings.Contains(h.Address, ":"):
		ch.require(opens == closes && err == nil && ip.Is6(), at, "must be a host name, an IP address or unix:PATH; the port has a key of its own")
	default:
		ch.require(!strings.ContainsAny(h.Address, "/ "), at, "must be a host name, an IP address or unix:PATH")
	}
}

// tls refuses half a pair: it would mean plaintext by accident.
func (ch *checker) tls(t *TLS, at place) {
	ch.require(t.Cert != "" || t.Key == "", at.with("cert"), "needed beside key")
	ch.require(t.Key != "" || t.Cert == "", at.with("key"), "needed beside cert")
	ch.require(t.CACert == "" || t.Cert != "" || t.Key != "", at.with("cacert"), "needs cert and key")
}

// Open reports whether no method of authentication is configured. It may be
// called on nil.
func (a *Auth) Open() bool {
	return a == nil || a.HTPasswd == nil && a.LDAP == nil && a.Bearer == nil && a.OpenID == nil && a.MTLS == nil && !a.APIKey
}

// Open reports whether everybody may come in: no method of authentication is
// configured, nor an authority of client certificates, which is one.
func (h HTTP) Open() bool { return h.Auth.Open() && (h.TLS == nil || h.TLS.CACert == "") }

func (ch *checker) auth(a *Auth, at place) {
	ch.require(a.FailDelay >= 0, at.with("failDelay"), "must not be negative")
	if h := a.HTPasswd; h != nil {
		ch.require(h.Path != "", at.with("htpasswd", "path"), "needed")
	}
	if a.LDAP != nil {
		ch.ldap(a.LDAP, at.with("ldap"))
	}
	if a.Bearer != nil {
		ch.bearer(a.Bearer, at.with("bearer"))
	}
	if a.OpenID != nil {
		for _, name := range sorted(a.OpenID.Providers) {
			p := a.OpenID.Providers[name]
			ch.provider(name, &p, at.with("openid", "providers", name))
		}
	}
	if a.MTLS != nil {
		ch.mtls(a.MTLS, at.with("mtls"))
	}
	if a.Token != nil && a.Token.Realm != "" {
		ch.url(a.Token.Realm, at.with("token", "realm"), "http", "https")
	}
	driver := a.SessionDriver.Name()
	ch.require(len(a.SessionDriver) == 0 || driver == "local" || driver == "redis", at.with("sessionDriver", "name"), "must be local or redis")
	ch.require(a.SessionKeysFile == "" || driver != "redis", at.with("sessionKeysFile"), "has no use with the redis session driver")
}

func (ch *checker) ldap(l *LDAP, at place) {
	ch.require(l.Address != "", at.with("address"), "needed")
	ch.require(l.BaseDN != "", at.with("baseDN"), "needed")
	ch.require(l.UserAttribute != "", at.with("userAttribute"), "needed")
	ch.require(l.Port >= 0 && l.Port <= 65535, at.with("port"), "must be between 0 and 65535")
	ch.oneOf(l.BindPassword, l.BindPasswordFile, at, "bindPassword")
	inline := l.BindDN != "" || l.BindPassword != "" || l.BindPasswordFile != ""
	ch.require(!inline || l.CredentialsFile == "", at.with("credentialsFile"), "give it or bindDN and bindPassword, not both")
	ch.require(inline || l.CredentialsFile != "", at.with("bindDN"), "needed, with bindPassword (or a credentialsFile with both)")
	if inline {
		ch.require(l.BindDN != "", at.with("bindDN"), "needed beside bindPassword")
		ch.require(l.BindPassword != "" || l.BindPasswordFile != "", at.with("bindPassword"), "needed beside bindDN (or bindPasswordFile)")
	}
}

func (ch *checker) bearer(b *Bearer, at place) {
	ch.require(b.Cert == "" || b.AWSSecretsManager == nil, at.with("awsSecretsManager"), "give it or cert, not both")
	if m := b.AWSSecretsManager; m != nil {
		ch.require(m.Region != "", at.with("awsSecretsManager", "region"), "needed")
		ch.require(m.SecretName != "", at.with("awsSecretsManager", "secretName"), "needed")
		ch.require(m.RefreshInterval > 0, at.with("awsSecretsManager", "refreshInterval"), "must be more than 0")
	}
	traditional := b.Cert != "" || b.AWSSecretsManager != nil
	ch.require(traditional || len(b.OIDC) > 0, at, "needs cert, awsSecretsManager or oidc: there is nothing to verify tokens with")
	for i, o := range b.OIDC {
		at := at.with("oidc", i)
		ch.url(o.Issuer, at.with("issuer"), "https", "http")
		ch.require(len(o.Audiences) > 0, at.with("audiences"), "needed")
		ch.require(o.CertificateAuthority == "" || o.CertificateAuthorityFile == "", at.with("certificateAuthorityFile"), "give it or certificateAuthority, not both")
	}
	if u := b.UpstreamTokenEndpoint; u != nil && (u.Realm != "" || u.Service != "") {
		at := at.with("upstreamTokenEndpoint")
		ch.require(u.Service != "", at.with("service"), "needed beside realm")
		schemes := []string{"https"}
		if u.AllowInsecureHTTP {
			schemes = append(schemes, "http")
		}
		ch.url(u.Realm, at.with("realm"), schemes...)
	}
}

func (ch *checker) provider(name string, p *OpenIDProvider, at place) {
	ch.oneOf(p.ClientSecret, p.ClientSecretFile, at, "clientsecret")
	ch.require(p.ClientID != "" || p.CredentialsFile != "", at.with("clientid"), "needed (or a credentialsFile)")
	if p.CredentialsFile != "" && (p.ClientID != "" || p.ClientSecret != "") {
		ch.warn("counts in place of clientid and clientsecret", at.with("credentialsFile")...)
	}
	ch.require(len(p.Scopes) > 0, at.with("scopes"), "needed")
	if name != "github" || p.Issuer != "" {
		ch.url(p.Issuer, at.with("issuer"), "https", "http")
	}
}

func (ch *checker) mtls(m *MTLS, at place) {
	known := []string{"commonname", "cn", "subject", "dn", "email", "rfc822name", "uri", "url", "dnsname", "dns"}
	for i, a := range m.IdentityAttributes {
		ch.require(slices.Contains(known, strings.ToLower(a)), at.with("identityAttributes", i), "must be CommonName, Subject, Email, URI or DNSName")
	}
	if m.URISANPattern != "" {
		expr, err := regexp.Compile(m.URISANPattern)
		ch.require(err == nil && expr.NumSubexp() == 1, at.with("uriSanPattern"), "must be a regular expression with one group")
	}
	for key, i := range map[string]int{"uriSanIndex": m.URISANIndex, "dnsSanIndex": m.DNSSANIndex, "emailSanIndex": m.EmailSANIndex} {
		ch.require(i >= 0, at.with(key), "must not be negative")
	}
}

// accessControl checks the rules. When nobody can log in, only anonymous rights
// have a meaning; anything else is a mistake that would lock everybody out.
func (ch *checker) accessControl(a *AccessControl, open bool) {
	at := place{"http", "accessControl"}
	const nobody = "grants to users, but http.auth lets nobody log in"
	for _, g := range sorted(a.Repositories) {
		r, at := a.Repositories[g], at.with("repositories", g)
		ch.glob(g, at)
		for i, p := range r.Policies {
			ch.policy(&p, at.with("policies", i))
		}
		ch.require(!open || len(r.Policies) == 0, at.with("policies"), nobody)
		ch.require(!open || len(r.DefaultPolicy) == 0, at.with("defaultPolicy"), nobody)
	}
	if p := a.AdminPolicy; p != nil {
		ch.policy(p, at.with("adminPolicy"))
		ch.require(!open || len(p.Users)+len(p.Groups)+len(p.Actions) == 0, at.with("adminPolicy"), nobody)
	}
	if m := a.Metrics; m != nil {
		ch.require(!open || len(m.Users) == 0, at.with("metrics", "users"), nobody)
	}
}

func (ch *checker) policy(p *Policy, at place) {
	for i, c := range p.Conditions {
		ch.require(c.Expression != "", at.with("conditions", i, "expression"), "needed")
	}
}
