package gateway

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// askedBy returns a chain that believes what f says of a request.
func askedBy(f func(*http.Request) (registry.Actor, error)) *auth.Chain {
	return auth.New(auth.Options{
		Closed:    true,
		Anonymous: func() bool { return true },
		Methods:   auth.Methods{Session: []auth.Method{believer(f)}},
	})
}

type believer func(*http.Request) (registry.Actor, error)

func (believer) Name() string { return "test" }

func (f believer) Authenticate(_ context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	a, err := f(q.HTTP)
	return a, auth.Accepted, err
}

// listener is a catalog that notes on whose behalf it was asked last.
type listener struct {
	registry.Catalog
	by registry.Actor
}

func (c *listener) Tags(_ context.Context, a registry.Actor, _ registry.Name, _ registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	c.by = a
	return registry.List[registry.Tag]{}, nil
}

// S-151: a request that begins while the configuration changes goes by the old one:
// whether there are access rules, and whether anybody is authenticated at all.
func TestS151RequestsGoByOneConfiguration(t *testing.T) {
	w := newWorld()
	catalog := &listener{Catalog: w.deps.Catalog}
	w.deps.Catalog = catalog
	var known bool
	w.deps.REST = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, known = registry.ActorFrom(r.Context()) })
	var g *Gateway
	ruled := auth.New(auth.Options{
		Closed: true, Ruled: true, Anonymous: func() bool { return true },
		Methods: auth.Methods{Session: []auth.Method{believer(func(*http.Request) (registry.Actor, error) {
			g.SetAuth(auth.New(auth.Options{})) // no rules, and nobody is asked
			return registry.Actor{ID: "alice"}, nil
		})}},
	})
	g = w.gateway(t)
	for _, test := range []struct {
		path        string
		ruled, rest bool
	}{{"/v2/a/tags/list", true, false}, {"/api/v1/x", false, true}} {
		g.SetAuth(ruled)
		catalog.by, known = registry.Actor{}, false
		g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", test.path, nil))
		if catalog.by.Ruled != test.ruled || known != test.rest {
			t.Errorf("%s: ruled %v, the REST API knows the actor: %v", test.path, catalog.by.Ruled, known)
		}
		catalog.by = registry.Actor{}
		g.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/a/tags/list", nil))
		if catalog.by.Ruled || catalog.by.ID != "" {
			t.Errorf("the next request is made by %+v", catalog.by)
		}
	}
}
