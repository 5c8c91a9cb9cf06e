package syncer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

var errUnsigned = errors.New("the image has no signature")

// copyTag copies one tag with all it refers to. The tag is set when all is here.
func (s *Service) copyTag(ctx context.Context, t target, tag registry.Tag, pinned bool) error {
	ctx, cancel := context.WithTimeout(ctx, t.rule.Timeout)
	defer cancel()
	return s.each([]target{t}, func(t target, h *upstream.Host) error {
		c := &copying{s: s, t: t, h: h, pinned: pinned, done: make(map[registry.Digest]bool)}
		return c.tag(ctx, tag)
	})
}

// copying is one image on its way.
type copying struct {
	s      *Service
	t      target
	h      *upstream.Host
	pinned bool
	done   map[registry.Digest]bool
}

func (c *copying) tag(ctx context.Context, tag registry.Tag) error {
	if owed, err := c.s.owes(ctx, c.t.repo, tag); err != nil || owed {
		return err // what is upstream is older
	}
	if err := c.mayPut(ctx); err != nil {
		return err
	}
	// HEAD counts as no pull, and tells what is left.
	d, err := c.h.HeadManifest(ctx, c.t.remote, registry.Reference{Tag: tag})
	if err != nil {
		return err
	}
	ref := registry.Reference{Digest: d}
	if d == "" {
		ref = registry.Reference{Tag: tag}
	}
	m, err := c.manifest(ctx, ref)
	if err != nil {
		return err
	}
	if err := c.s.mayFollow(ctx, c.t, tag, m.Digest); err != nil {
		return err
	}
	if c.t.rule.OnlySigned {
		if signed, err := c.signed(ctx, m.Digest); err != nil {
			return err
		} else if !signed {
			return errUnsigned
		}
	}
	if err := c.tree(ctx, m, tag, 0); err != nil {
		return err
	}
	if c.t.rule.CosignTags {
		if err := c.cosign(ctx, m.Digest); err != nil {
			return err
		}
	}
	return c.s.store.setTag(ctx, c.t.repo, tag, seen{m.Digest, c.s.now()})
}

// manifest returns a manifest, from here if it is here.
func (c *copying) manifest(ctx context.Context, ref registry.Reference) (registry.Manifest, error) {
	if ref.Digest != "" {
		m, err := c.s.catalog.Manifest(ctx, installation, c.t.repo, registry.ManifestQuery{Ref: ref})
		if err == nil {
			return m, nil
		}
	}
	if left := c.h.Budget(); left >= 0 && left < minBudget {
		return registry.Manifest{}, registry.ErrTooManyRequests.With("the upstream registry %s allows %d more pulls, which are left to clients", c.h.Name(), left)
	}
	m, err := c.h.Manifest(ctx, c.t.remote, ref)
	if err == nil {
		c.t.rule.state.bytes.Add(m.Size)
		c.s.meters.manifests.Inc()
	}
	return m, err
}

// maxDepth is how deep indexes and referrers may lie in each other.
const maxDepth = 4

// tree copies a manifest with all below it, and what refers to it.
func (c *copying) tree(ctx context.Context, m registry.Manifest, tag registry.Tag, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s lies deeper than %d levels of manifests", m.Digest, maxDepth)
	}
	if c.done[m.Digest] {
		return nil
	}
	c.done[m.Digest] = true
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return err
	}
	platforms := c.platforms(m)
	for _, ref := range info.References {
		switch {
		case ref.Optional:
			continue
		case ref.Manifest && platforms != nil && !platforms[ref.Digest]:
			continue
		case ref.Manifest:
			err = c.child(ctx, ref, depth)
		default:
			err = c.blob(ctx, ref.Digest, ref.Size)
		}
		if err != nil {
			return err
		}
	}
	if err := c.put(ctx, m, tag); err != nil {
		return err
	}
	list, err := c.h.Referrers(ctx, c.t.remote, m.Digest)
	if err != nil {
		return err
	}
	for i, desc := range list {
		if i == maxReferrers {
			break
		}
		r, err := c.manifest(ctx, registry.Reference{Digest: desc.Digest})
		if err != nil {
			return err
		}
		if err := c.tree(ctx, r, "", depth+1); err != nil {
			return err
		}
	}
	return nil
}

// mayPut is errPushed if somebody has pushed into the repository since it was chosen to be
// copied into.
func (c *copying) mayPut(ctx context.Context) error {
	claimed, err := c.s.isClaimed(ctx, c.t.repo)
	if err == nil && claimed {
		err = registry.ErrNameUnknown.Because(errPushed)
	}
	return err
}

