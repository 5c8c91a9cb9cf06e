package metadata

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// SearchImages implements [registry.Search]. A search of one repository has it taken
// over; one of all of them finds what is taken over so far.
func (s *Service) SearchImages(ctx context.Context, a registry.Actor, q registry.ImageQuery) (registry.Found[registry.FoundImage], error) {
	if err := s.ready(ctx, a, registry.ActRead, q.Repository); err != nil {
		return registry.Found[registry.FoundImage]{}, err
	}
	return s.Catalog.SearchImages(ctx, a, q)
}

// SearchRepositories implements [registry.Search], as SearchImages does.
func (s *Service) SearchRepositories(ctx context.Context, a registry.Actor, q registry.RepositoryQuery) (registry.Found[registry.FoundRepository], error) {
	if err := s.ready(ctx, a, registry.ActRead, q.Name); err != nil {
		return registry.Found[registry.FoundRepository]{}, err
	}
	return s.Catalog.SearchRepositories(ctx, a, q)
}

// TogglePreference implements [registry.Search].
func (s *Service) TogglePreference(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Preference) (bool, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return false, err
	}
	return s.Catalog.TogglePreference(ctx, a, repo, p)
}

// Parents implements [registry.TrustStore].
func (s *Service) Parents(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]registry.Digest, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return nil, err
	}
	return s.Catalog.Parents(ctx, a, repo, d)
}
