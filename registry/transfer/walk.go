package transfer

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// page is how long the lists are that a walk asks for.
const page = 500

// walker visits what a repository has: manifests by their tags, what indexes list,
// referrers of all of these, and the tags by which cosign refers to them.
type walker struct {
	Store
	ctx  context.Context
	repo registry.Name
	// manifest is called for each manifest once, before its content.
	manifest func(m registry.Manifest) error
	// tag is called for each tag, after its manifest was visited.
	tag func(t registry.Tag, m registry.Manifest) error
	// untagged is called for each manifest that was found as a referrer.
	untagged func(m registry.Manifest) error
	// blob is called for each blob that is there.
	blob func(b registry.Blob) error
	// missing is called for what a manifest refers to and the repository lacks.
	missing func(d registry.Digest)

	seen map[registry.Digest]bool
	tags map[registry.Tag]bool
}

func (w *walker) init() {
	if w.seen == nil {
		w.seen, w.tags = make(map[registry.Digest]bool), make(map[registry.Tag]bool)
	}
}

// all visits the whole repository, but for manifests that nothing leads to.
func (w *walker) all() error {
	w.init()
	for after := registry.Tag(""); ; {
		list, err := w.Catalog.Tags(w.ctx, w.Actor, w.repo, registry.Page[registry.Tag]{After: after, Limit: page})
		if err != nil {
			return err
		}
		for _, t := range list.Items {
			after = t
			if err := w.reference(registry.Reference{Tag: t}); err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
				return err // a tag may be removed meanwhile
			}
		}
		if !list.More {
			return nil
		}
	}
}

// reference visits what a tag or a digest names.
func (w *walker) reference(ref registry.Reference) error {
	w.init()
	if w.tags[ref.Tag] {
		return nil
	}
	m, err := w.Catalog.Manifest(w.ctx, w.Actor, w.repo, registry.ManifestQuery{Ref: ref})
	if err != nil {
		return fmt.Errorf("%s of %s: %w", ref, w.repo, err)
	}
	if err := w.visit(m); err != nil {
		return err
	}
	if ref.Tag == "" {
		return w.untagged(m)
	}
	w.tags[ref.Tag] = true
	return w.tag(ref.Tag, m)
}

// visit visits a manifest, what it needs, and what refers to it.
func (w *walker) visit(m registry.Manifest) error {
	if w.seen[m.Digest] {
		return nil
	}
	w.seen[m.Digest] = true
	if err := w.manifest(m); err != nil {
		return err
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return err
	}
	for _, ref := range info.References {
		if err := w.needed(ref); err != nil {
			return err
		}
	}
	if err := w.referrers(m.Digest); err != nil {
		return err
	}
	for _, suffix := range []string{"sig", "att", "sbom"} {
		t := registry.Tag(strings.Replace(m.Digest.String(), ":", "-", 1) + "." + suffix)
		if _, err := registry.ParseTag(string(t)); err != nil {
			continue // sha512 is too long for a tag
		}
		if err := w.reference(registry.Reference{Tag: t}); err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
			return err
		}
	}
	return nil
}

// needed visits a child or a blob.
func (w *walker) needed(ref registry.ManifestReference) error {
	if w.seen[ref.Digest] {
		return nil
	}
	if ref.Manifest {
		m, err := w.Catalog.Manifest(w.ctx, w.Actor, w.repo, registry.ManifestQuery{Ref: registry.Reference{Digest: ref.Digest}})
		if err == nil {
			return w.visit(m)
		}
		if !errors.Is(err, registry.ErrManifestUnknown) {
			return err
		}
	}
	w.seen[ref.Digest] = true
	b, err := w.Catalog.Blob(w.ctx, w.Actor, w.repo, ref.Digest)
	if errors.Is(err, registry.ErrBlobUnknown) {
		if !ref.Optional {
			w.missing(ref.Digest)
		}
		return nil
	}
	if err != nil {
		return err
	}
	return w.blob(b)
}

func (w *walker) referrers(d registry.Digest) error {
	for after := registry.Digest(""); ; {
		list, err := w.Catalog.Referrers(w.ctx, w.Actor, w.repo, d, "", registry.Page[registry.Digest]{After: after, Limit: page})
		if err != nil {
			return err
		}
		for _, r := range list.Items {
			after = r.Digest
			if w.seen[r.Digest] {
				continue
			}
			if err := w.reference(registry.Reference{Digest: r.Digest}); err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
				return err
			}
		}
		if !list.More {
			return nil
		}
	}
}
