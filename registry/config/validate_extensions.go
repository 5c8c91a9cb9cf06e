package config

import (
	"fmt"
	"net"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry/glob"
)

// shortest is the least interval of scrubbing and of vulnerability updates.
const shortest = 2 * time.Hour

func (ch *checker) extensions(e *Extensions) {
	at := place{"extensions"}
	if e.UI.Enabled() {
		ch.require(e.Search != nil && e.Search.Enabled(), at.with("ui"), "needs extensions.search")
	}
	if s := e.Search; s != nil && s.Enabled() && s.CVE != nil {
		ch.atLeast(&s.CVE.UpdateInterval, at.with("search", "cve", "updateInterval"))
	}
	if s := e.Scrub; s != nil && s.Enabled() {
		ch.atLeast(&s.Interval, at.with("scrub", "interval"))
		ch.require(s.Rate >= 0, at.with("scrub", "rate"), "must not be negative")
	}
	if m := e.Metrics; m != nil && m.Enabled() && m.Prometheus != nil {
		p := m.Prometheus.Path
		taken := slices.Contains([]string{"/", "/v2", "/livez", "/readyz", "/startupz"}, p) || strings.HasPrefix(p, "/v2/")
		ch.require(strings.HasPrefix(p, "/") && path.Clean(p) == p && !taken, at.with("metrics", "prometheus", "path"),
			"must be a clean absolute path, and neither / nor /v2 nor that of a probe")
	}
	if t := e.Trust; t != nil && t.Enabled() {
		ch.require(t.Cosign || len(t.Keyless) == 0, at.with("trust", "keyless"), "needs cosign")
		for i, k := range t.Keyless {
			at := at.with("trust", "keyless", i)
			ch.require(k.Authority != "", at.with("authority"), "needed")
			ch.require(k.Log != "", at.with("log"), "needed")
			ch.require(len(k.Identities) > 0, at.with("identities"), "needed: without them whoever can log in at some provider could sign")
			for j, id := range k.Identities {
				at := at.with("identities", j)
				ch.require(id.Issuer != "", at.with("issuer"), "needed")
				ch.require(strings.Trim(id.Subject, "*") != "", at.with("subject"), "needed: an e-mail address or URI, or what it begins with and *")
				ch.require(wholeParts(id.Subject), at.with("subject"), "* is for the end of a URI, behind a / or an @ that ends a name: https://example.com/acme* is also what example.com/acme-evil has signed")
			}
		}
	}
	for i, g := range e.Gates {
		at, tools := at.with("gates", i), e.Trust.Tools()
		ch.require(len(g.Repositories) > 0, at.with("repositories"), "needed")
		for j, p := range g.Repositories {
			ch.glob(p, at.with("repositories", j))
		}
		ch.require(g.Severity != "" || g.SignedBy != "", at.with("severity"), "give it or signedBy: the gate would block nothing")
		ch.require(g.SignedBy == "" || g.SignedBy == "any" && len(tools) > 0 || slices.Contains(tools, g.SignedBy), at.with("signedBy"), "needs extensions.trust with that tool")
		ch.require(g.Severity == "" || e.Scanning() != nil, at.with("severity"), "needs extensions.search.cve")
		if g.From != "" {
			_, err := ParseDay(g.From)
			ch.require(err == nil, at.with("from"), "must be a day such as 2027-01-31, or a time such as 2027-01-31T12:00:00Z")
		}
	}
	if e.Events != nil && e.Events.Enabled() {
		for i, s := range e.Events.Sinks {
			at := at.with("events", "sinks", i)
			ch.require(s.Type != "", at.with("type"), "needed")
			ch.require(s.Address != "", at.with("address"), "needed")
			ch.require(s.Type != "nats" || s.Channel != "", at.with("channel"), "needed by type nats")
			ch.notNegative(s.Timeout, at.with("timeout"))
		}
	}
}

// wholeParts reports whether a subject has no *, or one at its end behind whole parts of
// a URI: what is before it ends the name of a host, of an owner, of a file.
func wholeParts(subject string) bool {
	begin, _ := strings.CutSuffix(subject, "*")
	if begin == subject || strings.Contains(begin, "*") {
		return begin == subject && !strings.Contains(subject, "*")
	}
	_, rest, uri := strings.Cut(begin, "://")
	return uri && rest != "" && rest != "/" && (strings.HasSuffix(rest, "/") || strings.HasSuffix(rest, "@"))
}

// atLeast raises an interval to the shortest allowed, as zot does.
func (ch *checker) atLeast(d *time.Duration, at place) {
	if *d < shortest {
		ch.warn("raised to 2h, the shortest allowed", at...)
		*d = shortest
	}
}

