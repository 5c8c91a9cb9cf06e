package rpc

import (
	"context"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// cacheServer serves registry.Cache.
type cacheServer struct {
	metadatav1.UnimplementedCacheServiceServer
	catalog registry.Cache
}

func (s *cacheServer) PutCached(ctx context.Context, req *metadatav1.PutCachedRequest) (*metadatav1.PutCachedResponse, error) {
	repo, m, err := putFromWire(req.GetPut())
	if err != nil {
		return nil, err
	}
	info, err := s.catalog.PutCached(ctx, actorOf(ctx, req.GetPut().GetActor()), repo, m, originFromWire(req.GetOrigin()))
	if err != nil {
		return nil, err
	}
	return &metadatav1.PutCachedResponse{Put: infoToWire(info)}, nil
}

func (s *cacheServer) LinkCached(ctx context.Context, req *metadatav1.LinkCachedRequest) (*metadatav1.LinkCachedResponse, error) {
	repo, err := registry.ParseName(req.GetLink().GetRepository())
	if err != nil {
		return nil, err
	}
	stored, err := parseStored(req.GetLink().GetStored())
	if err != nil {
		return nil, err
	}
	used, err := s.catalog.LinkCached(ctx, actorOf(ctx, req.GetLink().GetActor()), repo, stored)
	if err != nil {
		return nil, err
	}
	return &metadatav1.LinkCachedResponse{Link: &metadatav1.LinkBlobResponse{Stored: storedToWire(used)}}, nil
}

func (s *cacheServer) UntagCached(ctx context.Context, req *metadatav1.UntagCachedRequest) (*metadatav1.UntagCachedResponse, error) {
	repo, d, err := namedContent(req.GetRepository(), req.GetDigest())
	if err != nil {
		return nil, err
	}
	t, err := registry.ParseTag(req.GetTag())
	if err != nil {
		return nil, err
	}
	if err := s.catalog.UntagCached(ctx, actorOf(ctx, req.GetActor()), repo, t, d); err != nil {
		return nil, err
	}
	return &metadatav1.UntagCachedResponse{}, nil
}

func (s *cacheServer) GetCacheUsage(ctx context.Context, req *metadatav1.GetCacheUsageRequest) (*metadatav1.GetCacheUsageResponse, error) {
	all, err := s.catalog.CacheUsage(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.GetCacheUsageResponse{Pools: make([]*metadatav1.CacheUsage, len(all))}
	for i, u := range all {
		resp.Pools[i] = &metadatav1.CacheUsage{
			Pool: text(string(u.Pool)), Bytes: u.Bytes, Manifests: u.Manifests, Limit: u.Limit, Evicted: u.Evicted, EvictedBytes: u.EvictedBytes,
		}
	}
	return resp, nil
}

func (s *cacheServer) ListCached(ctx context.Context, req *metadatav1.ListCachedRequest) (*metadatav1.ListCachedResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	p := pageFromWire[registry.Digest](req.GetPage())
	if p.After, err = parseOptionalDigest(p.After.String()); err != nil {
		return nil, err
	}
	list, err := s.catalog.CachedManifests(ctx, actorOf(ctx, req.GetActor()), repo, p)
	if err != nil {
		return nil, err
	}
	all, more := fitted(list, func(m registry.CachedManifest) *metadatav1.CachedManifest {
		return &metadatav1.CachedManifest{
			Digest: text(m.Digest.String()), Tags: toStrings(m.Tags), Size: m.Size, Origin: originToWire(m.Origin),
			FetchedUs: m.Fetched, UsedUs: m.Used, Pinned: text(m.Pinned),
		}
	})
	return &metadatav1.ListCachedResponse{Items: all, More: more}, nil
}

func (s *cacheServer) GetPushedTo(ctx context.Context, req *metadatav1.GetPushedToRequest) (*metadatav1.GetPushedToResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	pushed, err := s.catalog.PushedTo(ctx, actorOf(ctx, req.GetActor()), repo)
	if err != nil {
		return nil, err
	}
	return &metadatav1.GetPushedToResponse{Pushed: pushed}, nil
}

func (s *cacheServer) EvictCached(ctx context.Context, req *metadatav1.EvictCachedRequest) (*metadatav1.EvictCachedResponse, error) {
	repo, err := registry.ParseName(req.GetRepository())
	if err != nil {
		return nil, err
	}
	var ref registry.Reference
	if r := req.GetReference(); r != nil {
		if ref, err = parseReference(r); err != nil {
			return nil, err
		}
	}
	done, err := s.catalog.EvictCached(ctx, actorOf(ctx, req.GetActor()), repo, ref)
	if err != nil {
		return nil, err
	}
	return &metadatav1.EvictCachedResponse{Manifests: done.Manifests, Blobs: done.Blobs, Bytes: done.Bytes, More: done.More}, nil
}

func (s *cacheServer) ListPins(ctx context.Context, req *metadatav1.ListPinsRequest) (*metadatav1.ListPinsResponse, error) {
	all, err := s.catalog.Pins(ctx, actorOf(ctx, req.GetActor()))
	if err != nil {
		return nil, err
	}
	resp := &metadatav1.ListPinsResponse{Pins: make([]*metadatav1.Pin, len(all))}
	for i, p := range all {
		resp.Pins[i] = &metadatav1.Pin{Pattern: text(p.Pattern), Reason: text(p.Reason), ActorId: text(p.Actor), SinceUs: p.Since}
	}
	return resp, nil
}

func (s *cacheServer) SetPin(ctx context.Context, req *metadatav1.SetPinRequest) (*metadatav1.SetPinResponse, error) {
	p := registry.Pin{Pattern: req.GetPattern(), Reason: req.GetReason()}
	if err := s.catalog.SetPin(ctx, actorOf(ctx, req.GetActor()), p); err != nil {
		return nil, err
	}
	return &metadatav1.SetPinResponse{}, nil
}

func (s *cacheServer) ClearPin(ctx context.Context, req *metadatav1.ClearPinRequest) (*metadatav1.ClearPinResponse, error) {
	if err := s.catalog.ClearPin(ctx, actorOf(ctx, req.GetActor()), req.GetPattern()); err != nil {
		return nil, err
	}
	return &metadatav1.ClearPinResponse{}, nil
}

func originToWire(o registry.Origin) *metadatav1.Origin {
	return &metadatav1.Origin{Upstream: text(o.Upstream), CostUs: o.Cost}
}

func originFromWire(o *metadatav1.Origin) registry.Origin {
	return registry.Origin{Upstream: o.GetUpstream(), Cost: o.GetCostUs()}
}
