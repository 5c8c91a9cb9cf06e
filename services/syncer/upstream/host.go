package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Credentials are those of one registry.
type Credentials struct {
	Username string // [IdentityToken]: Password is one
	Password string
	Until    time.Time // when they end, zero: not known
}

// IdentityToken in the place of a user's name says that the password is a token that
// token servers take for others (docker-credential-helpers, "Development").
const IdentityToken = "<token>"

// Options describe one host of a registry.
type Options struct {
	// URL is scheme://host[:port], and a path below which /v2/ lies, if any.
	URL string
	// Transport makes the requests. It follows no redirects.
	Transport http.RoundTripper
	// Credentials returns the user to log in as, nil for none. It is called when
	// they are needed, so that they may change.
	Credentials func(context.Context) (*Credentials, error)
	// Background limits how many requests that nobody waits for are made at a time;
	// 0 is no limit. PerSecond limits all requests; 0 is no limit.
	Background int
	PerSecond  float64
	// Answer is how long the host may take to begin an answer, 0 for [DefaultAnswer].
	Answer time.Duration
	// UserAgent names us.
	UserAgent string
	Now       func() time.Time // nil: time.Now
}

// Host is one host of an upstream registry. It may be used by many goroutines.
type Host struct {
	base   *url.URL
	http   http.RoundTripper
	creds  func(context.Context) (*Credentials, error)
	agent  string
	answer time.Duration
	now    func() time.Time
	slots  chan struct{} // nil: no limit
	pace   pace
	tokens tokens
	Breaker

	requests atomic.Int64
	budget   atomic.Pointer[budget] // nil: unknown
}

