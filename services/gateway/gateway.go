package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/tracing"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/gate"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// Deps are the services a gateway speaks for.
type Deps struct {
	Blobs   registry.Blobs
	Catalog registry.Catalog
	// Auth finds out on whose behalf a request is made. nil means that everybody is
	// anonymous. Not asked for health probes.
	Auth *auth.Chain
	// Methods are the ways to authenticate that the program has in it, for
	// [Configured].
	Methods auth.Parts
	// Identity answers the requests below /zot/auth/. nil means that there are no
	// such paths.
	Identity *identity.Service
	// Mirror fetches what is not here. nil: nobody does.
	Mirror registry.Mirror
	// Scans knows what is in images. nil: nobody does.
	Scans registry.Scans
	// REST answers the requests below /api/v1, and decides who may make them. nil
	// means that there are no such paths.
	REST http.Handler
	// NewREST makes REST, for [Configured]: what it says of pulls and signatures it asks
	// the gateway. nil: REST is used as it is.
	NewREST func(registry.Policy) (http.Handler, error)
	// Search answers GraphQL queries for images, see package search. nil means that there
	// is no such path.
	Search http.Handler
	// NewSearch makes Search if a config file asks for it, for [Configured]. nil: the
	// program has none in it.
	NewSearch NewSearch
	// Audit is where audit events are written, one line of JSON each, before the
	// answers they are about are sent. nil: only the catalog gets them.
	Audit io.Writer
	// Ready reports whether the process wants new requests; /readyz says so. nil
	// means that it always does.
	Ready func() bool
	// Metrics is where the gateway counts. nil: nobody wants to know.
	Metrics *metrics.Set
	// Traces begins the spans of requests. nil: there are none.
	Traces *tracing.Tracer
}

// Gateway answers HTTP requests. It may be used by many goroutines.
type Gateway struct {
	cfg       Config // as at the start
	settings  atomic.Pointer[settings]
	blobs     registry.Blobs
	catalog   registry.Catalog
	auth      atomic.Pointer[auth.Chain]
	mgmtAuth  atomic.Pointer[MgmtAuth] // nil: there is no authentication
	mandatory atomic.Pointer[[]string] // annotations of images; nil: none
	gate      atomic.Pointer[gate.Gate]
	mirror    registry.Mirror // nil if there is none
	coverage  coverage
	rest      http.Handler
	search    http.Handler                     // nil if there is none
	searches  bool                             // the program has search in it
	who       atomic.Pointer[identity.Service] // nil: there is none
	wanted    func() bool
	log       *slog.Logger
	keys      keyring
	manifests manifestCache
	large     chan struct{} // one for each large manifest that is pushed at the moment
	recent    recent
	table     [nResources]methods
	meters    *meters
	pins      pins
	clients   clients
	uploads   openUploads
	active    clients
	rates     rates
	conns     connections
	sample    sample // of log lines
	auditor   auditor
	strangers strangers
	guesses   strangers
	pulls     *pulls
	ids       *tracing.IDs
	tracer    *tracing.Tracer
}

// New returns a gateway for the services in d. It does not call them.
func New(cfg Config, d Deps, log *slog.Logger) (*Gateway, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if d.Blobs == nil || d.Catalog == nil {
		return nil, errors.New("gateway: Deps lacks Blobs or Catalog")
	}
	g := &Gateway{
		cfg:      cfg,
		blobs:    d.Blobs,
		catalog:  d.Catalog,
		rest:     d.REST,
		search:   d.Search,
		searches: d.Search != nil || d.NewSearch != nil,
		wanted:   d.Ready,
		log:      log.With("module", "http", "component", "session"),
		keys:     keyring{from: d.Catalog},
		table:    table(),
		large:    make(chan struct{}, largeManifests),
		ids:      tracing.NewIDs(),
		tracer:   d.Traces,
		mirror:   d.Mirror,
	}
	g.auth.Store(d.Auth)
	g.who.Store(d.Identity)
	if g.wanted == nil {
		g.wanted = func() bool { return true }
	}
	g.manifests.init(cfg.ManifestCache)
	g.recent = recent{fresh: cfg.Fresh, now: time.Now}
	g.recent.clear()
	g.meters = newMeters(d.Metrics, &g.manifests)
	g.pulls = newPulls(d.Catalog, d.Metrics, log)
	g.pins.init(daemon.MemoryLimit())
	g.clients.init(cfg.UploadsPerClient, "is sending", "http.uploadsPerClient")
	g.uploads.init(d.Catalog, cfg.OpenUploads, log)
	g.active.init(0, "has", "http.ratelimit.concurrent")
	g.rates.now = time.Now
	g.SetRates(cfg.Rates)
	g.strangers.init(strangersEach, strangersAll)
	g.guesses.init(guessesEach, guessesAll)
	g.auditor.init(d.Catalog, d.Audit, d.Metrics, log)
	g.sample.report = func(left int64) {
		g.log.Warn("more requests failed in a second than are logged", "logged", maxFailuresLogged, "left out", left)
	}
	g.conns.init(d.Metrics)
	g.SetConfig(cfg)
	return g, nil
}

