package gateway

import (
	"net/http"
	"strconv"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// SetAuth has requests that begin from now on authenticated by c, nil: by nobody.
// It returns what did so before, for requests in progress still.
func (g *Gateway) SetAuth(c *auth.Chain) (old *auth.Chain) { return g.auth.Swap(c) }

// authenticate returns on whose behalf the request is made.
func (g *Gateway) authenticate(x *exchange) (registry.Actor, error) {
	return g.auth.Load().Authenticate(x.r, g.wants(x))
}

// challenge returns the WWW-Authenticate of the answer, "" if there is none. If
// there is no authentication only a catalog of its own mind refuses the anonymous.
func (g *Gateway) challenge(x *exchange) string {
	c := g.auth.Load()
	if c.Open() {
		return "Basic realm=" + strconv.Quote(g.cfg.Realm)
	}
	return c.Challenge(x.r, g.wants(x))
}

// wants returns what the request needs rights for.
func (g *Gateway) wants(x *exchange) auth.Wants {
	w := auth.Wants{
		Repo: x.repo,
		Base: x.resource == apiBase,
		Open: x.resource == mgmt || x.resource == metricsPage && g.cfg.OpenMetrics,
	}
	switch {
	case x.resource == catalog:
		w.Actions = []string{"*"}
	case x.repo == "":
	case x.reading() && x.resource != upload:
		w.Actions = []string{"pull"}
	case x.r.Method == http.MethodDelete && x.resource != upload:
		w.Actions = []string{"delete"}
	default:
		w.Actions = []string{"pull", "push"}
	}
	return w
}
