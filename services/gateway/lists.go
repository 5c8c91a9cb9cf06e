package gateway

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// tags answers GET /v2/<name>/tags/list.
func (g *Gateway) tags(x *exchange) error {
	p, err := x.paging()
	if err != nil {
		return err
	}
	list := func(ctx context.Context, p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
		l, err := g.catalog.Tags(ctx, x.actor, x.repo, p)
		return l, doing("listing tags", err)
	}
	return names(x, "/v2/"+string(x.repo)+"/tags/list", `{"name":"`+string(x.repo)+`","tags":[`, p, list)
}

// repositories answers GET /v2/_catalog.
func (g *Gateway) repositories(x *exchange) error {
	p, err := x.paging()
	if err != nil {
		return err
	}
	list := func(ctx context.Context, p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
		l, err := g.catalog.Repositories(ctx, x.actor, p)
		return l, doing("listing repositories", err)
	}
	return names(x, "/v2/_catalog", `{"repositories":[`, p, list)
}
