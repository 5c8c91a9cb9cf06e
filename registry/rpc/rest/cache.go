package rest

import (
	"context"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
	"github.com/berth-registry/berth/registry"
)

func (s *server) GetCache(ctx context.Context, _ *apiv1.GetCacheRequest) (*apiv1.GetCacheResponse, error) {
	all, err := s.catalog.CacheUsage(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	resp := &apiv1.GetCacheResponse{Pools: make([]*apiv1.CacheUsage, len(all))}
	for i, u := range all {
		resp.Pools[i] = &apiv1.CacheUsage{Pool: string(u.Pool), Bytes: u.Bytes, Manifests: u.Manifests, Evicted: u.Evicted, EvictedBytes: u.EvictedBytes}
		if u.Limit > 0 {
			resp.Pools[i].Limit = &all[i].Limit
		}
	}
	return resp, nil
}

func (s *server) ListCached(ctx context.Context, req *apiv1.ListCachedRequest) (*apiv1.ListCachedResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	p, err := page[registry.Digest](req.Limit, req.GetAfter())
	if err == nil && p.After != "" {
		p.After, err = registry.ParseDigest(req.GetAfter())
	}
	if err != nil {
		return nil, err
	}
	list, err := s.catalog.CachedManifests(ctx, actor(ctx), repo, p)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListCachedResponse{Items: make([]*apiv1.CachedManifest, len(list.Items))}
	for i, m := range list.Items {
		resp.Items[i] = &apiv1.CachedManifest{
			Digest: m.Digest.String(), Size: m.Size, Upstream: m.Upstream, Fetched: timestamp(m.Fetched), Used: timestamp(m.Used), Pinned: m.Pinned,
		}
		for _, t := range m.Tags {
			resp.Items[i].Tags = append(resp.Items[i].Tags, string(t))
		}
		if list.More {
			resp.Next = m.Digest.String()
		}
	}
	return resp, nil
}

func (s *server) EvictCached(ctx context.Context, req *apiv1.EvictCachedRequest) (*apiv1.EvictCachedResponse, error) {
	repo, ref, err := repoAndReference(req.GetRepository(), req.GetReference())
	if err != nil {
		return nil, err
	}
	done, err := s.catalog.EvictCached(ctx, actor(ctx), repo, ref)
	if err != nil {
		return nil, err
	}
	return &apiv1.EvictCachedResponse{Manifests: done.Manifests, Blobs: done.Blobs, Bytes: done.Bytes, More: done.More}, nil
}

func (s *server) ListPins(ctx context.Context, _ *apiv1.ListPinsRequest) (*apiv1.ListPinsResponse, error) {
	all, err := s.catalog.Pins(ctx, actor(ctx))
	if err != nil {
		return nil, err
	}
	resp := new(apiv1.ListPinsResponse)
	for _, p := range all {
		resp.Pins = append(resp.Pins, &apiv1.Pin{Pattern: p.Pattern, Reason: p.Reason, Actor: p.Actor, Since: timestamp(p.Since)})
	}
	return resp, nil
}

func (s *server) SetPin(ctx context.Context, req *apiv1.SetPinRequest) (*apiv1.SetPinResponse, error) {
	if err := s.catalog.SetPin(ctx, actor(ctx), registry.Pin{Pattern: req.GetPattern(), Reason: req.GetReason()}); err != nil {
		return nil, err
	}
	return &apiv1.SetPinResponse{}, nil
}

func (s *server) ClearPin(ctx context.Context, req *apiv1.ClearPinRequest) (*apiv1.ClearPinResponse, error) {
	if err := s.catalog.ClearPin(ctx, actor(ctx), req.GetPattern()); err != nil {
		return nil, err
	}
	return &apiv1.ClearPinResponse{}, nil
}
