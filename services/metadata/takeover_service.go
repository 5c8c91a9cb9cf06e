package metadata

import (
	"context"
	"slices"

	"github.com/berth-registry/berth/registry"
)

var _ registry.Catalog = (*Service)(nil)

// The methods that name a repository have it taken over first, if it is to be and
// if the actor may know of it. The rest is as [Catalog] does it.

// ready returns when the repositories are taken over, or why they are not. A
// request that will be denied does not wait: one of an actor who may do none of
// what some lists.
func (s *Service) ready(ctx context.Context, a registry.Actor, some registry.Actions, repos ...registry.Name) error {
	if s.takeover == nil || s.takeover.idle.Load() {
		return nil
	}
	for _, repo := range repos {
		if repo == "" || !s.mayAny(a, repo, some) {
			continue
		}
		if err := s.takeover.ensure(ctx, repo); err != nil {
			return err
		}
	}
	return nil
}

// mayAny reports whether a may do one of the actions.
func (s *Service) mayAny(a registry.Actor, repo registry.Name, some registry.Actions) bool {
	for bit := registry.Actions(1); bit <= some; bit <<= 1 {
		if some&bit == 0 {
			continue
		}
		on := repo
		if bit == registry.ActAdmin {
			on = ""
		}
		if s.access.allow(a, on, bit) == nil {
			return true
		}
	}
	return false
}

// Repositories implements [registry.Repositories]. Those that wait to be taken
// over are in the list.
func (s *Service) Repositories(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	if s.takeover == nil || s.takeover.idle.Load() {
		return s.Catalog.Repositories(ctx, a, p)
	}
	waiting := s.takeover.names(ctx, p.After) // before the catalog: what leaves the one is in the other
	list, err := s.Catalog.Repositories(ctx, a, p)
	if err != nil || len(waiting) == 0 {
		return list, err
	}
	for _, n := range waiting {
		if s.access.allow(a, n, registry.ActRead) != nil || list.More && n > list.Items[len(list.Items)-1] {
			continue
		}
		list.Items = append(list.Items, n)
	}
	slices.Sort(list.Items)
	list.Items = slices.Compact(list.Items)
	if len(list.Items) > p.Limit {
		list.Items, list.More = list.Items[:p.Limit], true
	}
	return list, nil
}

// Admit implements [registry.Repositories].
func (s *Service) Admit(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Pool, error) {
	if err := s.ready(ctx, a, registry.ActCreate, repo); err != nil {
		return "", err
	}
	return s.Catalog.Admit(ctx, a, repo)
}

// Tags implements [registry.Tags].
func (s *Service) Tags(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.List[registry.Tag]{}, err
	}
	return s.Catalog.Tags(ctx, a, repo, p)
}

// TagHistory implements [registry.Tags].
func (s *Service) TagHistory(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, limit int) ([]registry.TagChange, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return nil, err
	}
	return s.Catalog.TagHistory(ctx, a, repo, t, limit)
}

// Manifest implements [registry.Manifests].
func (s *Service) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.Manifest{}, err
	}
	return s.Catalog.Manifest(ctx, a, repo, q)
}

// PutManifest implements [registry.Manifests].
func (s *Service) PutManifest(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut) (registry.ManifestInfo, error) {
	if err := s.ready(ctx, a, registry.ActCreate|registry.ActUpdate, repo); err != nil {
		return registry.ManifestInfo{}, err
	}
	return s.Catalog.PutManifest(ctx, a, repo, m)
}

// DeleteTag implements [registry.Manifests].
func (s *Service) DeleteTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, c registry.Condition) error {
	if err := s.ready(ctx, a, registry.ActDelete, repo); err != nil {
		return err
	}
	return s.Catalog.DeleteTag(ctx, a, repo, t, c)
}

// DeleteManifest implements [registry.Manifests].
func (s *Service) DeleteManifest(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := s.ready(ctx, a, registry.ActDelete, repo); err != nil {
		return err
	}
	return s.Catalog.DeleteManifest(ctx, a, repo, d)
}

// Referrers implements [registry.Manifests].
func (s *Service) Referrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, artifactType string, p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.List[registry.Descriptor]{}, err
	}
	return s.Catalog.Referrers(ctx, a, repo, d, artifactType, p)
}

