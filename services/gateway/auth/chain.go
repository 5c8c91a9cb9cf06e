package auth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// Verdict is what a method thinks of a request.
type Verdict int

// The verdicts.
const (
	// Unknown: the request brings nothing that this method knows. Others are asked.
	Unknown Verdict = iota
	// Accepted: the method knows who it is.
	Accepted
)

// Method is one way to find out who a client is. It is used by many goroutines.
type Method interface {
	// Name of the method, for the log and for metrics: "htpasswd".
	Name() string
	// Authenticate returns the actor of q. Whether a secret is wrong or its owner
	// is unknown makes no difference: both are [Unknown], take as long, and lead to
	// the same answer. An error means that the method can't tell, such as that of a
	// directory that is down; the client gets it if no other method knows better.
	// [registry.ErrUnauthorized] ends the search, and [registry.ErrTooManyRequests],
	// too.
	Authenticate(ctx context.Context, q *Request) (registry.Actor, Verdict, error)
}

// Methods are asked in this order. A method that needs closing is an [io.Closer].
type Methods struct {
	Basic   []Method // for requests with [Request.Basic]: API keys, htpasswd, LDAP
	Bearer  []Method // for requests with [Request.Bearer]
	Session []Method // for requests with neither
	Peer    []Method // for requests that none of the above knew, with a certificate
}

func (m *Methods) all() []Method {
	var all []Method
	for _, list := range [][]Method{m.Basic, m.Bearer, m.Session, m.Peer} {
		all = append(all, list...)
	}
	return all
}

// Options of a [Chain].
type Options struct {
	Methods
	// Closed reports that authentication is asked for. If no method is there,
	// nobody gets in. Without it everybody is anonymous.
	Closed bool
	// Anonymous reports whether clients without credentials may come in, to what
	// access control lets them have. nil means no.
	Anonymous func() bool
	// Mixed reports whether there are rules for users besides those for anonymous
	// clients. docker sends credentials only if /v2/ refuses it without, so it is
	// refused there. nil means no.
	Mixed func() bool
	// Admit has a say in who was found out: an error keeps them out. nil lets all in.
	Admit func(ctx context.Context, a registry.Actor) error
	// Observe is told of every credential that was looked at. It must not wait.
	Observe func(ctx context.Context, a Attempt)
	// OpenMetrics lets anonymous clients read metrics.
	OpenMetrics bool
	// Ruled reports that there are access rules; see [registry.Actor].
	Ruled bool
	// Challenge is sent with refusals.
	Challenge Challenge
	// FailDelay is waited before wrong credentials are refused.
	FailDelay time.Duration
	// Log and Metrics may be nil.
	Log     *slog.Logger
	Metrics *metrics.Set
}

// Attempt is a credential and what became of it.
type Attempt struct {
	Method string // that accepted it; "" if none did
	User   string // as claimed, or as found out
	Source string // see [Request.Source]
	Err    error  // nil: accepted
}

// Chain finds out who makes a request. It never changes; a new configuration is a
// new chain. It may be used by many goroutines.
type Chain struct {
	o        Options
	failures *failures
	held     held
	meters   meters
}

// New returns a chain.
func New(o Options) *Chain {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Chain{o: o, failures: newFailures(time.Now), held: newHeld(), meters: newMeters(o.Metrics, o.all())}
}

// Open reports whether there is no authentication at all. It may be called on nil.
func (c *Chain) Open() bool { return c == nil || !c.o.Closed }

// OpenMetrics reports whether clients may read metrics that have not said who they
// are. It may be called on nil.
func (c *Chain) OpenMetrics() bool { return c.Open() || c.o.OpenMetrics }

// Ruled reports whether there are access rules. It may be called on nil.
func (c *Chain) Ruled() bool { return c != nil && c.o.Ruled }

// Names returns the names of the methods, in order.
func (c *Chain) Names() []string { return names(c.o.all()) }

func names(methods []Method) []string {
	var names []string
	for _, m := range methods {
		names = append(names, m.Name())
	}
	return names
}

