package memory

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

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

// facts are what an image is found by.
type facts struct {
	created   int64
	platforms []string
	vendor    string
	config    *registry.ImageConfig
}

func (c *Catalog) facts(i registry.FoundImage) facts {
	return c.manifestFacts(c.repos[i.Repository], i.Digest)
}

// content reads a manifest of r.
func (r *repository) content(d registry.Digest) registry.ImageContent {
	m := r.manifests[d]
	if m == nil {
		return registry.ImageContent{}
	}
	content, _ := registry.ReadImageContent(m.bytes) // it was parsed before
	return content
}

// layers returns the layers of an image, nil if d is none.
func (c *Catalog) layers(r *repository, d registry.Digest) []registry.Digest {
	content := r.content(d)
	if content.Config == nil || !registry.IsImageConfig(content.Config.MediaType) || len(content.Layers) > registry.MaxSearchLayers {
		return nil
	}
	var all []registry.Digest
	for _, l := range content.Layers {
		all = append(all, l.Digest)
	}
	return all
}

// manifestFacts returns what is known of a manifest. c.mu must be held.
func (c *Catalog) manifestFacts(r *repository, d registry.Digest) facts {
	content := r.content(d)
	f := facts{vendor: content.Annotations[imgspec.AnnotationVendor]}
	if content.Config != nil && registry.IsImageConfig(content.Config.MediaType) {
		if b := c.read(r, content.Config.Digest); b != nil {
			if config, err := registry.ReadImageConfig(b); err == nil {
				f.config, f.created, f.vendor = config, config.Time(), cmp.Or(f.vendor, config.Config.Labels[imgspec.AnnotationVendor])
				f.platforms = []string{config.Platform()}
			}
		}
	}
	for _, child := range content.Manifests {
		f.platforms = append(f.platforms, registry.DescriptorPlatform(child))
		if r.manifests[child.Digest] != nil {
			of := c.manifestFacts(r, child.Digest)
			f.created, f.platforms = max(f.created, of.created), append(f.platforms, of.platforms...)
		}
	}
	f.created = cmp.Or(f.created, content.Created(), r.pushed(d))
	slices.Sort(f.platforms)
	f.platforms = slices.DeleteFunc(slices.Compact(f.platforms), func(p string) bool { return p == "" })
	return f
}

// pushed returns when a manifest was stored.
func (r *repository) pushed(d registry.Digest) int64 {
	if m := r.manifests[d]; m != nil {
		return m.pushed
	}
	return 0
}

// read returns the bytes of a small blob, nil if they can't be had.
func (c *Catalog) read(r *repository, d registry.Digest) []byte {
	b, ok := r.links[d]
	if !ok || b.Inline != nil {
		return b.Inline
	}
	blobs, ok := c.options.Reaper.(registry.BlobReader)
	if !ok {
		return nil
	}
	content, err := blobs.Open(context.Background(), b.Stored, registry.Whole)
	if err != nil {
		return nil
	}
	defer content.Close()
	data, err := io.ReadAll(io.LimitReader(content, registry.MaxImageConfig))
	if err != nil {
		return nil
	}
	return data
}

// foundImage returns what to tell of an image. c.mu must be held.
func (c *Catalog) foundImage(a registry.Actor, name registry.Name, r *repository, t registry.Tag, d registry.Digest, detail registry.ImageDetail) registry.FoundImage {
	i := registry.FoundImage{Repository: name, Tag: t, FoundManifest: c.foundManifest(r, d, detail)}
	i.Deletable = t != "" && c.options.Access.Allow(a, name, registry.Reference{Tag: t}, registry.ActDelete) == nil
	if detail&registry.DetailContent == 0 {
		return i
	}
	i.Pushed = r.pushed(d)
	if h := r.history[t]; len(h) > 0 {
		i.Tagged, i.PushedBy = h[len(h)-1].At, h[len(h)-1].Actor
	}
	for _, child := range r.content(d).Manifests {
		if r.manifests[child.Digest] != nil && len(i.Manifests) < registry.MaxSearchChildren {
			i.Manifests = append(i.Manifests, c.foundManifest(r, child.Digest, detail))
		}
	}
	return i
}

func (c *Catalog) foundManifest(r *repository, d registry.Digest, detail registry.ImageDetail) registry.FoundManifest {
	m := r.manifests[d]
	f := registry.FoundManifest{Manifest: registry.Manifest{Digest: d}}
	if detail&registry.DetailContent != 0 {
		known := c.manifestFacts(r, d)
		f.MediaType, f.Size, f.ArtifactType, f.Created, f.Config = m.info.MediaType, int64(len(m.bytes)), m.info.ArtifactType, known.created, known.config
		if len(m.bytes) <= registry.MaxSearchManifest {
			f.Bytes = m.bytes
		}
	}
	if detail&registry.DetailPulls != 0 {
		f.Downloads = r.downloads(d)
		for k, p := range r.pulls {
			if k.digest == d {
				f.LastPull = max(f.LastPull, p.At)
			}
		}
	}
	if detail&registry.DetailReferrers != 0 {
		f.Signatures = r.signatures(d)
		for _, digest := range slices.Sorted(maps.Keys(r.manifests)) {
			if x := r.manifests[digest]; x.info.Subject == d && len(f.Referrers) < registry.MaxSearchReferrers {
				f.Referrers = append(f.Referrers, x.info.Descriptor(digest, int64(len(x.bytes))))
			}
		}
	}
	return f
}

// SearchRepositories implements [registry.Search].
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