// put stores a manifest, and sets a tag unless it is "".
func (c *copying) put(ctx context.Context, m registry.Manifest, tag registry.Tag) error {
	if tag == "" {
		return c.s.put(ctx, c.t, m, "", registry.Condition{})
	}
	if err := c.mayPut(ctx); err != nil { // a copy may take hours
		return err
	}
	now, err := c.s.catalog.Manifest(ctx, installation, c.t.repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
	if err != nil && !errors.Is(err, registry.ErrManifestUnknown) && !errors.Is(err, registry.ErrNameUnknown) {
		return fmt.Errorf("looking where a tag points to: %w", err)
	}
	_, err = c.s.putTag(ctx, c.t, m, tag, now.Digest)
	return err
}

// child copies what an index lists: a manifest, or a blob as buildkit's caches have.
func (c *copying) child(ctx context.Context, ref registry.ManifestReference, depth int) error {
	m, err := c.manifest(ctx, registry.Reference{Digest: ref.Digest})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return c.blob(ctx, ref.Digest, ref.Size)
	}
	if err != nil {
		return err
	}
	return c.tree(ctx, m, "", depth+1)
}

// platforms returns which entries of an index the rule wants: those of its platforms
// and those without any, nil for all. Attestations belong to the image they name.
func (c *copying) platforms(m registry.Manifest) map[registry.Digest]bool {
	if len(c.t.rule.Platforms) == 0 || m.MediaType != registry.TypeIndex && m.MediaType != registry.TypeDockerList {
		return nil
	}
	var index struct {
		Manifests []registry.Descriptor `json:"manifests"`
	}
	if json.Unmarshal(m.Bytes, &index) != nil {
		return nil
	}
	want := make(map[registry.Digest]bool)
	for _, d := range index.Manifests {
		p := d.Platform
		if p == nil {
			want[d.Digest] = true
			continue
		}
		full := p.OS + "/" + p.Architecture
		for _, wanted := range c.t.rule.Platforms {
			if wanted == full || p.Variant != "" && wanted == full+"/"+p.Variant {
				want[d.Digest] = true
			}
		}
	}
	for _, d := range index.Manifests {
		if of := d.Annotations["vnd.docker.reference.digest"]; of != "" && want[registry.Digest(of)] {
			want[d.Digest] = true
		}
	}
	return want
}

// blob fetches a blob unless it is here, and waits until it is kept.
func (c *copying) blob(ctx context.Context, d registry.Digest, size int64) error {
	if _, err := c.s.catalog.Blob(ctx, installation, c.t.repo, d); err == nil {
		return nil
	}
	return c.s.whole(ctx, []target{c.t}, d, size, c.pinned)
}

// whole fetches a blob that is not here, and waits until it is kept.
func (s *Service) whole(ctx context.Context, targets []target, d registry.Digest, size int64, pinned bool) error {
	if size < 0 {
		size = -1
	}
	f, _, err := s.follow(ctx, d, targets[0].repo, targets, size, copier)
	if err != nil {
		return err
	}
	defer f.release(copier)
	if pinned {
		f.pin()
	}
	for {
		f.mu.Lock()
		ended, stored, err, changed := f.ended, f.stored, f.err, f.changed
		f.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ended && stored.Digest == "":
			return registry.ErrUnavailable.With("%s could not be stored", d)
		case ended:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// cosignTags are what old cosign calls what belongs to a manifest.
var cosignTags = []string{".sig", ".att", ".sbom"}

func cosignTag(d registry.Digest, kind string) registry.Tag {
	return registry.Tag(strings.Replace(string(d), ":", "-", 1) + kind)
}

func (c *copying) cosign(ctx context.Context, d registry.Digest) error {
	for _, kind := range cosignTags {
		tag := cosignTag(d, kind)
		m, err := c.h.Manifest(ctx, c.t.remote, registry.Reference{Tag: tag})
		if errors.Is(err, registry.ErrManifestUnknown) {
			continue
		}
		if err != nil {
			return err
		}
		if err := c.tree(ctx, m, tag, 1); errors.Is(err, errHeld) {
			continue
		} else if err != nil {
			return err
		}
		if err := c.s.store.setTag(ctx, c.t.repo, tag, seen{m.Digest, c.s.now()}); err != nil {
			return err
		}
	}
	return nil
}

// The artifact types of signatures.
var signatureTypes = []string{
	"application/vnd.dev.cosign.artifact.sig.v1+json", "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.cncf.notary.signature",
}

// signed reports whether the upstream has a signature of d, which nobody verifies.
func (c *copying) signed(ctx context.Context, d registry.Digest) (bool, error) {
	list, err := c.h.Referrers(ctx, c.t.remote, d)
	if err != nil {
		return false, err
	}
	for _, r := range list {
		if slices.Contains(signatureTypes, r.ArtifactType) {
			return true, nil
		}
	}
	_, err = c.h.HeadManifest(ctx, c.t.remote, registry.Reference{Tag: cosignTag(d, ".sig")})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return false, nil
	}
	return err == nil, err
}
