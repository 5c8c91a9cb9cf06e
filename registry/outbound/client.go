package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/berth-registry/berth/registry/metrics"
)

// Options of [New].
type Options struct {
	// Purpose stands in metrics and log lines: "sync", "oidc".
	Purpose string
	// Rules are those of the configuration, outbound.* in the file.
	Rules Rules
	// Named are the URLs that the configuration names for this purpose, see [Rules].
	// None of them may come from a user or a peer.
	Named []string
	// PlainHTTP allows http URLs. Set it if one of Named begins with http:.
	PlainHTTP bool
	// TLS says whom to believe and who we are.
	TLS TLS
	// Agent is the User-Agent of requests that have none.
	Agent string

	// Redirects is how many are followed; 0 is 5, negative is none: the answer that
	// redirects is returned then.
	Redirects int
	// MaxBody is how many bytes the body of an answer may have; reading more is
	// [ErrTooLarge]. 0 is no limit: for bodies that are streamed.
	MaxBody int64
	// Dial is how long connecting may take, and the handshake again; 0 is 10 s.
	Dial time.Duration
	// Header is how long a peer may take to begin its answer once it has the
	// request; 0 is 30 s.
	Header time.Duration
	// Idle is how long a transfer may stand still, in either direction; 0 is 60 s.
	Idle time.Duration
	// Conns is how many connections one host may get at a time, more requests wait;
	// 0 is 64.
	Conns int
	// HTTP2 is spoken if the peer wants it. Without it bulk transfers are faster and
	// one stalled transfer holds up no other.
	HTTP2 bool

	// Proxy says which proxy a request takes; nil means the environment does.
	Proxy func(*http.Request) (*url.URL, error)
	// Lookup resolves names, for tests. What it answers is checked like any other
	// answer. nil is the system.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	Log     *slog.Logger // nil: none
	Metrics *metrics.Set // nil: none
}

// Client sends requests under the rules. Its methods may be called by many
// goroutines. Memory is bounded by the number of connections.
type Client struct {
	o         Options
	rules     Rules
	named     named
	transport *http.Transport
	http      *http.Client
	refused   *metrics.Counter
	// connect replaces connecting to an address that passed, in tests.
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

// New returns a client. The error says what of the options can't be used.
func New(o Options) (*Client, error) {
	set := func(d *time.Duration, or time.Duration) {
		if *d == 0 {
			*d = or
		}
	}
	set(&o.Dial, 10*time.Second)
	set(&o.Header, 30*time.Second)
	set(&o.Idle, time.Minute)
	if o.Redirects == 0 {
		o.Redirects = 5
	}
	if o.Conns == 0 {
		o.Conns = 64
	}
	if o.Agent == "" {
		o.Agent = "berth"
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	n, err := nameHosts(o.Named)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.Purpose, err)
	}
	secure, err := o.TLS.config(o.Log)
	if err != nil {
		return nil, err
	}
	c := &Client{o: o, rules: o.Rules, named: n,
		refused: o.Metrics.Counter("berth_outbound_refused_total", "Requests to others that were not sent, because the rules forbid where they led.", "purpose", o.Purpose)}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(o.HTTP2)
	c.transport = &http.Transport{
		Proxy:                  proxyOf,
		DialContext:            c.dial,
		TLSClientConfig:        secure,
		TLSHandshakeTimeout:    o.Dial,
		ResponseHeaderTimeout:  o.Header,
		ExpectContinueTimeout:  time.Second,
		IdleConnTimeout:        90 * time.Second,
		MaxIdleConns:           2 * o.Conns,
		MaxIdleConnsPerHost:    min(o.Conns, 8),
		MaxConnsPerHost:        o.Conns,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
		Protocols:              protocols,
	}
	c.http = &http.Client{Transport: (*guarded)(c), CheckRedirect: c.redirect}
	return c, nil
}

// HTTP returns the client in the form that libraries take. Their errors may name
// URLs in full: put them through [Scrub] before they are logged.
func (c *Client) HTTP() *http.Client { return c.http }

// Do sends a request, as [http.Client.Do] does, and follows redirects. An error
// names the URL without its query, and is [ErrRefused] if rules forbid it.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(r) //nolint:bodyclose // the caller's
	return resp, Scrub(err)
}

// CloseIdle closes connections that nothing uses. Call it when the client is given up.
func (c *Client) CloseIdle() { c.transport.CloseIdleConnections() }

