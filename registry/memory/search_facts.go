package memory

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

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