// Close closes the methods. It may be called on nil.
func (c *Chain) Close() error {
	if c == nil {
		return nil
	}
	var errs []error
	for _, m := range c.o.all() {
		if m, ok := m.(io.Closer); ok {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Authenticate returns on whose behalf r is made. [registry.ErrUnauthorized]
// refuses the request; it has waited by then as [Options.FailDelay] says.
// [registry.ErrTooManyRequests] has waited, too: whoever asks again as soon as he is
// answered would cost the others what the answers cost.
func (c *Chain) Authenticate(r *http.Request, w Wants) (registry.Actor, error) {
	if c.Open() {
		if len(r.Header["Authorization"]) > 1 {
			return registry.Actor{}, refused("more than one Authorization header")
		}
		return registry.Actor{}, nil
	}
	ctx := r.Context()
	q, err := read(r, w)
	if err == nil && w.Open && q.Basic == nil && q.Bearer == "" {
		return registry.Actor{}, nil
	}
	var a registry.Actor
	if err == nil {
		a, err = c.identify(ctx, q)
	}
	switch {
	case err == nil && a.ID != "":
		return a, nil
	case err == nil:
		return a, c.admitAnonymous(q)
	case errors.Is(err, registry.ErrUnauthorized):
		pause(ctx, c.o.FailDelay)
	case errors.Is(err, registry.ErrTooManyRequests):
		c.held.wait(ctx)
	}
	return registry.Actor{}, err
}

// identify returns the actor of q, anonymous if q says nothing of who it is.
func (c *Chain) identify(ctx context.Context, q *Request) (registry.Actor, error) {
	switch {
	case q.Basic != nil && len(c.o.Basic) > 0:
		return c.password(ctx, q)
	case q.Bearer != "":
		return c.ask(ctx, q, c.o.Bearer, "")
	}
	for _, methods := range [][]Method{c.o.Session, c.o.Peer} {
		a, method, err := first(ctx, q, methods)
		if err != nil || a.ID != "" {
			return c.conclude(ctx, q, method, a.ID, a, err)
		}
	}
	if q.Basic != nil {
		return c.ask(ctx, q, nil, q.Basic.User)
	}
	return registry.Actor{}, nil
}

// Knower is a [Method] that remembers whom it has verified.
type Knower interface {
	// Known reports whether q holds credentials that were verified already, so that
	// they cost nothing.
	Known(q *Request) bool
}

// password lets the password methods judge. Who has been wrong too often has to
// wait, unless the password is known to be right.
func (c *Chain) password(ctx context.Context, q *Request) (registry.Actor, error) {
	known := slices.ContainsFunc(c.o.Basic, func(m Method) bool {
		k, ok := m.(Knower)
		return ok && k.Known(q)
	})
	if !known {
		q.guessed = func() error { return c.failures.check(q.Basic.User, q.Source) }
		if err := q.guesses(); err != nil {
			return c.conclude(ctx, q, "", q.Basic.User, registry.Actor{}, err)
		}
	}
	a, err := c.ask(ctx, q, c.o.Basic, q.Basic.User)
	if errors.Is(err, registry.ErrUnauthorized) {
		c.failures.add(q.Basic.User, q.Source)
	}
	return a, err
}

// ask lets methods judge a credential that one of them has to accept.
func (c *Chain) ask(ctx context.Context, q *Request, methods []Method, user string) (registry.Actor, error) {
	a, method, err := first(ctx, q, methods)
	if err == nil && a.ID == "" && a.Scope == nil {
		err = refused("no method of authentication knows the credentials")
	}
	if a.ID != "" {
		user = a.ID
	}
	return c.conclude(ctx, q, method, user, a, err)
}

// conclude lets Admit have its say, makes sure that the user is still there, and tells
// who wants to know.
func (c *Chain) conclude(ctx context.Context, q *Request, method, user string, a registry.Actor, err error) (registry.Actor, error) {
	if err == nil && c.o.Admit != nil {
		err = c.o.Admit(ctx, a)
	}
	if err == nil {
		err = c.present(ctx, a)
	}
	c.meters.count(method, err)
	if c.o.Observe != nil {
		c.o.Observe(ctx, Attempt{Method: method, User: user, Source: q.Source, Err: err})
	}
	if err != nil {
		return registry.Actor{}, err
	}
	return a, nil
}

// first returns what the first method says that knows q. If none does, the failure
// of one that could not tell counts.
func first(ctx context.Context, q *Request, methods []Method) (a registry.Actor, method string, err error) {
	for _, m := range methods {
		got, verdict, failed := m.Authenticate(ctx, q)
		switch {
		case failed != nil && decisive(failed):
			return registry.Actor{}, m.Name(), failed
		case failed != nil && err == nil:
			err, method = failed, m.Name()
		case failed == nil && verdict == Accepted && (got.ID != "" || got.Scope != nil):
			return got, m.Name(), nil
		}
	}
	return registry.Actor{}, method, err
}

func decisive(err error) bool {
	return errors.Is(err, registry.ErrUnauthorized) || errors.Is(err, registry.ErrDenied) || errors.Is(err, registry.ErrTooManyRequests)
}

// admitAnonymous decides about a client that said nothing.
func (c *Chain) admitAnonymous(q *Request) error {
	switch {
	case q.Wants.Open:
		return nil
	case c.o.Anonymous == nil || !c.o.Anonymous():
		return registry.ErrUnauthorized
	case q.Wants.Base && q.Bearer == "" && c.o.Challenge.TokenRealm != "":
		// Whoever asks for a token gets one, but has to know where.
		return registry.ErrUnauthorized
	case q.Wants.Base && q.Bearer == "" && c.o.Mixed != nil && c.o.Mixed() && docker(q.HTTP.UserAgent()):
		return registry.ErrUnauthorized
	}
	return nil
}

// docker reports whether the client is docker's own.
func docker(agent string) bool {
	return strings.HasPrefix(agent, "docker/") || strings.Contains(agent, "Docker-Client")
}

// Challenge returns the value of WWW-Authenticate for a request, "" if there is
// none: nobody is asked for credentials, or by zot's web UI only, whose users must
// not get a browser's own password box.
func (c *Chain) Challenge(r *http.Request, w Wants) string {
	if c.Open() || r.Header.Get("X-Zot-Api-Client") == "zot-ui" {
		return ""
	}
	return c.o.Challenge.value(w)
}
