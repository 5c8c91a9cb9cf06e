package gateway

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// SetAuth has requests that begin from now on authenticated by c, nil: by nobody.
// It returns what did so before, for requests in progress still.
func (g *Gateway) SetAuth(c *auth.Chain) (old *auth.Chain) { return g.auth.Swap(c) }

// authenticate returns on whose behalf the request is made.
func (g *Gateway) authenticate(x *exchange) (registry.Actor, error) {
	// All by one configuration: between two, an anonymous client that the one lets in
	// would meet the rights of the other.
	c := g.auth.Load()
	a, err := c.Authenticate(x.r, g.wants(x))
	x.asks, x.known = asks(x.r), !c.Open()
	a.Request, a.Ruled = &x.asks, c.Ruled()
	if limited := g.limited(x, a); limited != nil { // also of those who guess
		return a, limited
	}
	// An anonymous token is good, but not for what needs a name. Told so, docker gives
	// up at once instead of trying again for a minute (RFC 6750, section 3.1).
	x.narrow = a.Scope != nil && errors.Is(err, registry.ErrUnauthorized)
	return a, err
}

// narrow returns [registry.ErrUnauthorized] if the token that came with the request
// is not good for what it wants: the client may get another one. What its owner may
// do the Catalog decides.
func (g *Gateway) narrow(x *exchange) error {
	if x.actor.Scope == nil || !bearerHeader(x.r) || covers(x.actor.Scope, g.wants(x)) {
		return nil
	}
	x.narrow = true
	return registry.ErrUnauthorized.With("the token is not good for this")
}

func bearerHeader(r *http.Request) bool {
	h := r.Header.Get("Authorization")
	return len(h) > 7 && strings.EqualFold(h[:7], "bearer ")
}

// covers reports whether a token is good for a request.
func covers(scope []registry.Grant, w auth.Wants) bool {
	for _, action := range w.Actions {
		name, rights := string(w.Repo), registry.ActRead
		switch action {
		case "pull":
			if slices.Contains(w.Actions, "push") {
				continue // asked for beside it, but not needed
			}
		case "*":
			// Of all names, or of some; not what comes with the right to read them.
			if !slices.ContainsFunc(scope, func(g registry.Grant) bool { return g.Actions == registry.ActList }) {
				return false
			}
			continue
		case "push":
			rights = registry.ActCreate | registry.ActUpdate
		case "delete":
			rights = registry.ActDelete
		}
		if !slices.ContainsFunc(scope, func(g registry.Grant) bool { return g.Repositories == name && g.Actions&rights != 0 }) {
			return false
		}
	}
	return true
}

// challenge returns the WWW-Authenticate of the answer, "" if there is none. If
// there is no authentication only a catalog of its own mind refuses the anonymous.
func (g *Gateway) challenge(x *exchange) string {
	c := g.auth.Load()
	if x.resource == identityPath {
		if x.r.URL.Path == "/zot/auth/token" || x.r.URL.Path == "/zot/auth/apikey" && x.header("X-Zot-Api-Client") == "" {
			return "Basic realm=" + strconv.Quote(x.settings.Realm)
		}
		return ""
	}
	if c.Open() {
		return "Basic realm=" + strconv.Quote(x.settings.Realm)
	}
	return c.Challenge(x.r, g.wants(x))
}

// What requests need rights for. Shared: never changed.
var (
	wantsList   = []string{"*"}
	wantsPull   = []string{"pull"}
	wantsPush   = []string{"pull", "push"}
	wantsDelete = []string{"delete"}
)

// wants returns what the request needs rights for.
func (g *Gateway) wants(x *exchange) auth.Wants {
	w := auth.Wants{
		Repo:   x.repo,
		Base:   x.resource == apiBase,
		Narrow: x.narrow,
		Search: x.resource == searchAPI,
		Open:   x.resource == mgmt || x.resource == metricsPage && g.auth.Load().OpenMetrics(),
	}
	switch {
	case x.resource == catalog || x.resource == searchAPI:
		w.Actions = wantsList
	case x.repo == "":
	case x.reading() && x.resource != upload:
		w.Actions = wantsPull
	case x.r.Method == http.MethodDelete && x.resource != upload:
		w.Actions = wantsDelete
	default:
		w.Actions = wantsPush
	}
	return w
}