// New returns the host that o describes. It asks nobody.
func New(o Options) (*Host, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("upstream: not an http or https URL")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("upstream: a URL is scheme://host[:port][/path]; credentials have keys of their own")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	// The registry that everybody calls docker.io has another name, and no path: zot, whose
	// example has https://docker.io/library, asks that one, too.
	if u.Scheme == "https" && strings.EqualFold(strings.TrimSuffix(u.Host, ":443"), "docker.io") {
		u.Host, u.Path = "registry-1.docker.io", ""
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &Host{base: u, http: o.Transport, creds: o.Credentials, agent: o.UserAgent, answer: cmp.Or(o.Answer, DefaultAnswer), now: o.Now}
	h.pace = pace{every: interval(o.PerSecond), now: o.Now}
	h.Breaker.now = o.Now
	if o.Background > 0 {
		h.slots = make(chan struct{}, o.Background)
	}
	return h, nil
}

// Name returns host or host:port.
func (h *Host) Name() string { return h.base.Host }

// URL returns where the host is.
func (h *Host) URL() string { return h.base.String() }

// Requests returns how many requests were made.
func (h *Host) Requests() int64 { return h.requests.Load() }

type backgroundKey struct{}

// Background marks requests that nobody waits for: they are limited to
// [Options.Background] at a time.
func Background(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// maxRedirects is how many redirects one request follows.
const maxRedirects = 5

// call is one request to a registry.
type call struct {
	method string
	path   string // below the base, escaped; "/v2/…"
	query  string
	header http.Header
	repo   string   // whose scope a token needs, "" for none
	push   bool     // it needs to write there, too
	remove bool     // it needs to remove there, too
	from   string   // a repository that it reads besides, "" for none
	target *url.URL // that the host gave, in place of path and query; nil: none
	body   func() io.ReadCloser
	size   int64 // of the body
}

// tokenKey is what a token for the call is remembered by.
func (c call) tokenKey() string {
	key := c.repo
	if c.push {
		key += " push"
	}
	if c.remove {
		key += " delete"
	}
	if c.from != "" {
		key += " " + c.from
	}
	return key
}

// do makes a request, with credentials if the registry asks for some. It returns
// answers with a status of 2xx, and 404 as [registry.ErrManifestUnknown]; all
// others are errors that say what to do. The caller closes the body.
func (h *Host) do(ctx context.Context, c call) (*http.Response, error) {
	if err := h.Allow(); err != nil {
		return nil, err
	}
	var release func()
	leave, err := h.enter(ctx)
	if err != nil {
		h.Ignore()
		return nil, err
	}
	within, end := context.WithCancelCause(ctx)
	release = sync.OnceFunc(func() { end(nil); leave() })
	limit := &answerLimit{patience: h.patience()}
	limit.timer = time.AfterFunc(limit.patience, func() { end(errNoAnswer) })
	resp, err := h.try(context.WithValue(within, limitKey{}, limit), c)
	limit.stop(true)
	if err != nil {
		late := errors.Is(context.Cause(within), errNoAnswer) || isTimeout(err)
		release()
		if ctx.Err() != nil {
			h.Ignore() // our own doing
			return nil, err
		}
		if late {
			h.Silent()
			err = fmt.Errorf("no answer in time: %w", err)
		}
		if e, ok := errors.AsType[*registry.Error](err); ok {
			h.Ignore() // it answered
			return nil, e
		}
		h.Failed()
		return nil, registry.ErrUnavailable.With("the upstream registry %s can't be reached", h.base.Host).Because(err)
	}
	if errors.Is(context.Cause(within), errNoAnswer) { // it came at the last moment
		resp.Body.Close()
		release()
		h.Silent()
		h.Failed()
		return nil, registry.ErrUnavailable.With("the upstream registry %s does not answer in time", h.base.Host)
	}
	if err := h.judge(resp, c); err != nil {
		drain(resp)
		release()
		return nil, err
	}
	resp.Body = &body{resp.Body, release}
	return resp, nil
}

// try makes the request, and once more if it lacked credentials.
func (h *Host) try(ctx context.Context, c call) (*http.Response, error) {
	auth := h.tokens.get(c.tokenKey(), h.now())
	resp, err := h.send(ctx, c, auth)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	challenge := parseChallenge(resp.Header.Values("Www-Authenticate"))
	fresh, err := h.authorize(ctx, c, challenge)
	if err != nil {
		drain(resp)
		return nil, err
	}
	if fresh == "" || fresh == auth {
		return resp, nil
	}
	drain(resp)
	return h.send(ctx, c, fresh)
}

// send makes one request and follows redirects. Credentials go to the host itself
// only: neither to where it redirects (CVE-2020-15157) nor, after a fallback, over
// plain HTTP (CVE-2019-10214); there is no fallback.
func (h *Host) send(ctx context.Context, c call, auth string) (*http.Response, error) {
	next, err := h.locate(c)
	if err != nil {
		return nil, err
	}
	for range maxRedirects + 1 {
		limit, _ := ctx.Value(limitKey{}).(*answerLimit)
		limit.stop(false) // waiting for our turn is not the host's doing
		if err := h.pace.wait(ctx); err != nil {
			return nil, err
		}
		limit.restart(limit.patience)
		req, err := http.NewRequestWithContext(ctx, c.method, next.String(), nil)
		if err != nil {
			return nil, err
		}
		for k, v := range c.header {
			req.Header[k] = v
		}
		if c.body != nil {
			req.Body, req.ContentLength = &flowing{c.body(), limit, h.answer}, c.size
		}
		req.Header.Set("User-Agent", h.agent)
		if auth != "" && sameOrigin(next, h.base) {
			req.Header.Set("Authorization", auth)
		}
		h.requests.Add(1)
		resp, err := h.http.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode < 300 || resp.StatusCode > 399 || resp.StatusCode == http.StatusNotModified {
			return resp, nil
		}
		where := resp.Header.Get("Location")
		drain(resp)
		to, err := next.Parse(where)
		switch {
		case where == "" || err != nil:
			return nil, errors.New("the upstream registry redirects to nowhere")
		case to.Scheme != "https" && (next.Scheme == "https" || to.Scheme != "http"):
			return nil, errors.New("the upstream registry redirects to a URL that is not https")
		case to.User != nil:
			return nil, errors.New("the upstream registry redirects to a URL with credentials")
		}
		next = to
	}
	return nil, errors.New("the upstream registry redirects in circles")
}

// locate returns the URL of a call.
func (h *Host) locate(c call) (*url.URL, error) {
	if c.target != nil {
		return c.target, nil
	}
	path, err := url.Parse(c.path)
	if err != nil {
		return nil, err
	}
	u := *h.base
	u.Path, u.RawPath, u.RawQuery = h.base.Path+path.Path, "", c.query
	return &u, nil
}

// sameOrigin reports whether a and b are the same scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host)
}

// enter waits for a turn, if ctx is in the background.
func (h *Host) enter(ctx context.Context) (release func(), err error) {
	if h.slots == nil || ctx.Value(backgroundKey{}) == nil {
		return func() {}, nil
	}
	select {
	case h.slots <- struct{}{}:
		return sync.OnceFunc(func() { <-h.slots }), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// body gives a turn back when it is closed.
type body struct {
	io.ReadCloser
	release func()
}

func (b *body) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

// drain ends an answer whose body nobody wants, and keeps the connection if that
// is cheap.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}
