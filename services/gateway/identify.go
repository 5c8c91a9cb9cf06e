package gateway

import (
	"net/http"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// identify lets the identity service answer. Scripts of other sites can't read it.
func (g *Gateway) identify(x *exchange) error {
	x.set("X-Content-Type-Options", "nosniff")
	x.set(requestID, x.ctx.ID)
	chain := g.auth.Load()
	var err error
	if !identity.Public(x.r.URL.Path) {
		if x.actor, err = chain.Authenticate(x.r, auth.Wants{}); err != nil {
			return err
		}
	}
	w := &restWriter{x: x}
	err = g.identity.Serve(w, x.r.WithContext(x.context()), x.actor, func(r *http.Request) (registry.Actor, error) {
		return chain.Authenticate(r, auth.Wants{Open: true})
	})
	if err == nil {
		err = w.err
	}
	return err
}
