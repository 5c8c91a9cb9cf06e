package memory

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// pullKey names an entry of a repository's statistics.
type pullKey struct {
	digest registry.Digest
	tag    registry.Tag
}

// CountPulls implements [registry.Pulls].
func (c *Catalog) CountPulls(ctx context.Context, pulls []registry.Pull) error {
	if len(pulls) > registry.MaxPulls {
		return registry.ErrTooLarge.With("at most %d entries at a time", registry.MaxPulls)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for _, p := range pulls {
		r, err := c.repo(p.Repository)
		if err != nil || r.manifests[p.Digest] == nil {
			continue
		}
		k := pullKey{p.Digest, p.Tag}
		if old, ok := r.pulls[k]; ok {
			p.Count += old.Count
			if old.At > p.At {
				p.At, p.Actor = old.At, old.Actor
			}
		}
		r.pulls[k] = p
	}
	return nil
}

// PullsOf implements [registry.Pulls].
func (c *Catalog) PullsOf(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, p registry.Page[registry.Tag]) (registry.List[registry.Pull], error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return registry.List[registry.Pull]{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.Pull]{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.List[registry.Pull]{}, err
	}
	all := slices.DeleteFunc(slices.Collect(maps.Values(r.pulls)), func(x registry.Pull) bool {
		return x.Digest != d || p.After != "" && x.Tag <= p.After
	})
	slices.SortFunc(all, func(a, b registry.Pull) int { return strings.Compare(string(a.Tag), string(b.Tag)) })
	n := min(p.Limit, len(all))
	return registry.List[registry.Pull]{Items: all[:n], More: n < len(all)}, nil
}

// ExplainRetention implements [registry.Retention]: there are no policies, and
// what is untagged stays.
func (c *Catalog) ExplainRetention(ctx context.Context, a registry.Actor, repo registry.Name, only registry.Reference, p registry.Page[string]) (registry.List[registry.RetentionDecision], error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return registry.List[registry.RetentionDecision]{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.RetentionDecision]{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.List[registry.RetentionDecision]{}, err
	}
	var tags []string
	for t, d := range r.tags {
		if only == (registry.Reference{}) || only.Tag == t || only.Digest == d {
			tags = append(tags, string(t))
		}
	}
	some := page(tags, p)
	list := registry.List[registry.RetentionDecision]{More: some.More}
	for _, t := range some.Items {
		list.Items = append(list.Items, registry.RetentionDecision{
			Tag: registry.Tag(t), Digest: r.tags[registry.Tag(t)], Keep: true, Reason: "no policy is for this repository",
		})
	}
	return list, nil
}

// ApplyRetention implements [registry.Retention].
func (c *Catalog) ApplyRetention(ctx context.Context, a registry.Actor, repo registry.Name) (registry.RetentionReport, error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return registry.RetentionReport{}, err
	}
	if err := c.change(ctx, repo); err != nil {
		return registry.RetentionReport{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.RetentionReport{}, err
	}
	return registry.RetentionReport{Kept: int64(len(r.tags))}, nil
}

// RollbackTag implements [registry.Rollbacks].
func (c *Catalog) RollbackTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, to registry.Digest, cond registry.Condition) (registry.TagChange, error) {
	if err := c.mayEither(a, repo, t); err != nil {
		return registry.TagChange{}, err
	}
	if err := c.change(ctx, repo); err != nil {
		return registry.TagChange{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.TagChange{}, err
	}
	if err := c.maySet(a, repo, r, t); err != nil {
		return registry.TagChange{}, err
	}
	if err := r.holds(cond, t); err != nil {
		return registry.TagChange{}, err
	}
	if r.manifests[to] == nil || !slices.ContainsFunc(r.history[t], func(ch registry.TagChange) bool { return ch.Digest == to }) {
		return registry.TagChange{}, registry.ErrManifestUnknown
	}
	c.moves(a, repo, r, t, to)
	h := r.history[t]
	return h[len(h)-1], nil
}
