package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

// Store is the registry at the one end.
type Store struct {
	Blobs   registry.Blobs
	Catalog registry.Catalog
	Actor   registry.Actor // on whose behalf
}

// Import puts images into a registry. What is there already is left out, so an
// interrupted import is continued by the next one.
type Import struct {
	Store Store
	// Repo is where images go that have no name of their own, and below which those
	// go that have one. "" if all have one.
	Repo registry.Name
	// Verify is the key that the source must be signed with. nil: any source.
	Verify *Key
	// Failed is told of an image that can't be imported because of what it is; the
	// rest is. nil: the first one ends the import.
	Failed func(error)
	// Progress is told of each image. nil: nobody wants to know.
	Progress func(Progress)
}

// Progress is what was done so far.
type Progress struct {
	Repo      registry.Name
	Tag       registry.Tag
	Digest    registry.Digest
	Manifests int
	Blobs     int   // that were moved
	Bytes     int64 // of these
	Present   int   // blobs that were there
}

// maxNesting is how deep indexes may lie in each other.
const maxNesting = 32

// importing is one run of an Import.
type importing struct {
	*Import
	ctx  context.Context
	done Progress
	seen map[seenKey]bool
}

type seenKey struct {
	repo   registry.Name
	digest registry.Digest
}

// Run imports a directory or an archive.
func (i *Import) Run(ctx context.Context, source string) (Progress, error) {
	src, err := openFiles(source)
	if err != nil {
		return Progress{}, err
	}
	defer src.Close()
	return i.run(ctx, src)
}

// RunFrom imports what a source holds that the caller has opened.
func (i *Import) RunFrom(ctx context.Context, src Files) (Progress, error) {
	return i.run(ctx, remote{src})
}

func (i *Import) run(ctx context.Context, src files) (Progress, error) {
	bundles, err := read(src, i.Verify)
	if err != nil {
		return Progress{}, err
	}
	r := &importing{Import: i, ctx: ctx, seen: make(map[seenKey]bool)}
	for _, b := range bundles {
		for _, img := range b.images {
			err := r.image(b, img)
			if err != nil && r.Failed != nil && ctx.Err() == nil && ofImage(err) {
				r.Failed(err)
				continue
			}
			if err != nil {
				return r.done, err
			}
		}
	}
	return r.done, nil
}

// ofImage reports whether an error says something of an image rather than of the
// registry.
func ofImage(err error) bool {
	for _, e := range []error{
		fs.ErrNotExist, ErrMalformed, registry.ErrManifestBlobUnknown, registry.ErrManifestInvalid, registry.ErrDigestInvalid,
		registry.ErrMediaTypeUnsupported, registry.ErrTooLarge,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (r *importing) image(b bundle, img image) error {
	repo := img.repo
	switch {
	case repo == "":
		repo = r.Repo
	case r.Repo != "" && b.dir != "":
		name, err := registry.ParseName(path.Join(string(r.Repo), string(repo)))
		if err != nil {
			return err
		}
		repo = name
	case r.Repo != "":
		repo = r.Repo
	}
	if repo == "" {
		return errors.New("the source does not say which repository its images are of: name one with --repo")
	}
	var tags []registry.Tag
	if img.tag != "" {
		tags = []registry.Tag{img.tag}
	}
	if err := r.manifest(b, repo, img.Descriptor, tags, 0); err != nil {
		return fmt.Errorf("importing %s to %s: %w", img.Digest, repo, err)
	}
	r.done.Repo, r.done.Tag, r.done.Digest = repo, img.tag, img.Digest
	if r.Progress != nil {
		r.Progress(r.done)
	}
	return nil
}

// manifest stores a manifest, what it needs first.
func (r *importing) manifest(b bundle, repo registry.Name, d registry.Descriptor, tags []registry.Tag, depth int) error {
	key := seenKey{repo, d.Digest}
	if r.seen[key] && len(tags) == 0 {
		return nil
	}
	if depth > maxNesting {
		return malformed("indexes lie more than %d deep in each other", maxNesting)
	}
	raw, err := r.read(b, repo, d)
	if err != nil {
		return err
	}
	mediaType := typeOf(d.MediaType, raw)
	info, err := registry.ParseManifest(mediaType, raw)
	if err != nil {
		return err
	}
	if !r.seen[key] {
		if err := r.needs(b, repo, raw, info, depth); err != nil {
			return err
		}
	}
	_, err = r.Store.Catalog.PutManifest(r.ctx, r.Store.Actor, repo, registry.ManifestPut{Digest: d.Digest, MediaType: mediaType, Bytes: raw, Tags: tags})
	if err != nil {
		return err
	}
	if !r.seen[key] {
		r.done.Manifests++
	}
	r.seen[key] = true
	return nil
}

// read returns the bytes of a manifest, from the source or, of what the source
// leaves out because we have it, from the registry.
func (r *importing) read(b bundle, repo registry.Name, d registry.Descriptor) ([]byte, error) {
	raw, err := readManifestOf(b, d)
	if !errors.Is(err, fs.ErrNotExist) {
		return raw, err
	}
	m, here := r.Store.Catalog.Manifest(r.ctx, r.Store.Actor, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d.Digest}})
	if errors.Is(here, registry.ErrManifestUnknown) || errors.Is(here, registry.ErrNameUnknown) {
		return nil, err
	}
	return m.Bytes, here
}

