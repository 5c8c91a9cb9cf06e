package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// like is that somebody likes a repository in a way.
type like struct {
	actor string
	kind  registry.Preference
}

// TogglePreference implements [registry.Search].
func (c *Catalog) TogglePreference(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Preference) (on bool, err error) {
	if p != registry.Starred && p != registry.Bookmarked {
		return false, registry.ErrParameterInvalid
	}
	if a.ID == "" {
		return false, registry.ErrUnauthorized
	}
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return false, err
	}
	if err := c.lock(ctx); err != nil {
		return false, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return false, err
	}
	k := like{a.ID, p}
	if r.likes[k] {
		delete(r.likes, k)
		return false, nil
	}
	n := 0
	for _, other := range c.repos {
		if other.likes[k] {
			n++
		}
	}
	if n >= registry.MaxPreferences {
		return false, registry.ErrTooLarge
	}
	r.likes[k] = true
	return true, nil
}

// SearchImages implements [registry.Search].
func (c *Catalog) SearchImages(ctx context.Context, a registry.Actor, q registry.ImageQuery) (registry.Found[registry.FoundImage], error) {
	none := registry.Found[registry.FoundImage]{}
	if err := q.Check(); err != nil {
		return none, err
	}
	if err := c.lock(ctx); err != nil {
		return none, err
	}
	defer c.mu.Unlock()
	var all []registry.FoundImage
	for name, r := range c.repos {
		if q.Repository != "" && q.Repository != name || c.options.Access.Allow(a, name, registry.Reference{}, registry.ActRead) != nil {
			continue
		}
		if d := q.Ref.Digest; d != "" {
			if r.manifests[d] != nil {
				all = append(all, c.foundImage(a, name, r, "", d, q.Detail))
			}
			continue
		}
		for t, d := range r.tags {
			if c.fits(a, r, t, d, q) {
				all = append(all, c.foundImage(a, name, r, t, d, q.Detail))
			}
		}
	}
	slices.SortFunc(all, func(x, y registry.FoundImage) int {
		byName := cmp.Or(cmp.Compare(x.Repository, y.Repository), cmp.Compare(x.Tag, y.Tag))
		switch q.Order {
		case registry.ByNameDescending:
			return -byName
		case registry.ByUpdate:
			return cmp.Or(cmp.Compare(c.facts(y).created, c.facts(x).created), byName)
		case registry.ByDownloads:
			return cmp.Or(cmp.Compare(c.repos[y.Repository].downloads(y.Digest), c.repos[x.Repository].downloads(x.Digest)), byName)
		case registry.ByStars:
			return cmp.Or(cmp.Compare(c.repos[y.Repository].stars(), c.repos[x.Repository].stars()), byName)
		}
		return byName
	})
	return cutFound(all, q.Offset, q.Limit), nil
}

func cutFound[T any](all []T, offset, limit int) registry.Found[T] {
	f := registry.Found[T]{Total: len(all)}
	f.Items = all[min(offset, len(all)):]
	f.Items = f.Items[:min(limit, len(f.Items))]
	return f
}

// fits reports whether a tag is an image that a query asks for. c.mu must be held.
func (c *Catalog) fits(a registry.Actor, r *repository, t registry.Tag, d registry.Digest, q registry.ImageQuery) bool {
	if registry.IsSignatureTag(t) || q.Ref.Tag != "" && q.Ref.Tag != t || d == q.Except ||
		!strings.HasPrefix(string(t), q.TagPrefix) || !strings.Contains(strings.ToLower(string(t)), strings.ToLower(q.TagPart)) {
		return false
	}
	var hit func(d registry.Digest) bool
	switch {
	case q.Content != "":
		hit = func(d registry.Digest) bool {
			begins := func(x registry.ManifestReference) bool { return strings.HasPrefix(string(x.Digest), q.Content) }
			return strings.HasPrefix(string(d), q.Content) || slices.ContainsFunc(r.manifests[d].info.References, begins)
		}
	case len(q.Manifests) > 0:
		hit = func(d registry.Digest) bool { return slices.Contains(q.Manifests, d) }
	case len(q.BaseOf) > 0:
		hit = func(d registry.Digest) bool {
			l := c.layers(r, d)
			return d != q.Except && len(l) > 0 && len(l) <= len(q.BaseOf) && slices.Equal(l, q.BaseOf[:len(l)])
		}
	case len(q.DerivedFrom) > 0:
		hit = func(d registry.Digest) bool {
			l := c.layers(r, d)
			return d != q.Except && len(l) >= len(q.DerivedFrom) && slices.Equal(l[:len(q.DerivedFrom)], q.DerivedFrom)
		}
	}
	if hit != nil && !r.reaches(d, hit) {
		return false
	}
	return c.passes(a, r, d, q.Filter)
}

// reaches reports whether d, or a manifest that it lists, is a hit.
func (r *repository) reaches(d registry.Digest, hit func(registry.Digest) bool) bool {
	m := r.manifests[d]
	if m == nil {
		return false
	}
	if hit(d) {
		return true
	}
	return slices.ContainsFunc(m.info.References, func(x registry.ManifestReference) bool {
		return x.Manifest && r.reaches(x.Digest, hit)
	})
}

