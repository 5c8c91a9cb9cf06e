package client

import (
	"context"
	"fmt"
	"io"

	"github.com/berth-registry/berth/registry"
)

// Upload stores the bytes of r, which must hash to want, and makes them known in
// repo. When it returns without error they are durable. Both services must trust
// the client with bytes: automation's certificates are not, they push over HTTP.
//
// An upload that fails is given up; the blobstore removes what came of it.
func Upload(ctx context.Context, blobs registry.Uploads, catalog registry.Catalog, a registry.Actor, repo registry.Name, r io.Reader, want registry.Digest) (registry.Stored, error) {
	if _, err := registry.ParseDigest(want.String()); err != nil {
		return registry.Stored{}, err
	}
	pool, err := catalog.Admit(ctx, a, repo)
	if err != nil {
		return registry.Stored{}, fmt.Errorf("uploading to %s: %w", repo, err)
	}
	u, err := blobs.Start(ctx, pool, want.Algorithm())
	if err != nil {
		return registry.Stored{}, fmt.Errorf("starting an upload to %s: %w", repo, err)
	}
	s, err := blobs.Commit(ctx, u, r, want)
	if err != nil {
		return registry.Stored{}, fmt.Errorf("uploading %s: %w", want, err)
	}
	if s, err = catalog.Link(ctx, a, repo, s); err != nil {
		return registry.Stored{}, fmt.Errorf("linking %s to %s: %w", want, repo, err)
	}
	return s, nil
}

// PushManifest stores a manifest, whose content repo must know, and points the
// tags to it: all or nothing. It returns the manifest's digest.
func PushManifest(ctx context.Context, c registry.Manifests, a registry.Actor, repo registry.Name, mediaType string, manifest []byte, tags ...registry.Tag) (registry.Digest, error) {
	d := registry.SHA256.FromBytes(manifest)
	_, err := c.PutManifest(ctx, a, repo, registry.ManifestPut{Digest: d, MediaType: mediaType, Bytes: manifest, Tags: tags})
	if err != nil {
		return "", fmt.Errorf("pushing a manifest to %s: %w", repo, err)
	}
	return d, nil
}

// Retag points a tag to the manifest that another reference of repo names now.
// It returns the manifest's digest.
func Retag(ctx context.Context, c registry.Manifests, a registry.Actor, repo registry.Name, from registry.Reference, to registry.Tag) (registry.Digest, error) {
	m, err := c.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: from})
	if err != nil {
		return "", fmt.Errorf("looking up %s in %s: %w", from, repo, err)
	}
	_, err = c.PutManifest(ctx, a, repo, registry.ManifestPut{Digest: m.Digest, MediaType: m.MediaType, Bytes: m.Bytes, Tags: []registry.Tag{to}})
	if err != nil {
		return "", fmt.Errorf("tagging %s in %s: %w", m.Digest, repo, err)
	}
	return m.Digest, nil
}
