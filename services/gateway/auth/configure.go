package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// Env is what methods share.
type Env struct {
	daemon.Process
	Slots *Slots
}

// Parts are the methods of authentication that a program has in it besides those
// of this package, each as the function that opens it. nil: the program has it not,
// and refuses a config file that needs it.
type Parts struct {
	// Identity are the methods that rely on the Catalog. nil: there are none.
	Identity *Identity
	LDAP     func(ctx context.Context, c *config.LDAP, e Env) (Method, error)
	// Bearer opens what verifies the tokens of a token server elsewhere, and OIDC what
	// verifies those of issuers.
	Bearer func(c *config.Config, e Env) (Method, error)
	OIDC   func(c *config.Config, e Env) (Method, error)
}

// Identity are methods of authentication by what the Catalog knows.
type Identity struct {
	APIKey, Token, Session Method
	// Admit keeps users out, see [Options].
	Admit func(ctx context.Context, a registry.Actor) error
	// Realm is the URL of the token service that clients are sent to, "" if they are
	// asked for passwords. Service is what it knows us as.
	Realm, Service string
}

// Configured returns the chain that a config file asks for. It holds nothing open
// when it returns an error.
func Configured(ctx context.Context, c *config.Config, parts Parts, p daemon.Process) (_ *Chain, err error) {
	h := c.HTTP
	o := Options{
		Closed:    !h.Open(),
		Anonymous: func() bool { return anonymous(h.AccessControl) },
		Mixed:     func() bool { return mixed(h.AccessControl) },
		Challenge: Challenge{Realm: h.Realm},

		OpenMetrics: openMetrics(h),
		Ruled:       h.AccessControl != nil,

		Log:     p.Log.With("module", "auth"),
		Metrics: p.Metrics,
	}
	if o.Challenge.Realm == "" {
		o.Challenge.Realm = DefaultRealm
	}
	if !o.Closed {
		return New(o), nil
	}
	defer func() {
		if err != nil {
			_ = New(o).Close()
		}
	}()
	e := Env{Process: p, Slots: NewSlots(0)}
	e.Log = o.Log
	a := h.Auth
	if a == nil {
		a = new(config.Auth)
	}
	o.FailDelay = time.Duration(a.FailDelay) * time.Second
	add := func(list *[]Method, key string, open func() (Method, error)) {
		if err != nil {
			return
		}
		m, failed := open()
		if failed != nil {
			err = fmt.Errorf("%s: %w", key, failed)
			return
		}
		*list = append(*list, m)
	}
	if a.HTPasswd != nil {
		add(&o.Basic, "http.auth.htpasswd", func() (Method, error) { return OpenHTPasswd(a.HTPasswd.Path, e) })
	}
	if a.LDAP != nil {
		add(&o.Basic, "http.auth.ldap", func() (Method, error) {
			if parts.LDAP == nil {
				return nil, errMissing
			}
			return parts.LDAP(ctx, a.LDAP, e)
		})
	}
	if i := parts.Identity; i != nil {
		if a.APIKey || a.OpenID != nil {
			// First, unlike zot: passwords that can't be a key are none of its business,
			// and a key that a directory is shown as a password is a wrong one, after a
			// few of which it locks the owner out.
			o.Basic = slices.Insert(o.Basic, 0, i.APIKey)
		}
		o.Bearer, o.Session = append(o.Bearer, i.Token), append(o.Session, i.Session)
		o.Admit, o.Challenge.TokenRealm, o.Challenge.Service = i.Admit, i.Realm, i.Service
	}
	if a.Bearer != nil {
		if err == nil {
			err = bearerOnly(&o, c, parts, e)
		}
	} else if h.TLS != nil && h.TLS.CACert != "" {
		add(&o.Peer, "http.auth.mtls", func() (Method, error) { return OpenMTLS(a.MTLS) })
	}
	if err != nil {
		return nil, err
	}
	return New(o), nil
}

// bearerOnly has tokens accepted, and nothing else, as zot has it for http.auth.bearer:
// those of issuers, and our own token service's, which takes theirs; then those of a
// token server elsewhere.
func bearerOnly(o *Options, c *config.Config, parts Parts, e Env) error {
	b := c.HTTP.Auth.Bearer
	if ignored := names(o.Basic); len(ignored) > 0 {
		e.Log.Warn("http.auth.bearer is the only method of authentication; others are ignored", "ignored", strings.Join(ignored, ", "))
	}
	err := (&Chain{o: Options{Methods: Methods{Basic: o.Basic}}}).Close()
	own := o.Bearer
	o.Methods = Methods{}
	if err != nil {
		return err
	}
	if len(b.OIDC) > 0 {
		if parts.OIDC == nil {
			return fmt.Errorf("http.auth.bearer.oidc: %w", errMissing)
		}
		m, err := parts.OIDC(c, e)
		if err != nil {
			return fmt.Errorf("http.auth.bearer.oidc: %w", err)
		}
		o.Bearer, o.Basic = append(append(o.Bearer, m), own...), append(o.Basic, m)
	}
	if b.Cert != "" || b.AWSSecretsManager != nil {
		if parts.Bearer == nil {
			return fmt.Errorf("http.auth.bearer: %w", errMissing)
		}
		m, err := parts.Bearer(c, e)
		if err != nil {
			return fmt.Errorf("http.auth.bearer.%w", err)
		}
		o.Bearer = append(o.Bearer, m)
	}
	if b.Realm != "" {
		o.Challenge.TokenRealm = b.Realm
	}
	if b.Service != "" {
		o.Challenge.Service = b.Service
	}
	if o.Challenge.TokenRealm == "" {
		o.Challenge.Bearer = true
	}
	return nil
}

// DefaultRealm is zot's.
const DefaultRealm = "Authorization Required"

var errMissing = fmt.Errorf("this program has no such method of authentication; berth and berth-gateway have")

// anonymous reports whether clients without credentials may do anything.
func anonymous(a *config.AccessControl) bool {
	if a == nil {
		return false
	}
	for _, r := range a.Repositories {
		if len(r.AnonymousPolicy) > 0 {
			return true
		}
	}
	return false
}

// mixed reports whether users may do what anonymous clients may not.
func mixed(a *config.AccessControl) bool {
	if a == nil {
		return false
	}
	if p := a.AdminPolicy; p != nil && len(p.Actions) > 0 {
		return true
	}
	for _, r := range a.Repositories {
		if len(r.Policies)+len(r.DefaultPolicy) > 0 {
			return true
		}
	}
	return false
}

// openMetrics reports whether anonymous clients may read metrics.
func openMetrics(h config.HTTP) bool {
	a := h.AccessControl
	return a != nil && a.Metrics != nil && slices.ContainsFunc(a.Metrics.AnonymousPolicy, func(s string) bool { return strings.EqualFold(s, "read") })
}