// passes reports whether an image passes a filter. c.mu must be held.
func (c *Catalog) passes(a registry.Actor, r *repository, d registry.Digest, f registry.SearchFilter) bool {
	if len(f.OS)+len(f.Arch) > 0 {
		has := func(all []string, s string) bool {
			return len(all) == 0 || slices.ContainsFunc(all, func(x string) bool { return strings.EqualFold(x, s) })
		}
		if !slices.ContainsFunc(c.manifestFacts(r, d).platforms, func(p string) bool {
			os, arch, _ := strings.Cut(p, "/")
			return has(f.OS, os) && has(f.Arch, arch)
		}) {
			return false
		}
	}
	if f.Signed && len(r.signatures(d)) == 0 {
		return false
	}
	return r.liked(a, f)
}

func (r *repository) liked(a registry.Actor, f registry.SearchFilter) bool {
	return (f.Starred == nil || *f.Starred == r.likes[like{a.ID, registry.Starred}]) &&
		(f.Bookmarked == nil || *f.Bookmarked == r.likes[like{a.ID, registry.Bookmarked}])
}

func (r *repository) stars() (n int64) {
	for k := range r.likes {
		if k.kind == registry.Starred {
			n++
		}
	}
	return n
}

// downloads counts pulls of a manifest, or of all if d is "".
func (r *repository) downloads(d registry.Digest) (n int64) {
	for k, p := range r.pulls {
		if d == "" || k.digest == d {
			n += p.Count
		}
	}
	return n
}

// signatures lists the tools that d was signed with.
func (r *repository) signatures(d registry.Digest) []string {
	var tools []string
	if _, ok := r.tags[registry.SignatureTag(d)]; ok {
		tools = append(tools, "cosign")
	}
	for _, m := range r.manifests {
		if tool := registry.SignatureTool(m.info.ArtifactType); m.info.Subject == d && tool != "" {
			tools = append(tools, tool)
		}
	}
	slices.Sort(tools)
	return slices.Compact(tools)
}

func (c *Catalog) SearchRepositories(ctx context.Context, a registry.Actor, q registry.RepositoryQuery) (registry.Found[registry.FoundRepository], error) {
	if err := q.Check(); err != nil {
		return registry.Found[registry.FoundRepository]{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.Found[registry.FoundRepository]{}, err
	}
	defer c.mu.Unlock()
	var all []registry.FoundRepository
	for name, r := range c.repos {
		f := registry.FoundRepository{Name: name, Rank: registry.Rank(name, q.Text)}
		if q.Text == "" {
			f.Rank = 0
		}
		if f.Rank < 0 || q.Name != "" && q.Name != name || c.options.Access.Allow(a, name, registry.Reference{}, registry.ActRead) != nil {
			continue
		}
		if c.tellRepository(a, &f, r, q) {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(x, y registry.FoundRepository) int {
		byName := cmp.Compare(x.Name, y.Name)
		switch q.Order {
		case registry.ByNameDescending:
			return -byName
		case registry.ByUpdate:
			return cmp.Or(cmp.Compare(y.Updated, x.Updated), byName)
		case registry.ByDownloads:
			return cmp.Or(cmp.Compare(y.Downloads, x.Downloads), byName)
		case registry.ByStars:
			return cmp.Or(cmp.Compare(y.Stars, x.Stars), byName)
		case registry.ByRelevance:
			return cmp.Or(cmp.Compare(x.Rank, y.Rank), byName)
		}
		return byName
	})
	return cutFound(all, q.Offset, q.Limit), nil
}

// tellRepository fills in what to tell of a repository, and reports whether it has an
// image that passes the filter. c.mu must be held.
func (c *Catalog) tellRepository(a registry.Actor, f *registry.FoundRepository, r *repository, q registry.RepositoryQuery) bool {
	var newest registry.Tag
	passes := false
	for _, t := range slices.Sorted(maps.Keys(r.tags)) {
		if registry.IsSignatureTag(t) {
			continue
		}
		d := r.tags[t]
		passes = passes || c.passes(a, r, d, q.Filter)
		at := c.manifestFacts(r, d).created
		if at > f.Updated || newest == "" || at == f.Updated && (d < r.tags[newest] || d == r.tags[newest]) {
			newest, f.Updated = t, at
		}
	}
	if !passes {
		return false
	}
	f.Downloads, f.Stars = r.downloads(""), r.stars()
	f.Starred, f.Bookmarked = r.likes[like{a.ID, registry.Starred}], r.likes[like{a.ID, registry.Bookmarked}]
	if q.NewestImage {
		i := c.foundImage(a, f.Name, r, newest, r.tags[newest], q.Detail)
		f.Newest = &i
	}
	if !q.Content {
		return true
	}
	for d := range r.manifests {
		known := c.manifestFacts(r, d)
		f.Platforms, f.Vendors = append(f.Platforms, known.platforms...), append(f.Vendors, known.vendor)
		f.Size += int64(len(r.manifests[d].bytes))
	}
	for _, b := range r.links {
		f.Size += b.Size
	}
	for _, list := range []*[]string{&f.Platforms, &f.Vendors} {
		slices.Sort(*list)
		*list = slices.DeleteFunc(slices.Compact(*list), func(s string) bool { return s == "" })
	}
	return true
}
