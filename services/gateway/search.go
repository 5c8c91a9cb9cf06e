package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/berth-registry/berth/registry"
)

// searchFor answers GET and POST /v2/_zot/ext/search.
func (g *Gateway) searchFor(x *exchange) error {
	if g.search == nil {
		return registry.ErrEndpointUnknown.With("there is no search here: the config file has no extensions.search")
	}
	w := &restWriter{x: x}
	g.search.ServeHTTP(w, x.handOver(registry.WithActor(x.context(), x.actor)))
	return w.err
}

// prefer answers PUT /v2/_zot/ext/userprefs?action=toggleStar&repo=<name>.
func (g *Gateway) prefer(x *exchange) error {
	p := x.r.URL.Query()
	var preference registry.Preference
	switch action := p.Get("action"); action {
	case "toggleStar":
		preference = registry.Starred
	case "toggleBookmark":
		preference = registry.Bookmarked
	default:
		return registry.ErrParameterInvalid.With("action is %.40q: want toggleStar or toggleBookmark", action)
	}
	repo, err := registry.ParseName(p.Get("repo"))
	if err != nil {
		return err
	}
	if _, err := g.catalog.TogglePreference(x.context(), x.actor, repo, preference); err != nil {
		return doing("noting a preference", err)
	}
	x.start(http.StatusOK)
	return nil
}

// NewSearch makes what answers GraphQL queries. scans may be nil; closed says that users
// are known by name, and signatures who signed a manifest. It is a function of plain
// types so that a program without search has nothing of it.
type NewSearch = func(catalog registry.Catalog, scans registry.Scans, closed func() bool, signatures SignaturesOf, log *slog.Logger) (http.Handler, error)

// SignaturesOf tells of the signatures of a manifest that an actor may read.
type SignaturesOf = func(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]registry.Signature, error)

// newSearch returns the handler of queries that the config file asks for.
func newSearch(d Deps, closed func() bool, signatures SignaturesOf, log *slog.Logger) (http.Handler, error) {
	if d.NewSearch == nil {
		return nil, errors.New("extensions.search: this program can't search; berth and berth-gateway can")
	}
	return d.NewSearch(d.Catalog, d.Scans, closed, signatures, log.With("module", "search"))
}
