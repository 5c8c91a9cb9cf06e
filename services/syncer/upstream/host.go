package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
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

// Budget returns how many pulls the host says are left, -1 if it does not say, or
// has said it so long ago that it counts anew.
func (h *Host) Budget() int64 {
	b := h.budget.Load()
	if b == nil || !b.until.IsZero() && !h.now().Before(b.until) {
		return -1
	}
	return b.left
}

// budget is what a host has said of the pulls that it allows.
type budget struct {
	left  int64
	until time.Time // when it counts anew, zero if it does not say
}

type backgroundKey struct{}

// answerLimit ends a request which is not answered in time. It comes with the context,
// under limitKey.
type answerLimit struct {
	patience time.Duration // for each step

	mu    sync.Mutex // guards all below
	timer *time.Timer
	over  bool // there is an answer
}

// restart gives the host d from now on.
func (l *answerLimit) restart(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.timer.Reset(d)
	}
}

// stop gives it all the time it wants, until restart if the limit is not over.
func (l *answerLimit) stop(over bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	l.over = l.over || over
}

// flowing is the body of a request: as long as the host takes it, it need not answer.
type flowing struct {
	io.ReadCloser
	limit *answerLimit
	each  time.Duration
}

func (f *flowing) Read(p []byte) (int, error) {
	f.limit.stop(false) // this is us
	defer f.limit.restart(f.each)
	return f.ReadCloser.Read(p)
}

type limitKey struct{}

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

// DefaultAnswer is how long a host may take to begin an answer if nobody says, and
// silentAnswer how long at most when it has just let somebody wait in vain.
const (
	DefaultAnswer = 30 * time.Second
	silentAnswer  = 2 * time.Second
)

var errNoAnswer = errors.New("the upstream registry does not answer in time")

// patience returns how long the next answer may take to begin. A host that hangs costs
// one client in a while the full time, not each.
func (h *Host) patience() time.Duration {
	if h.hurry() {
		return min(h.answer, silentAnswer)
	}
	return h.answer
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
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

// judge says what the status of an answer means.
func (h *Host) judge(resp *http.Response, c call) error {
	h.readBudget(resp.Header)
	switch s := resp.StatusCode; {
	case s >= 200 && s < 300:
		h.Succeeded()
		return nil
	case s == http.StatusNotFound:
		h.Succeeded()
		return registry.ErrManifestUnknown.With("the upstream registry %s does not have it", h.base.Host)
	case s == http.StatusUnauthorized || s == http.StatusForbidden:
		h.Succeeded()
		return registry.ErrDenied.With("the upstream registry %s refuses access to %s: it does not exist there, or needs other credentials", h.base.Host, c.repo)
	case s == http.StatusTooManyRequests:
		wait := retryAfter(resp.Header, h.now())
		h.Hold(wait, registry.ErrTooManyRequests)
		return registry.ErrTooManyRequests.With("the upstream registry %s allows no more requests for %v", h.base.Host, wait.Round(time.Second)).After(wait)
	case s == http.StatusRequestedRangeNotSatisfiable:
		h.Succeeded()
		return errRange
	case c.push && s >= 400 && s < 500 && s != http.StatusRequestTimeout:
		h.Succeeded()
		return h.refusal(resp)
	default:
		h.Failed()
		err := registry.ErrUnavailable.With("the upstream registry %s answers with status %d", h.base.Host, s)
		if s == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "" {
			wait := retryAfter(resp.Header, h.now())
			h.Hold(min(wait, probeEvery), registry.ErrUnavailable)
			err = err.After(wait)
		}
		return err
	}
}

// ErrWrong says that what came is not the content that was asked for.
var ErrWrong = errors.New("other content than its digest says")

// errRange says that the upstream has no bytes from there on.
var errRange = errors.New("the upstream registry has no such range")

// readBudget notes what the registry says is left. Docker Hub's ratelimit-remaining
// has the window in seconds behind it: "57;w=21600".
func (h *Host) readBudget(header http.Header) {
	for _, key := range []string{"Ratelimit-Remaining", "X-Ratelimit-Remaining"} {
		text, more, _ := strings.Cut(header.Get(key), ";")
		left, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil || left < 0 {
			continue
		}
		b := &budget{left: left}
		if _, w, ok := strings.Cut(more, "w="); ok {
			w, _, _ = strings.Cut(w, ";")
			if n, err := strconv.ParseInt(strings.TrimSpace(w), 10, 32); err == nil && n > 0 {
				b.until = h.now().Add(time.Duration(n) * time.Second)
			}
		}
		h.budget.Store(b)
		return
	}
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
