package identity

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// Options of a [Service].
type Options struct {
	Catalog registry.Catalog
	// Audience is what the token service calls the registry, "service" in
	// challenges.
	Audience string
	// External is the URL that browsers reach the registry by, without a slash at
	// its end.
	External string
	// APIKeys lets users make API keys.
	APIKeys bool
	// Providers are where users log in in the browser.
	Providers []Provider
	// CallbackOrigins may be the origin of where a login leads.
	CallbackOrigins []string
	// Secure marks cookies Secure though requests come without TLS.
	Secure bool
	// CookieKey encrypts the cookie of a login that has begun. Empty: a key that the
	// Catalog has.
	CookieKey []byte
	Log       *slog.Logger
	// Relay has requests for tokens passed on, and nothing else done. nil: it is not.
	Relay *Relay
}

// Event is something that was done with credentials.
type Event struct {
	Kind   string // login, logout, token.issue, token.relay, token.refresh, apikey.create, apikey.remove, device.approve
	User   string // "" if nobody is known
	Object string // what it was done with: a provider, scopes, the identity of a key
	Err    error  // nil: it was done
}

type eventsKey struct{}

// WithEvents has tell called with what is done for requests of this context, before
// they are answered to the end.
func WithEvents(ctx context.Context, tell func(Event)) context.Context {
	return context.WithValue(ctx, eventsKey{}, tell)
}

// Service answers the requests below /zot/auth/, and knows credentials that are not
// passwords. It may be used by many goroutines.
type Service struct {
	o         Options
	trust     *trust
	providers map[string]*provider
	begun     begun
	log       *slog.Logger
	stop      context.CancelFunc
	ended     sync.WaitGroup
}

// New returns a service. Close it.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Service{o: o, log: o.Log, trust: newTrust(o.Catalog, o.Log), providers: make(map[string]*provider)}
	for _, p := range o.Providers {
		s.providers[strings.ToLower(p.Name)] = &provider{Provider: p, callback: o.External + "/zot/auth/callback/" + p.Name}
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.ended.Go(func() { s.trust.follow(ctx) })
	return s
}

// Close ends the work in the background.
func (s *Service) Close() error {
	s.stop()
	s.ended.Wait()
	return nil
}

// Refresh asks the Catalog what was taken away, as happens by itself every few
// seconds.
func (s *Service) Refresh(ctx context.Context) error { return s.trust.refresh(ctx) }

// Basic is the method of authentication by API keys.
func (s *Service) Basic() auth.Method { return keys{s} }

// Bearer is that by tokens of the token service.
func (s *Service) Bearer() auth.Method { return bearer{s} }

// Session is that by sessions of the web UI.
func (s *Service) Session() auth.Method { return sessions{s} }

// Admit keeps disabled users out, by whatever method they come.
func (s *Service) Admit(ctx context.Context, a registry.Actor) error {
	if a.ID == "" {
		return nil
	}
	off, err := s.trust.isDisabled(ctx, a.ID)
	if err == nil && off {
		err = registry.ErrUnauthorized.Because(errors.New("the account is disabled"))
	}
	return err
}

// Public reports whether a path below /zot/auth/ is for those who have not said who
// they are, or who say it in a way of their own.
func Public(path string) bool { return path != "/zot/auth/apikey" }

// Serve answers a request below /zot/auth/. a is who makes it, anonymous for the
// paths that are [Public]. authenticate finds out who asks for a token, anonymous
// if the request does not say.
func (s *Service) Serve(w http.ResponseWriter, r *http.Request, a registry.Actor, authenticate func(*http.Request) (registry.Actor, error)) error {
	w.Header().Set("Cache-Control", "no-store")
	path := r.URL.Path
	if s.Only() {
		if path != "/zot/auth/token" {
			return registry.ErrEndpointUnknown
		}
		return s.relay(w, r)
	}
	by := caller{a, authenticate}
	if e := endpoints[path]; e != nil {
		return e(s, w, r, by)
	}
	if name, ok := strings.CutPrefix(path, callbackPath); ok {
		return s.callback(w, r, name)
	}
	return registry.ErrEndpointUnknown
}

// callbackPath is followed by the name of a provider.
const callbackPath = "/zot/auth/callback/"

// caller is who makes a request, and who finds out who asks for a token.
type caller struct {
	actor        registry.Actor
	authenticate func(*http.Request) (registry.Actor, error)
}

// endpoint answers a request.
type endpoint func(s *Service, w http.ResponseWriter, r *http.Request, by caller) error

// endpoints are all paths but those below callbackPath.
var endpoints = map[string]endpoint{
	"/zot/auth/token": func(s *Service, w http.ResponseWriter, r *http.Request, by caller) error {
		return s.token(w, r, by.authenticate)
	},
	"/zot/auth/apikey": func(s *Service, w http.ResponseWriter, r *http.Request, by caller) error {
		return s.apiKeys(w, r, by.actor)
	},
	"/zot/auth/login":          plain((*Service).login),
	"/zot/auth/logout":         plain((*Service).logout),
	"/zot/auth/device":         plain((*Service).device),
	"/zot/auth/device/token":   plain((*Service).deviceToken),
	"/zot/auth/device/approve": plain((*Service).approve),
}

// plain is an endpoint that does not ask who makes the request.
func plain(answer func(*Service, http.ResponseWriter, *http.Request) error) endpoint {
	return func(s *Service, w http.ResponseWriter, r *http.Request, _ caller) error { return answer(s, w, r) }
}

// Paths returns the paths that [Service.Serve] answers; one that ends in a slash has the
// name of a provider behind it.
func Paths() []string {
	return append(slices.Sorted(maps.Keys(endpoints)), callbackPath)
}

// event logs what was done, and tells who wants to know. Nothing in it is secret.
func (s *Service) event(r *http.Request, kind, user, object string, err error) {
	if err != nil {
		s.log.WarnContext(r.Context(), "refused", "event", kind, "user", user, "object", object, "source", r.RemoteAddr, "error", err)
	} else {
		s.log.DebugContext(r.Context(), "done", "event", kind, "user", user, "object", object, "source", r.RemoteAddr)
	}
	if tell, ok := r.Context().Value(eventsKey{}).(func(Event)); ok {
		tell(Event{kind, user, object, err})
	}
}

// newID returns a random identity in the form of a UUID (RFC 9562, version 4), as
// zot's keys have them.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see crypto/rand
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
