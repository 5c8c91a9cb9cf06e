package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

func (c *catalog) Allowed(ctx context.Context, a registry.Actor, repo registry.Name, want registry.Actions) (registry.Actions, error) {
	actor, err := actorToWire(a)
	if err != nil {
		return registry.NoActions, err
	}
	resp, err := read(ctx, c, c.access.CheckAccess, &metadatav1.CheckAccessRequest{Actor: actor, Repository: text(string(repo)), Actions: want.Names()})
	return actionsFromWire(resp.GetActions()) & want, err
}

// accessServer serves the part of registry.Catalog that AccessService has.
type accessServer struct {
	metadatav1.UnimplementedAccessServiceServer
	catalog registry.Catalog
}

func (s *accessServer) CheckAccess(ctx context.Context, req *metadatav1.CheckAccessRequest) (*metadatav1.CheckAccessResponse, error) {
	repo := registry.Name(req.GetRepository())
	if repo != "" {
		var err error
		if repo, err = registry.ParseName(req.GetRepository()); err != nil {
			return nil, err
		}
	}
	got, err := s.catalog.Allowed(ctx, actorOf(ctx, req.GetActor()), repo, actionsFromWire(req.GetActions()))
	if err != nil {
		return nil, err
	}
	return &metadatav1.CheckAccessResponse{Actions: got.Names()}, nil
}
