package memory

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// cached is what is known of a manifest that was fetched.
type cached struct {
	registry.Origin
	fetched, used int64
}

// pin is a compiled [registry.Pin].
type pin struct {
	registry.Pin
	repos, tags *glob.Pattern // tags is nil for all
	digest      registry.Digest
}

func parsePin(p registry.Pin) (pin, error) {
	x := pin{Pin: p}
	repos, digest, byDigest := strings.Cut(p.Pattern, "@")
	var err error
	if byDigest {
		x.digest, err = registry.ParseDigest(digest)
	} else if name, tags, byTag := strings.Cut(p.Pattern, ":"); byTag {
		repos = name
		x.tags, err = glob.Compile(tags)
	}
	if err == nil {
		x.repos, err = glob.Compile(repos)
	}
	if err != nil {
		return x, registry.ErrParameterInvalid.With("pattern: %v", err)
	}
	return x, nil
}

// mark records where a manifest is from that is being stored.
func (r *repository) mark(d registry.Digest, info registry.ManifestInfo, o *registry.Origin) {
	now := time.Now().UnixMicro()
	was, is := r.cached[d]
	_, stored := r.manifests[d]
	switch {
	case o == nil:
		delete(r.cached, d)
		r.claim(info)
	case is:
		r.cached[d] = cached{*o, was.fetched, now}
	case !stored:
		r.cached[d] = cached{*o, now, now}
	}
}

// claim says that what a manifest refers to is not cached any more, nor what that
// needs.
func (r *repository) claim(info registry.ManifestInfo) {
	for _, ref := range info.References {
		delete(r.cached, ref.Digest)
		if m, ok := r.manifests[ref.Digest]; ok {
			r.claim(m.info)
		}
	}
}

// PutCached implements [registry.Cache].
func (c *Catalog) PutCached(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut, o registry.Origin) (registry.ManifestInfo, error) {
	if err := o.Validate(); err != nil {
		return registry.ManifestInfo{}, err
	}
	return c.put(ctx, a, repo, m, &o)
}

// LinkCached implements [registry.Cache]. Nothing here is limited, so nobody counts.
func (c *Catalog) LinkCached(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	return c.Link(ctx, a, repo, s)
}

// onlyCached reports whether cached manifests need a blob, and no others do. c.mu
// must be held.
func (c *Catalog) onlyCached(at place) bool {
	need := false
	for name, r := range c.repos {
		if registry.PoolOf(name, c.options.Pools) != at.pool {
			continue
		}
		if r.pushedNeeds(at.digest) {
			return false
		}
		_, linked := r.links[at.digest]
		need = need || linked && r.uses(at.digest)
	}
	return need
}

// pushedNeeds reports whether a manifest refers to d that was pushed.
func (r *repository) pushedNeeds(d registry.Digest) bool {
	for by, m := range r.manifests {
		if _, ok := r.cached[by]; !ok && slices.ContainsFunc(m.info.References, func(ref registry.ManifestReference) bool { return ref.Digest == d }) {
			return true
		}
	}
	return false
}

// CacheUsage implements [registry.Cache].
func (c *Catalog) CacheUsage(ctx context.Context, _ registry.Actor) ([]registry.CacheUsage, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	pools := append([]registry.Pool{""}, c.options.Pools...)
	all := make([]registry.CacheUsage, len(pools))
	for i, p := range pools {
		all[i].Pool = p
		for at, s := range c.copies {
			if at.pool == p && c.onlyCached(at) {
				all[i].Bytes += s.Size
			}
		}
		for name, r := range c.repos {
			if registry.PoolOf(name, c.options.Pools) == p {
				all[i].Manifests += int64(len(r.cached))
			}
		}
	}
	return all, nil
}

// CachedManifests implements [registry.Cache].
func (c *Catalog) CachedManifests(ctx context.Context, _ registry.Actor, repo registry.Name, p registry.Page[registry.Digest]) (registry.List[registry.CachedManifest], error) {
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.CachedManifest]{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.List[registry.CachedManifest]{}, err
	}
	some := page(slices.Collect(maps.Keys(r.cached)), p)
	list := registry.List[registry.CachedManifest]{More: some.More}
	for _, d := range some.Items {
		x, m := r.cached[d], r.manifests[d]
		item := registry.CachedManifest{
			Digest: d, Tags: r.tagsOf(d), Size: int64(len(m.bytes)), Origin: x.Origin, Fetched: x.fetched, Used: x.used,
			Pinned: c.pinnedBy(repo, r, d, 0),
		}
		for _, ref := range m.info.References {
			if b, ok := r.links[ref.Digest]; ok {
				item.Size += b.Size
			}
		}
		list.Items = append(list.Items, item)
	}
	return list, nil
}

func (r *repository) tagsOf(d registry.Digest) []registry.Tag {
	var tags []registry.Tag
	for _, t := range slices.Sorted(maps.Keys(r.tags)) {
		if r.tags[t] == d {
			tags = append(tags, t)
		}
	}
	return tags
}

// pinnedBy returns the pattern that keeps a manifest, by its own names or by those of
// what needs it. c.mu must be held.
func (c *Catalog) pinnedBy(repo registry.Name, r *repository, d registry.Digest, depth int) string {
	for _, pattern := range slices.Sorted(maps.Keys(c.pins)) {
		p := c.pins[pattern]
		byTag := p.tags != nil && slices.ContainsFunc(r.tagsOf(d), func(t registry.Tag) bool { return p.tags.Match(string(t)) })
		if p.repos.Match(string(repo)) && (p.tags == nil && p.digest == "" || byTag || p.digest == d) {
			return pattern
		}
	}
	if depth > 10 {
		return ""
	}
	for by, m := range r.manifests {
		if slices.ContainsFunc(m.info.References, func(ref registry.ManifestReference) bool { return ref.Digest == d }) {
			if p := c.pinnedBy(repo, r, by, depth+1); p != "" {
				return p
			}
		}
	}
	if m := r.manifests[d]; m != nil && m.info.Subject != "" {
		return c.pinnedBy(repo, r, m.info.Subject, depth+1)
	}
	return ""
}