func (ch *checker) sync(s *Sync) {
	if s == nil || !s.Enabled() {
		return
	}
	if s.Advertise != "" {
		host, port, err := net.SplitHostPort(s.Advertise)
		ch.require(err == nil && host != "" && port != "", place{"extensions", "sync", "advertise"}, "must be host:port")
	}
	if n := s.Notices; n != nil {
		at := place{"extensions", "sync", "notices"}
		host, _, err := net.SplitHostPort(n.Listen)
		ch.require(err == nil, at.with("listen"), "must be host:port")
		ch.require((n.Cert == "") == (n.Key == ""), at.with("key"), "needed with cert, and only then")
		if ip := net.ParseIP(host); err == nil && n.Cert == "" && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			ch.warn("what is pushed elsewhere is told in the clear: give cert and key", at...)
		}
	}
	for i := range s.Registries {
		if n := s.Registries[i].Notices; n != nil {
			at := place{"extensions", "sync", "registries", i, "notices"}
			ch.require(s.Notices != nil, at, "needs extensions.sync.notices")
			ch.oneOf(n.Secret, n.SecretFile, at, "secret")
			ch.require(n.Secret != "" || n.SecretFile != "", at.with("secret"), "needed: anybody could have content copied")
			ch.require(n.Secret == "" || len(n.Secret) >= 16, at.with("secret"), "must have at least 16 characters")
		}
		ch.registry(&s.Registries[i], place{"extensions", "sync", "registries", i})
	}
}

// readers warns of a rule whose credentials serve anonymous clients because of a pattern
// of the access rules that says nothing of mirrors, such as **: what the upstream shows
// to our user only they read, too. An entry for the prefix itself says what is meant.
func (ch *checker) readers(s *Sync, a *AccessControl) {
	if s == nil || !s.Enabled() || a == nil {
		return
	}
	for i, r := range s.Registries {
		if r.Credentials == nil && r.CredentialHelper == "" && s.CredentialsFile == "" {
			continue
		}
		for j, c := range r.Content {
			base := strings.Trim(c.Destination, "/")
			if !c.StripPrefix {
				base = path.Join(base, glob.FixedPart(strings.Trim(c.Prefix, "/")))
			}
			wide, own := "", base == ""
			for _, pattern := range sorted(a.Repositories) {
				fixed := glob.FixedPart(pattern)
				switch {
				case fixed == base || strings.HasPrefix(fixed, base+"/"):
					own = true
				case (fixed == "" || strings.HasPrefix(base, fixed+"/")) && len(pattern) > len(wide):
					wide = pattern // the longest counts
				}
			}
			if !own && slices.Contains(a.Repositories[wide].AnonymousPolicy, "read") {
				ch.warn(fmt.Sprintf("what is fetched with this rule's credentials is for everybody, by http.accessControl of %q; an entry for %q itself would say who may read it", wide, base+"/**"),
					"extensions", "sync", "registries", i, "content", j)
			}
		}
	}
}

