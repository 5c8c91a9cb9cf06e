package gateway

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// follow has the gateway apply what changes in its configuration while it runs. A
// request is limited, and authenticated, by one configuration.
func (g *Gateway) follow(d Deps, p daemon.Process) {
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { g.SetRates(ratesOf(next.HTTP)) }, nil
	}, "http.ratelimit")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { g.SetConfig(configOf(next, p.Version)) }, nil
	}, settingsKeys...)
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { g.SetLint(lintOf(next)) }, nil
	}, "extensions.lint")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		ga, err := gateOf(next, d)
		if err != nil {
			return nil, err
		}
		return func() { g.SetGate(ga) }, nil
	}, "extensions.trust", "extensions.gates")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { g.clients.limit(next.HTTP.UploadsPerClient) }, nil
	}, "http.uploadsPerClient")
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { g.uploads.setLimit(next.HTTP.OpenUploads) }, nil
	}, "http.openUploads")

	var ready *admission // opened and not in use: another part refused the file
	p.Live.Subscribe(func(ctx context.Context, next *config.Config) (func(), error) {
		ready.close(g.who.Load()) // it has only read
		ready = nil
		a, err := g.newAdmission(context.WithoutCancel(ctx), next, d, p)
		if err != nil {
			return nil, err
		}
		ready = a
		return func() {
			ready = nil
			old := &admission{g.SetAuth(a.chain), g.who.Swap(a.who)}
			g.mgmtAuth.Store(mgmtAuth(next.HTTP.Auth))
			if a.chain.Open() && !old.chain.Open() {
				p.Log.Warn("anyone who reaches this address may come in: no authentication is configured any more")
			}
			// Requests that have begun may be asking it still.
			time.AfterFunc(authDrain, func() { old.close(g.who.Load()) })
		}, nil
	}, "http.auth", "http.accessControl", "http.realm", "http.externalUrl", "outbound")
	// Who may do what is another matter from now on.
	for _, object := range []string{"http.accessControl", "http.auth"} {
		p.Live.Subscribe(func(context.Context, *config.Config) (func(), error) {
			return func() {
				at := time.Now().UnixMicro()
				g.auditor.record(registry.AuditEvent{ID: registry.NewAuditID(at), At: at, Action: "policy.reload", Object: object, Result: "ok"}, nil)
			}, nil
		}, object)
	}
}

// settingsKeys are the keys of [Gateway.SetConfig].
var settingsKeys = []string{
	"http.realm", "http.externalUrl", "http.compat", "http.allowOrigin", "http.readTimeout", "http.writeTimeout", "http.connections", "extensions.metrics",
	"storage.redirectBlobURL", "storage.subPaths.*.redirectBlobURL", "storage.redirect",
}

// identityKeys are the keys that the identity service goes by: whatever else
// changes, logins that have begun and what is known of credentials stay.
var identityKeys = []string{"http.auth.bearer", "http.auth.openid", "http.auth.apikey", "http.auth.secureSession", "http.auth.sessionKeysFile", "http.auth.token", "http.externalUrl", "outbound"}

// admission is how users are found out, by one configuration.
type admission struct {
	chain *auth.Chain
	who   *identity.Service // nil: there is none
}

// newAdmission opens what a new configuration asks for. The identity service stays the
// same one unless its keys have changed; one that is not there may be needed now, because
// of any method.
func (g *Gateway) newAdmission(ctx context.Context, next *config.Config, d Deps, p daemon.Process) (a *admission, err error) {
	a = &admission{who: g.who.Load()}
	if a.who == nil || slices.ContainsFunc(config.Changed(p.Live.Current(), next), touchesIdentity) {
		if a.who, err = identity.Configured(next, d.Catalog, p); err != nil {
			return nil, err
		}
	}
	methods := d.Methods
	methods.Identity = methodsOf(a.who, next.HTTP)
	if a.chain, err = auth.Configured(ctx, next, methods, p); err != nil {
		a.close(g.who.Load())
		return nil, err
	}
	return a, nil
}

// touchesIdentity reports whether a change of a key is one of what stands in
// identityKeys, or above it.
func touchesIdentity(changed string) bool {
	return slices.ContainsFunc(identityKeys, func(key string) bool {
		return changed == key || strings.HasPrefix(changed, key+".") || strings.HasPrefix(key, changed+".")
	})
}

// close closes all but what is in use. It may be called on nil.
func (a *admission) close(inUse *identity.Service) {
	if a == nil {
		return
	}
	_ = a.chain.Close() // it has only read
	if a.who != nil && a.who != inUse {
		_ = a.who.Close()
	}
}

// authDrain is for how long a chain of methods stays open that is not asked any more.
const authDrain = time.Minute

// connectionsOf returns what a config file says.
func connectionsOf(h config.HTTP) (all, perAddress int) {
	if c := h.Connections; c != nil {
		all, perAddress = c.Max, c.PerAddress
	}
	if all == 0 {
		all = defaultConnections()
	}
	return max(all, 0), perAddress
}
