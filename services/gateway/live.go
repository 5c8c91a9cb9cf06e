package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// follow has the gateway apply what changes in its configuration while it runs. A
// request is limited, and authenticated, by one configuration.
func (g *Gateway) follow(d Deps, p daemon.Process) {
	p.Live.Subscribe(func(_ context.Context, next *config.Config) (func(), error) {
		return func() { g.SetRates(ratesOf(next.HTTP)) }, nil
	}, "http.ratelimit")
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

	var ready *auth.Chain // opened and not in use: another part refused the file
	p.Live.Subscribe(func(ctx context.Context, next *config.Config) (func(), error) {
		_ = ready.Close() // it has only read
		ready = nil
		chain, err := auth.Configured(context.WithoutCancel(ctx), next, d.Methods, p)
		if err != nil {
			return nil, err
		}
		ready = chain
		return func() {
			ready = nil
			old := g.SetAuth(chain)
			g.mgmtAuth.Store(mgmtAuth(next.HTTP.Auth))
			if chain.Open() && !old.Open() {
				p.Log.Warn("anyone who reaches this address may come in: no authentication is configured any more")
			}
			// Requests that have begun may be asking it still.
			time.AfterFunc(authDrain, func() { _ = old.Close() })
		}, nil
	}, append(slices.Clone(authKeys), "http.accessControl", "http.realm")...)
	// Who may do what is another matter from now on.
	for object, keys := range map[string][]string{"http.accessControl": {"http.accessControl"}, "http.auth": authKeys} {
		p.Live.Subscribe(func(context.Context, *config.Config) (func(), error) {
			return func() {
				at := time.Now().UnixMicro()
				g.auditor.record(registry.AuditEvent{ID: registry.NewAuditID(at), At: at, Action: "policy.reload", Object: object, Result: "ok"}, nil)
			}, nil
		}, keys...)
	}
}

// authKeys are the keys of authentication that take effect while the program runs.
var authKeys = []string{"http.auth.failDelay", "http.auth.htpasswd", "http.auth.ldap", "http.auth.bearer", "http.auth.mtls"}

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