// Scrub takes out of an error of [net/http] what a URL may hold besides host and
// path: presigned URLs are secrets.
func Scrub(err error) error {
	var e *url.Error
	if !errors.As(err, &e) {
		return err
	}
	clean := *e
	clean.URL = "(URL)"
	if u, parseErr := url.Parse(e.URL); parseErr == nil {
		clean.URL = show(u)
	}
	return &clean
}

// ErrRefused is the error of requests that the rules forbid. It says nothing of
// the network we stand in: the log does.
var ErrRefused = errors.New("requests to this address are not allowed")

// guarded is a Client as an [http.RoundTripper]: one exchange, under the rules.
type guarded Client

func (g *guarded) CloseIdleConnections() { g.transport.CloseIdleConnections() }

func (g *guarded) RoundTrip(r *http.Request) (*http.Response, error) {
	c := (*Client)(g)
	ctx, cancel := context.WithCancelCause(r.Context())
	resp, err := c.exchange(ctx, cancel, r)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && r.Context().Err() == nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	return resp, nil
}

// exchange sends a request and returns the answer, whose body ends ctx when it is
// closed.
func (c *Client) exchange(ctx context.Context, cancel context.CancelCauseFunc, r *http.Request) (*http.Response, error) {
	proxy, err := c.admit(ctx, r)
	if err != nil {
		if r.Body != nil {
			_ = r.Body.Close() // as RoundTrip promises
		}
		return nil, err
	}
	out := r.Clone(context.WithValue(ctx, route{}, proxy))
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Header.Del("Referer")
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header.Set("User-Agent", c.o.Agent)
	}
	if out.Body != nil && out.Body != http.NoBody {
		out.Body = watchSend(out.Body, c.o.Idle, cancel)
	}
	resp, err := c.transport.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	resp.Request = r
	if max := c.o.MaxBody; max > 0 && resp.ContentLength > max && r.Method != http.MethodHead {
		_ = resp.Body.Close()
		return nil, ErrTooLarge
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body = watchReceive(resp.Body, c.o.MaxBody, c.o.Idle, cancel)
	}
	return resp, nil
}

var ipv4Loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// admit checks the URL of a request, and returns the proxy it takes, nil for none.
func (c *Client) admit(ctx context.Context, r *http.Request) (*url.URL, error) {
	if err := check(r.URL); err != nil {
		return nil, c.refuse(ctx, r.URL, err.Error())
	}
	if r.URL.Scheme == "http" && !c.o.PlainHTTP {
		return nil, c.refuse(ctx, r.URL, "http is not allowed here, only https")
	}
	host, port := hostPort(r.URL)
	// A proxy would resolve these; without one it saves a look-up.
	if a, err := netip.ParseAddr(host); err == nil {
		if !c.permits(host, port, a) {
			return nil, c.refuse(ctx, r.URL, "the address is "+classify(a).String())
		}
	} else if local(host) && !c.permits(host, port, netip.IPv6Loopback()) && !c.permits(host, port, ipv4Loopback) {
		return nil, c.refuse(ctx, r.URL, "the address is "+loopback.String())
	}
	proxy, err := c.o.Proxy(r)
	if err != nil {
		return nil, errors.New("the proxy of the environment is not a URL")
	}
	return proxy, nil
}

// refuse logs why a request is not sent, and returns what the caller may know.
func (c *Client) refuse(ctx context.Context, u *url.URL, why string) error {
	return c.refuseHost(ctx, u.Host, why)
}

func (c *Client) refuseHost(ctx context.Context, host, why string) error {
	c.refused.Inc()
	if len(host) > 260 {
		host = host[:260]
	}
	c.o.Log.WarnContext(ctx, "a request to another host was not sent", "purpose", c.o.Purpose, "host", host, "reason", why,
		"hint", "if it is meant, list the host or its network in outbound.allow")
	return ErrRefused
}

// route is the key of the proxy a request takes in its context.
type route struct{}

func proxyOf(r *http.Request) (*url.URL, error) {
	proxy, _ := r.Context().Value(route{}).(*url.URL)
	return proxy, nil
}

// Dial connects to host:port under the rules, for protocols other than HTTP. The port
// of a URL in [Options.Named] must be a number then.
func (c *Client) Dial(ctx context.Context, address string) (net.Conn, error) {
	return c.dial(ctx, "tcp", address)
}

// TLS returns a configuration for connections that Dial has made.
func (c *Client) TLS() *tls.Config { return c.transport.TLSClientConfig.Clone() }
