package memory

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Manifest implements [registry.Manifests].
func (c *Catalog) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	if err := c.options.Access.Allow(a, repo, q.Ref, registry.ActRead); err != nil {
		return registry.Manifest{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.Manifest{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.Manifest{}, err
	}
	d := q.Ref.Digest
	if d == "" {
		d = r.tags[q.Ref.Tag]
	}
	found, ok := r.manifests[d]
	if !ok {
		return registry.Manifest{}, registry.ErrManifestUnknown
	}
	m := registry.Manifest{Digest: d, MediaType: found.info.MediaType, Size: int64(len(found.bytes))}
	if !q.NoBytes && q.Have != d {
		m.Bytes = found.bytes
	}
	return m, nil
}

// PutManifest implements [registry.Manifests].
func (c *Catalog) PutManifest(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut) (registry.ManifestInfo, error) {
	return c.put(ctx, a, repo, m, nil)
}

// put stores a manifest that was pushed, or fetched from an origin.
func (c *Catalog) put(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut, o *registry.Origin) (registry.ManifestInfo, error) {
	if len(m.Tags) > registry.MaxTagsPerPut {
		return registry.ManifestInfo{}, registry.ErrTooManyTags
	}
	if err := c.mayPut(a, repo, m); err != nil {
		return registry.ManifestInfo{}, err
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	if err := check(m.Bytes, m.Digest); err != nil {
		return registry.ManifestInfo{}, err
	}
	if err := c.change(ctx, repo); err != nil {
		return registry.ManifestInfo{}, err
	}
	defer c.mu.Unlock()
	r := c.repos[repo] // nil if there is none yet
	for _, t := range m.Tags {
		if err := c.maySet(a, repo, r, t); err != nil {
			return registry.ManifestInfo{}, err
		}
		if err := r.holds(m.If, t); err != nil {
			return registry.ManifestInfo{}, err
		}
	}
	if missing := r.missing(info); len(missing) > 0 && !c.options.AllowSparse && o == nil {
		return registry.ManifestInfo{}, registry.ErrManifestBlobUnknown.Detailed(missing)
	}
	for _, ref := range info.References {
		if b, err := r.blob(ref.Digest); err == nil && !c.options.AllowWrongSizes {
			if err := ref.CheckSize(b.Size); err != nil {
				return registry.ManifestInfo{}, err
			}
		}
	}

	// Nothing can fail from here on.
	r = c.ensure(repo)
	r.mark(m.Digest, info, o)
	if _, ok := r.manifests[m.Digest]; !ok {
		r.manifests[m.Digest] = &manifest{info, bytes.Clone(m.Bytes), time.Now().UnixMicro()}
	}
	for _, t := range m.Tags {
		c.moves(a, repo, r, t, m.Digest)
	}
	return info, nil
}

// holds returns [registry.ErrPreconditionFailed] unless cond holds for tag t.
// A nil repository has no tags.
func (r *repository) holds(cond registry.Condition, t registry.Tag) error {
	var now registry.Digest
	if r != nil {
		now = r.tags[t]
	}
	if cond.Match != "" && now != cond.Match || cond.Absent && now != "" {
		return registry.ErrPreconditionFailed
	}
	return nil
}

// missing returns the content that the manifest needs and the repository does
// not have. A nil repository has nothing.
func (r *repository) missing(info registry.ManifestInfo) []registry.Digest {
	var missing []registry.Digest
	for _, ref := range info.References {
		if !ref.Optional && !r.knows(ref.Digest) {
			missing = append(missing, ref.Digest)
		}
	}
	return missing
}

func (r *repository) knows(d registry.Digest) bool {
	if r == nil {
		return false
	}
	_, linked := r.links[d]
	_, stored := r.manifests[d]
	return linked || stored
}

// uses reports whether a manifest of the repository refers to d.
func (r *repository) uses(d registry.Digest) bool {
	for _, m := range r.manifests {
		if slices.ContainsFunc(m.info.References, func(ref registry.ManifestReference) bool { return ref.Digest == d }) {
			return true
		}
	}
	return false
}

// DeleteTag implements [registry.Manifests].
func (c *Catalog) DeleteTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, cond registry.Condition) error {
	if err := c.options.Access.Allow(a, repo, registry.Reference{Tag: t}, registry.ActDelete); err != nil {
		return err
	}
	if err := c.change(ctx, repo); err != nil {
		return err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return err
	}
	if _, ok := r.tags[t]; !ok {
		return registry.ErrManifestUnknown
	}
	if err := r.holds(cond, t); err != nil {
		return err
	}
	r.point(a, t, "")
	return nil
}

// DeleteManifest implements [registry.Manifests].
func (c *Catalog) DeleteManifest(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := c.options.Access.Allow(a, repo, registry.Reference{Digest: d}, registry.ActDelete); err != nil {
		return err
	}
	if err := c.change(ctx, repo); err != nil {
		return err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return err
	}
	m, ok := r.manifests[d]
	if !ok {
		return registry.ErrManifestUnknown
	}
	names := []registry.Digest{registry.SHA256.FromBytes(m.bytes), registry.SHA512.FromBytes(m.bytes)}
	tags := 0
	for t, at := range r.tags {
		if !slices.Contains(names, at) {
			continue
		}
		if err := c.options.Access.Allow(a, repo, registry.Reference{Tag: t, Digest: at}, registry.ActDelete); err != nil {
			return err
		}
		tags++
	}
	if tags > 1 && c.options.Access.DetectsCollision(a, repo) {
		return registry.ErrManifestCollision
	}
	if slices.ContainsFunc(names, r.uses) {
		return registry.ErrInUse
	}
	for _, d := range names {
		if r.manifests[d] == nil {
			continue
		}
		var tags []registry.Tag
		for _, t := range slices.Sorted(maps.Keys(r.tags)) {
			if r.tags[t] == d {
				tags = append(tags, t)
				r.point(a, t, "")
			}
		}
		r.discard(a, d, tags)
	}
	return nil
}

// Referrers implements [registry.Manifests].
func (c *Catalog) Referrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, artifactType string, p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return registry.List[registry.Descriptor]{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.Descriptor]{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.List[registry.Descriptor]{}, nil // nobody refers to it here
	}
	var found []registry.Digest
	for digest, m := range r.manifests {
		if m.info.Subject == d && (artifactType == "" || m.info.ArtifactType == artifactType) {
			found = append(found, digest)
		}
	}
	some := page(found, p)
	list := registry.List[registry.Descriptor]{More: some.More}
	for _, digest := range some.Items {
		m := r.manifests[digest]
		list.Items = append(list.Items, m.info.Descriptor(digest, int64(len(m.bytes))))
	}
	return list, nil
}