// Blob implements [registry.Links].
func (s *Service) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.Blob{}, err
	}
	return s.Catalog.Blob(ctx, a, repo, d)
}

// Link implements [registry.Links].
func (s *Service) Link(ctx context.Context, a registry.Actor, repo registry.Name, b registry.Stored) (registry.Stored, error) {
	if err := s.ready(ctx, a, registry.ActCreate, repo); err != nil {
		return registry.Stored{}, err
	}
	return s.Catalog.Link(ctx, a, repo, b)
}

// Mount implements [registry.Links].
func (s *Service) Mount(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, from registry.Name) (registry.Stored, error) {
	if err := s.ready(ctx, a, registry.ActCreate, repo); err != nil {
		return registry.Stored{}, err
	}
	if err := s.ready(ctx, a, registry.ActRead, from); err != nil {
		return registry.Stored{}, err
	}
	return s.Catalog.Mount(ctx, a, repo, d, from)
}

// Unlink implements [registry.Links].
func (s *Service) Unlink(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := s.ready(ctx, a, registry.ActDelete, repo); err != nil {
		return err
	}
	return s.Catalog.Unlink(ctx, a, repo, d)
}

// PullsOf implements [registry.Pulls].
func (s *Service) PullsOf(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, p registry.Page[registry.Tag]) (registry.List[registry.Pull], error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.List[registry.Pull]{}, err
	}
	return s.Catalog.PullsOf(ctx, a, repo, d, p)
}

// ExplainRetention implements [registry.Retention].
func (s *Service) ExplainRetention(ctx context.Context, a registry.Actor, repo registry.Name, only registry.Reference, p registry.Page[string]) (registry.List[registry.RetentionDecision], error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.List[registry.RetentionDecision]{}, err
	}
	return s.Catalog.ExplainRetention(ctx, a, repo, only, p)
}

// ApplyRetention implements [registry.Retention].
func (s *Service) ApplyRetention(ctx context.Context, a registry.Actor, repo registry.Name) (registry.RetentionReport, error) {
	if err := s.ready(ctx, a, registry.ActAdmin, repo); err != nil {
		return registry.RetentionReport{}, err
	}
	return s.Catalog.ApplyRetention(ctx, a, repo)
}

// RollbackTag implements [registry.Rollbacks].
func (s *Service) RollbackTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, to registry.Digest, c registry.Condition) (registry.TagChange, error) {
	if err := s.ready(ctx, a, registry.ActCreate|registry.ActUpdate, repo); err != nil {
		return registry.TagChange{}, err
	}
	return s.Catalog.RollbackTag(ctx, a, repo, t, to, c)
}

// DeleteRepository implements [registry.Trash].
func (s *Service) DeleteRepository(ctx context.Context, a registry.Actor, repo registry.Name) error {
	if err := s.ready(ctx, a, registry.ActDelete, repo); err != nil {
		return err
	}
	return s.Catalog.DeleteRepository(ctx, a, repo)
}

// Deleted implements [registry.Trash].
func (s *Service) Deleted(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Cursor]) (registry.List[registry.Deleted], error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.List[registry.Deleted]{}, err
	}
	return s.Catalog.Deleted(ctx, a, repo, p)
}

// Undelete implements [registry.Trash].
func (s *Service) Undelete(ctx context.Context, a registry.Actor, repo registry.Name, r registry.Reference) error {
	if err := s.ready(ctx, a, registry.ActCreate, repo); err != nil {
		return err
	}
	return s.Catalog.Undelete(ctx, a, repo, r)
}

// Purge implements [registry.Trash].
func (s *Service) Purge(ctx context.Context, a registry.Actor, repo registry.Name) error {
	if err := s.ready(ctx, a, registry.ActAdmin, repo); err != nil {
		return err
	}
	return s.Catalog.Purge(ctx, a, repo)
}

// Usage implements [registry.Limits].
func (s *Service) Usage(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Usage, error) {
	if err := s.ready(ctx, a, registry.ActRead, repo); err != nil {
		return registry.Usage{}, err
	}
	return s.Catalog.Usage(ctx, a, repo)
}