// readManifestOf returns the bytes of a manifest, which hash to its digest.
func readManifestOf(b bundle, d registry.Descriptor) ([]byte, error) {
	content, size, err := b.open(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("manifest %s is not in the source: %w", d.Digest, err)
	}
	if err != nil {
		return nil, err
	}
	defer content.Close()
	if size > registry.MaxManifest {
		return nil, registry.ErrTooLarge.With("manifest %s is larger than %d bytes", d.Digest, registry.MaxManifest)
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(content, raw); err != nil {
		return nil, err
	}
	if d.Digest.Algorithm().FromBytes(raw) != d.Digest {
		return nil, registry.ErrDigestInvalid.With("manifest %s is damaged in the source", d.Digest)
	}
	return raw, nil
}

// typeOf returns the media type of a manifest: what its descriptor says or, as
// some tools leave that out, what it says itself.
func typeOf(said string, raw []byte) string {
	var m struct {
		MediaType string
		Manifests json.RawMessage
	}
	switch err := json.Unmarshal(raw, &m); {
	case said != "":
		return said
	case err == nil && m.MediaType != "":
		return m.MediaType
	case m.Manifests != nil:
		return registry.TypeIndex
	}
	return registry.TypeManifest
}

// needs brings what a manifest refers to.
func (r *importing) needs(b bundle, repo registry.Name, raw []byte, info registry.ManifestInfo, depth int) error {
	types := childTypes(raw)
	for _, ref := range info.References {
		if ref.Manifest && isManifest(types[ref.Digest]) {
			err := r.child(b, repo, registry.Descriptor{MediaType: types[ref.Digest], Digest: ref.Digest}, depth)
			if err != nil {
				return err
			}
			continue
		}
		if err := r.blob(b, repo, ref); err != nil {
			return fmt.Errorf("blob %s: %w", ref.Digest, err)
		}
	}
	return nil
}

// child stores a manifest that an index lists, if the source has it. If neither
// has it, the registry says so of the index.
func (r *importing) child(b bundle, repo registry.Name, d registry.Descriptor, depth int) error {
	content, _, err := b.open(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	content.Close()
	return r.manifest(b, repo, d, nil, depth+1)
}

func isManifest(t string) bool {
	switch t {
	case registry.TypeManifest, registry.TypeIndex, registry.TypeDockerManifest, registry.TypeDockerList:
		return true
	}
	return false
}

// childTypes returns the media types of what an index lists.
func childTypes(raw []byte) map[registry.Digest]string {
	var index imgspec.Index
	if json.Unmarshal(raw, &index) != nil {
		return nil
	}
	types := make(map[registry.Digest]string, len(index.Manifests))
	for _, d := range index.Manifests {
		types[d.Digest] = d.MediaType
	}
	return types
}

// blob makes a blob known in repo: it may be there, or elsewhere in the registry,
// or in the source. What is nowhere is left to the registry to refuse.
func (r *importing) blob(b bundle, repo registry.Name, ref registry.ManifestReference) error {
	key := seenKey{repo, ref.Digest}
	if r.seen[key] {
		return nil
	}
	switch _, err := r.Store.Catalog.Mount(r.ctx, r.Store.Actor, repo, ref.Digest, ""); {
	case err == nil:
		r.seen[key] = true
		r.done.Present++
		return nil
	case !errors.Is(err, registry.ErrBlobUnknown):
		return err
	}
	content, size, err := b.open(ref.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer content.Close()
	if err := r.upload(repo, content, ref.Digest); err != nil {
		return err
	}
	r.seen[key] = true
	r.done.Blobs++
	r.done.Bytes += size
	return nil
}

func (r *importing) upload(repo registry.Name, content io.Reader, d registry.Digest) error {
	pool, err := r.Store.Catalog.Admit(r.ctx, r.Store.Actor, repo)
	if err != nil {
		return err
	}
	u, err := r.Store.Blobs.Start(r.ctx, pool, d.Algorithm())
	if err != nil {
		return err
	}
	s, err := r.Store.Blobs.Commit(r.ctx, u, content, d)
	if err != nil {
		return errors.Join(err, r.Store.Blobs.Abort(context.WithoutCancel(r.ctx), u))
	}
	_, err = r.Store.Catalog.Link(r.ctx, r.Store.Actor, repo, s)
	return err
}
