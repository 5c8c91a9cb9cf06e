package metadata

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// PutCached implements [registry.Cache].
func (s *Service) PutCached(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut, o registry.Origin) (registry.ManifestInfo, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.ManifestInfo{}, err
	}
	return s.Catalog.PutCached(ctx, a, repo, m, o)
}

// LinkCached implements [registry.Cache].
func (s *Service) LinkCached(ctx context.Context, a registry.Actor, repo registry.Name, st registry.Stored) (registry.Stored, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.Stored{}, err
	}
	return s.Catalog.LinkCached(ctx, a, repo, st)
}

// PushedTo implements [registry.Cache]: what another registry had was pushed.
func (s *Service) PushedTo(ctx context.Context, a registry.Actor, repo registry.Name) (bool, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return false, err
	}
	return s.Catalog.PushedTo(ctx, a, repo)
}

// CachedManifests implements [registry.Cache].
func (s *Service) CachedManifests(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Digest]) (registry.List[registry.CachedManifest], error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.List[registry.CachedManifest]{}, err
	}
	return s.Catalog.CachedManifests(ctx, a, repo, p)
}

// UntagCached implements [registry.Cache].
func (s *Service) UntagCached(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, d registry.Digest) error {
	if err := s.ready(ctx, a, registry.ActDelete, repo); err != nil {
		return err
	}
	return s.Catalog.UntagCached(ctx, a, repo, t, d)
}

// EvictCached implements [registry.Cache].
func (s *Service) EvictCached(ctx context.Context, a registry.Actor, repo registry.Name, r registry.Reference) (registry.Eviction, error) {
	if err := s.ready(ctx, a, registry.ActDelete, repo); err != nil {
		return registry.Eviction{}, err
	}
	return s.Catalog.EvictCached(ctx, a, repo, r)
}