// PushedTo implements [registry.Cache].
func (c *Catalog) PushedTo(ctx context.Context, _ registry.Actor, repo registry.Name) (bool, error) {
	if err := c.lock(ctx); err != nil {
		return false, err
	}
	defer c.mu.Unlock()
	r := c.repos[repo]
	return r != nil && len(r.manifests) > len(r.cached), nil
}

// EvictCached implements [registry.Cache].
func (c *Catalog) EvictCached(ctx context.Context, a registry.Actor, repo registry.Name, ref registry.Reference) (registry.Eviction, error) {
	if err := c.change(ctx, repo); err != nil {
		return registry.Eviction{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.Eviction{}, err
	}
	var sum registry.Eviction
	if ref == (registry.Reference{}) {
		for d := range r.cached {
			if r.mayEvict(d) {
				c.evict(a, repo, r, d, &sum)
			}
		}
		return sum, nil
	}
	d := ref.Digest
	if ref.Tag != "" {
		d = r.tags[ref.Tag]
	}
	b, linked := r.links[d]
	switch {
	case r.manifests[d] != nil && r.mayEvict(d):
		c.evict(a, repo, r, d, &sum)
	case r.manifests[d] != nil || linked && (r.pushedNeeds(d) || !r.uses(d)):
		return sum, registry.ErrInUse
	case !linked:
		return sum, registry.ErrManifestUnknown
	default:
		delete(r.links, d)
		sum.Blobs++
		if !c.elsewhere(repo, d) {
			sum.Bytes = b.Size
		}
	}
	return sum, nil
}

// UntagCached implements [registry.Cache].
func (c *Catalog) UntagCached(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, d registry.Digest) error {
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
	now, ok := r.tags[t]
	if !ok {
		return registry.ErrManifestUnknown
	}
	if now != d {
		return registry.ErrPreconditionFailed.With("the tag points to %s", now)
	}
	if _, ok := r.cached[d]; !ok {
		return registry.ErrInUse
	}
	r.point(a, t, "")
	return nil
}

// mayEvict reports whether a manifest may be evicted.
func (r *repository) mayEvict(d registry.Digest) bool {
	if _, ok := r.cached[d]; !ok || r.pushedNeeds(d) {
		return false
	}
	for by, m := range r.manifests {
		if _, ok := r.cached[by]; !ok && m.info.Subject == d {
			return false
		}
	}
	return true
}

// evict removes a manifest. Its blobs stay: nothing here is ever collected. c.mu
// must be held.
func (c *Catalog) evict(a registry.Actor, repo registry.Name, r *repository, d registry.Digest, sum *registry.Eviction) {
	for _, t := range r.tagsOf(d) {
		r.point(a, t, "")
	}
	before := make(map[registry.Digest]bool)
	for _, ref := range r.manifests[d].info.References {
		before[ref.Digest] = c.onlyCached(place{registry.PoolOf(repo, c.options.Pools), ref.Digest})
	}
	delete(r.manifests, d)
	delete(r.cached, d)
	sum.Manifests++
	for ref, was := range before {
		at := place{registry.PoolOf(repo, c.options.Pools), ref}
		if was && !c.onlyCached(at) {
			sum.Bytes += c.copies[at].Size
		}
	}
}

// Pins implements [registry.Cache].
func (c *Catalog) Pins(ctx context.Context, _ registry.Actor) ([]registry.Pin, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var all []registry.Pin
	for _, pattern := range slices.Sorted(maps.Keys(c.pins)) {
		all = append(all, c.pins[pattern].Pin)
	}
	return all, nil
}

// SetPin implements [registry.Cache].
func (c *Catalog) SetPin(ctx context.Context, a registry.Actor, p registry.Pin) error {
	p.Actor, p.Since = a.ID, time.Now().UnixMicro()
	x, err := parsePin(p)
	if err != nil {
		return err
	}
	if len(p.Reason) > registry.MaxReason {
		return registry.ErrTooLarge.With("a reason has at most %d bytes", registry.MaxReason)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, ok := c.pins[p.Pattern]; !ok && len(c.pins) >= registry.MaxPins {
		return registry.ErrTooLarge.With("there are %d pins already", registry.MaxPins)
	}
	c.pins[p.Pattern] = x
	return nil
}

// ClearPin implements [registry.Cache].
func (c *Catalog) ClearPin(ctx context.Context, _ registry.Actor, pattern string) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	delete(c.pins, pattern)
	return nil
}

// TakeOvers implements [registry.TakeOvers]: there never are any here.
func (c *Catalog) TakeOvers(ctx context.Context, _ registry.Actor, _ registry.Page[registry.Name]) (registry.List[registry.TakeOver], error) {
	return registry.List[registry.TakeOver]{}, ctx.Err()
}

// FinishTakeOvers implements [registry.TakeOvers].
func (c *Catalog) FinishTakeOvers(context.Context, registry.Actor) error {
	return registry.ErrUnsupported
}

// TakeOverFinish implements [registry.TakeOvers].
func (c *Catalog) TakeOverFinish(ctx context.Context, _ registry.Actor) (registry.TakeOverFinish, error) {
	return registry.TakeOverFinish{}, ctx.Err()
}
