package rest

import (
	"context"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

func (s *server) ListReadOnly(ctx context.Context, _ *apiv1.ListReadOnlyRequest) (*apiv1.ListReadOnlyResponse, error) {
	all, err := s.catalog.ReadOnlys(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListReadOnlyResponse)
	for _, r := range all {
		resp.ReadOnly = append(resp.ReadOnly, &apiv1.ReadOnly{Repositories: r.Repositories, Reason: r.Reason, Actor: r.Actor, Since: timestamp(r.Since)})
	}
	return resp, nil
}

func (s *server) SetReadOnly(ctx context.Context, req *apiv1.SetReadOnlyRequest) (*apiv1.SetReadOnlyResponse, error) {
	if err := s.catalog.SetReadOnly(ctx, actor(ctx), registry.ReadOnly{Repositories: req.GetRepositories(), Reason: req.GetReason()}); err != nil {
		return nil, err
	}
	return &apiv1.SetReadOnlyResponse{}, nil
}

func (s *server) ClearReadOnly(ctx context.Context, req *apiv1.ClearReadOnlyRequest) (*apiv1.ClearReadOnlyResponse, error) {
	if err := s.catalog.ClearReadOnly(ctx, actor(ctx), req.GetRepositories()); err != nil {
		return nil, err
	}
	return &apiv1.ClearReadOnlyResponse{}, nil
}

func (s *server) GetUsage(ctx context.Context, req *apiv1.GetUsageRequest) (*apiv1.GetUsageResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	u, err := s.catalog.Usage(ctx, actor(ctx), repo)
	if err != nil {
		return nil, err
	}
	return &apiv1.GetUsageResponse{Manifests: u.Manifests, Blobs: u.Blobs, Logical: u.Logical, Unique: u.Unique, Shared: u.Shared()}, nil
}