func (ch *checker) registry(r *SyncRegistry, at place) {
	ch.require(len(r.URLs) > 0, at.with("urls"), "needed")
	for i, u := range r.URLs {
		ch.url(u, at.with("urls", i), "https", "http")
	}
	ch.notNegative(r.PollInterval, at.with("pollInterval"))
	ch.require(r.PollInterval == 0 || len(r.Content) > 0, at.with("content"), "needed by pollInterval: it selects what is copied")
	ch.notNegative(r.ManifestCheckInterval, at.with("manifestCheckInterval"))
	ch.require(r.ManifestCheckInterval == 0 || r.OnDemand, at.with("manifestCheckInterval"), "needs onDemand")
	ch.require(r.MaxRetries >= 0, at.with("maxRetries"), "must not be negative")
	ch.notNegative(r.RetryDelay, at.with("retryDelay"))
	ch.require(r.MaxRetries == 0 || r.RetryDelay > 0, at.with("retryDelay"), "needed by maxRetries")
	ch.require(r.MaxRetryDelay == 0 || r.MaxRetryDelay >= r.RetryDelay, at.with("maxRetryDelay"), "must not be less than retryDelay")
	ch.notNegative(r.SyncTimeout, at.with("syncTimeout"))
	ch.notNegative(r.ResponseHeaderTimeout, at.with("responseHeaderTimeout"))
	ch.require(r.ReqConcurrent > 0, at.with("reqConcurrent"), "must be more than 0")
	ch.require(r.ReqPerSec >= 0, at.with("reqPerSec"), "must be more than 0")
	ch.require(r.MaxIdleConnsPerHost >= 0, at.with("maxIdleConnsPerHost"), "must not be negative")
	ch.require(!r.OnlySigned || !r.OnDemand, at.with("onlySigned"), "is for polling: what clients ask for is fetched whether it is signed or not; remove onDemand, or make it a rule of its own")
	ch.notNegative(r.Forward.Interval, at.with("forward", "interval"))
	ch.require(r.Forward.Interval == 0 || r.LocalPushes == "forward", at.with("forward", "interval"), "needs localPushes forward")
	ch.require(r.Forward.Conflict != "keep" || r.LocalPushes == "forward", at.with("forward", "conflict"), "needs localPushes forward")
	ch.require(!r.Forward.Deletes || r.LocalPushes == "forward", at.with("forward", "deletes"), "needs localPushes forward")
	if p := r.Prune; p != nil {
		ch.notNegative(p.Grace, at.with("prune", "grace"))
		ch.require(!p.Enabled() || r.PollInterval > 0 || r.Notices != nil, at.with("prune"), "needs pollInterval or notices: what is gone is found by listing, or the upstream tells")
	}
	_, err := r.Rate()
	ch.require(err == nil, at.with("downloadRate"), "must be bytes per second, such as 2MB")
	_, err = r.Upload()
	ch.require(err == nil, at.with("uploadRate"), "must be bytes per second, such as 2MB")
	_, err = r.Monthly()
	ch.require(err == nil, at.with("monthlyBytes"), "must be bytes, such as 50GB")
	_, err = r.MaxBlob()
	ch.require(err == nil, at.with("maxBlobSize"), "must be bytes, such as 5GB")
	for i := range r.Bandwidth {
		ch.window(&r.Bandwidth[i], at.with("bandwidth", i))
	}
	for i, c := range r.Content {
		ch.content(&c, at.with("content", i))
	}
	if c := r.Credentials; c != nil {
		ch.oneOf(c.Password, c.PasswordFile, at.with("credentials"), "password")
		ch.require(c.Username != "", at.with("credentials", "username"), "needed")
		ch.require(r.CredentialHelper == "", at.with("credentialHelper"), "give it or credentials, not both")
	}
	ch.require(r.CredentialHelper != "oauth2" || r.OAuth2CredentialHelper != nil, at.with("oauth2CredentialHelper"), "needed by credentialHelper oauth2")
	if h := r.OAuth2CredentialHelper; h != nil {
		ch.oauth2(h, at.with("oauth2CredentialHelper"))
	}
}

func (ch *checker) window(w *SyncWindow, at place) {
	_, err := w.Weekdays()
	ch.require(err == nil, at.with("days"), "must be days such as mon-fri,sun")
	_, err = w.Limit()
	ch.require(err == nil, at.with("rate"), "must be bytes per second, such as 2MB")
	_, err = w.UploadLimit()
	ch.require(err == nil, at.with("uploadRate"), "must be bytes per second, such as 2MB")
	_, err = clockTime(w.From)
	ch.require(err == nil, at.with("from"), "must be a time of day such as 08:00")
	_, err = clockTime(w.To)
	ch.require(err == nil, at.with("to"), "must be a time of day such as 18:00")
}

func (ch *checker) content(c *SyncContent, at place) {
	ch.glob(c.Prefix, at.with("prefix"))
	ch.require(!c.StripPrefix || c.Destination != "/" || strings.ContainsAny(c.Prefix, "*?[{"), at.with("stripPrefix"),
		"with destination / needs a glob as prefix, or nothing is left of the name")
	if t := c.Tags; t != nil {
		ch.regex(t.Regex, at.with("tags", "regex"))
		ch.regex(t.ExcludeRegex, at.with("tags", "excludeRegex"))
	}
}

// The grants of OAuth 2.0 that are not a plain word (RFC 7523, RFC 8693).
const (
	grantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	grantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
)

func (ch *checker) oauth2(h *OAuth2CredentialHelper, at place) {
	ch.url(h.TokenURL, at.with("tokenURL"), "https", "http")
	ch.require((h.AssertionFile == "") != (h.SigningFile == ""), at.with("assertionFile"), "give either it or signingFile")
	exchange := h.GrantType == grantExchange
	ch.require(exchange || h.GrantType == "client_credentials" || h.GrantType == grantJWTBearer, at.with("grantType"),
		"must be client_credentials, %s or %s", grantJWTBearer, grantExchange)
	ch.require(!exchange || h.Audience != "", at.with("audience"), "needed by a token exchange")
	for key, uri := range map[string]string{"subjectTokenType": h.SubjectTokenType, "requestedTokenType": h.RequestedTokenType} {
		ch.require(uri == "" || exchange && strings.Contains(uri, ":"), at.with(key), "must be an absolute URI, and is for a token exchange only")
	}
}
