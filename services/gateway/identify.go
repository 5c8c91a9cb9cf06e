package gateway

import (
	"net/http"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// auditIdentity records what was done with credentials.
func (g *Gateway) auditIdentity(x *exchange, now time.Time) {
	for _, e := range x.events {
		switch {
		case e.Err == nil && e.User != "":
		case e.Kind == "login.failed":
			if !g.recorded(&g.guesses, x, now) {
				continue
			}
		case e.User == "" || e.Kind == "token.relay": // who fails there only says who they are
			if !g.recorded(&g.strangers, x, now) {
				continue
			}
		}
		result := "ok"
		if e.Err != nil {
			result = registry.AsError(e.Err).Code.OCI()
		}
		g.auditor.record(x.event(now, e.User, e.Kind, e.Object, result), x)
	}
}

// identify lets the identity service answer. Scripts of other sites can't read it.
func (g *Gateway) identify(x *exchange) error {
	x.set("X-Content-Type-Options", "nosniff")
	x.set(requestID, x.ctx.ID)
	chain, who := g.auth.Load(), g.who.Load()
	if who == nil { // it has just gone
		return registry.ErrEndpointUnknown
	}
	// By address: who it is turns out later, or never.
	err := g.limited(x, registry.Actor{})
	if err != nil {
		return err
	}
	if !identity.Public(x.r.URL.Path) {
		if x.actor, err = chain.Authenticate(x.r, auth.Wants{}); err != nil {
			return err
		}
	}
	leave, err := g.takePlace(x)
	if err != nil {
		return err
	}
	defer leave()
	w := &restWriter{x: x}
	ctx := identity.WithEvents(x.context(), func(e identity.Event) { x.events = append(x.events, e) })
	err = who.Serve(w, x.handOver(ctx), x.actor, func(r *http.Request) (registry.Actor, error) {
		return chain.Authenticate(r, auth.Wants{Open: true})
	})
	if err == nil {
		err = w.err
	}
	return x.body.cause(err)
}