// Close reports what was not reported yet, if it can in some seconds. The gateway
// must not be used any more.
func (g *Gateway) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), pullsEvery)
	defer cancel()
	g.pulls.close(ctx)
	g.uploads.close(ctx)
	g.auditor.close(ctx)
}

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	g.meters.inFlight.Add(1)
	defer g.meters.inFlight.Add(-1)
	if conn, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		g.conns.busy(conn)
	}
	now := g.settings.Load()
	x := &exchange{w: w, r: r, settings: now, idle: now.WriteIdle, pins: &g.pins}
	g.enter(x)
	err := g.handle(x)
	if err != nil && x.status == 0 {
		g.fail(x, err)
	}
	x.progress.end()
	took := time.Since(began)
	g.meters.done(x, took, err)
	g.record(x, took, err)
	g.audit(x, err)
	x.leave(err)
	if err != nil && x.status < 400 {
		// The header promised what did not come. Only a broken connection tells
		// the client so.
		panic(http.ErrAbortHandler)
	}
}

// handle finds the handler and calls it.
func (g *Gateway) handle(x *exchange) error {
	path := x.r.URL.EscapedPath()
	if len(path)+len(x.r.URL.RawQuery) > maxURL {
		return registry.ErrURLTooLong.With("URL is longer than %d bytes", maxURL)
	}
	var pathErr error
	x.route, pathErr = parsePath(path)
	if to := x.settings.Metrics; to != "" && x.r.URL.Path == to && (x.resource == noResource || x.resource == restAPI || x.resource == identityPath) {
		x.resource, pathErr = metricsPage, nil // the operator's word, wherever it is
	}
	if x.resource == restAPI {
		if g.rest != nil {
			var err error
			if x.actor, err = g.authenticate(x); err != nil {
				return err
			}
			leave, err := g.takePlace(x)
			if err != nil {
				return err
			}
			defer leave()
			return g.passOn(x)
		}
		x.resource, pathErr = noResource, registry.ErrEndpointUnknown
	}
	if x.resource == identityPath {
		if g.who.Load() != nil {
			return g.identify(x)
		}
		x.resource, pathErr = noResource, registry.ErrEndpointUnknown
	}
	g.common(x)
	if x.resource == noResource {
		return pathErr
	}
	ms := &g.table[x.resource]
	if x.r.Method == http.MethodOptions {
		return g.options(x, ms)
	}
	h := ms.handler(x.r.Method)
	if h == nil {
		x.set("Allow", ms.allow)
		return registry.ErrUnsupported.With("method not allowed here; allowed: %s", ms.allow)
	}
	if x.resource < metricsPage {
		return h(g, x)
	}
	if err := fromElsewhere(x); err != nil {
		return err
	}
	var err error
	if x.actor, err = g.authenticate(x); err != nil {
		return err
	}
	if pathErr != nil {
		return pathErr
	}
	if x.r.URL.RawQuery != "" {
		if x.params(""); x.queryErr != nil {
			return registry.ErrPageInvalid.With("the query has a malformed escape")
		}
		if err := g.proxied(x); err != nil {
			return err
		}
	}
	leave, err := g.takePlace(x)
	if err != nil {
		return err
	}
	defer leave()
	if err := g.narrow(x); err != nil {
		return err
	}
	if who := g.who.Load(); x.resource == apiBase && who != nil && !who.Only() && x.header("X-Zot-Api-Client") == "zot-ui" {
		if err := who.Login(x.w, x.r, x.actor); err != nil {
			return err
		}
	}
	return h(g, x)
}

// takePlace counts a request among those of its client, and among those with a body if
// it has one to read; leave is due.
func (g *Gateway) takePlace(x *exchange) (leave func(), err error) {
	at := func() {}
	if g.active.most.Load() > 0 {
		if at, err = g.active.enter(clientOf(x.actor, x.r.RemoteAddr)); err != nil {
			return nil, err
		}
	}
	if x.r.ContentLength == 0 || x.reading() {
		return at, nil
	}
	sending, err := g.clients.enter(clientOf(x.actor, x.r.RemoteAddr))
	if err != nil {
		at()
		return nil, err
	}
	return func() { sending(); at() }, nil
}

// common sets the headers that all answers have.
func (g *Gateway) common(x *exchange) {
	if strings.HasPrefix(x.r.URL.Path, "/v2") {
		x.set("Docker-Distribution-Api-Version", "registry/2.0")
	}
	x.set("X-Content-Type-Options", "nosniff")
	x.set(requestID, x.ctx.ID)
	if !g.wanted() {
		// Who keeps the connection would send its next request to a closed port.
		x.set("Connection", "close")
	}
	if x.resource >= apiBase {
		x.set("Vary", x.settings.vary)
		if x.resource != manifest && x.resource != blob {
			x.set("Cache-Control", unkept)
		}
	}
	if origin := x.header("Origin"); origin != "" && (x.reading() || x.r.Method == http.MethodOptions || x.resource == searchAPI || x.resource == userPrefs) {
		g.allowOrigin(x, origin)
	}
}

// finish returns a context for the last step of a change whose bytes are safe
// already: a client that leaves now would only make us do it twice.
func finish(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
}

// doing wraps an error with what was being done, for the log.
func doing(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
