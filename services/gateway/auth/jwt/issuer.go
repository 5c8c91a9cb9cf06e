package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/outbound"
)

const (
	// keysFor is how long an issuer's keys are used before they are fetched again.
	// If that fails the old ones go on.
	keysFor = time.Hour
	// keysAgain is how soon they may be fetched again because a token names one that
	// is not there, or because fetching failed.
	keysAgain = 10 * time.Second
	// fetchTime bounds a fetch.
	fetchTime = 10 * time.Second
	// maxDocument bounds what an issuer answers, in bytes.
	maxDocument = 1 << 20
)

// keyring keeps keys that have to be fetched. It may be used by many goroutines.
type keyring struct {
	load func(ctx context.Context) ([]Key, error) // fetches them
	life time.Duration                            // for how long they are used
	log  *slog.Logger
	now  func() time.Time

	fetching sync.Mutex // held by who fetches

	mu         sync.Mutex // guards all below
	keys       []Key
	generation int       // counts the key sets
	fetched    time.Time // keys
	tried      time.Time
	failed     error // of the last try
}

// issuer fetches the keys of an OpenID Connect issuer (OpenID Connect Discovery 1.0).
type issuer struct {
	keyring
	url    string
	trust  bool // what the document says is its issuer need not be url
	client *outbound.Client
}

func newIssuer(c config.BearerOIDC, rules outbound.Rules, o outbound.Options) (*issuer, error) {
	o.Purpose, o.Rules, o.Named = "oidc", rules, []string{c.Issuer}
	o.PlainHTTP = strings.HasPrefix(c.Issuer, "http://")
	o.Redirects, o.MaxBody = -1, maxDocument
	o.TLS.CAFile = c.CertificateAuthorityFile
	if c.CertificateAuthority != "" {
		// The client reads authorities from a file, once.
		f, err := os.CreateTemp("", "berth-ca-*.pem")
		if err != nil {
			return nil, fmt.Errorf("certificateAuthority: %w", err)
		}
		defer os.Remove(f.Name())
		_, err = f.WriteString(c.CertificateAuthority)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("certificateAuthority: %w", err)
		}
		o.TLS.CAFile = f.Name()
	}
	o.TLS.CAOnly = o.TLS.CAFile != ""
	client, err := outbound.New(o)
	if err != nil {
		return nil, err
	}
	i := &issuer{url: c.Issuer, trust: c.SkipIssuerVerification, client: client}
	i.life, i.log, i.now, i.load = keysFor, o.Log.With("issuer", c.Issuer), time.Now, i.discover
	return i, nil
}

// current returns the keys and the number of their set. known reports whether a key
// of that set is what the caller needs; if not, they may be fetched again.
func (r *keyring) current(ctx context.Context, known func([]Key) bool) ([]Key, int, error) {
	for range 2 {
		r.mu.Lock()
		keys, generation, failed, now := r.keys, r.generation, r.failed, r.now()
		due := keys == nil || now.Sub(r.fetched) >= r.life || !known(keys)
		may := r.tried.IsZero() || now.Sub(r.tried) >= keysAgain
		r.mu.Unlock()
		switch {
		case due && may:
			r.fetch(ctx)
			continue
		case keys == nil:
			return nil, 0, failed
		}
		return keys, generation, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		return nil, 0, r.failed
	}
	return r.keys, r.generation, nil
}

// fetch gets the keys, unless somebody else just did.
func (r *keyring) fetch(ctx context.Context) {
	r.fetching.Lock()
	defer r.fetching.Unlock()
	r.mu.Lock()
	recent := !r.tried.IsZero() && r.now().Sub(r.tried) < keysAgain
	r.mu.Unlock()
	if recent {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	keys, err := r.load(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tried = r.now()
	if r.failed = err; err != nil {
		r.log.Error("keys that verify tokens can't be had", "error", err.Error())
		return
	}
	r.keys, r.fetched = keys, r.tried
	r.generation++
}

// discover asks the issuer where its keys are, and for the keys. A redirect is an
// error, and so is an issuer that says it is another one: both would let somebody
// else speak for it (compare CVE-2026-49478). Keys may be on another host, as
// Google's are, if it is public and spoken to over TLS.
func (i *issuer) discover(ctx context.Context) ([]Key, error) {
	base, err := url.Parse(i.url)
	if err != nil {
		return nil, err
	}
	text, err := i.get(ctx, strings.TrimSuffix(i.url, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var document struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, errors.New("the discovery document is not JSON")
	}
	if document.Issuer != i.url && !i.trust {
		return nil, fmt.Errorf("the discovery document is of another issuer, %q", document.Issuer)
	}
	at, err := url.Parse(document.Keys)
	if err != nil || at.Host == "" {
		return nil, errors.New("the discovery document names no jwks_uri")
	}
	if at.Scheme != "https" && outbound.Origin(at) != outbound.Origin(base) {
		return nil, fmt.Errorf("the keys are on another host without TLS, %q", at.Host)
	}
	if text, err = i.get(ctx, document.Keys); err != nil {
		return nil, err
	}
	return parseSet(text)
}

func (i *issuer) get(ctx context.Context, url string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	res, err := i.client.Do(r)
	if err != nil {
		return nil, err
	}
	text, err := outbound.ReadAll(res, maxDocument)
	switch {
	case err != nil:
		return nil, err
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("GET %s: status %d", url, res.StatusCode)
	}
	return text, nil
}
