package gate

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

// statements are the types of layers that say something of an image, and are none:
// signatures, attestations and bills of materials.
var statements = []string{
	"application/vnd.dev.cosign.simplesigning.v1+json", "application/vnd.dsse.envelope.v1+json", "application/vnd.in-toto+json", "application/jose+json", "application/cose",
	"application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle+json;version=0.2",
	"text/spdx", "text/spdx+json", "application/spdx+json", "application/vnd.cyclonedx", "application/vnd.cyclonedx+json", "application/vnd.cyclonedx+xml", "application/vnd.syft+json",
}

// Limits of a statement that is read: one that is more counts as an image.
const (
	maxStatement     = 4 << 20  // bytes of a layer
	maxStatements    = 50       // layers
	maxStatementSize = 16 << 20 // bytes of all of them
)

// look is what was found out about a blob by looking into it, which holds for ever:
// whether it is the configuration of no image, or else whether it is text.
type look struct {
	digest registry.Digest
	config bool
}

// maxLooked bounds what is remembered of blobs.
const maxLooked = 10_000

// lookAt reports what is found in a blob of repo. One that is not here, or too large, is
// nothing good, and looked for again the next time.
func (g *Gate) lookAt(ctx context.Context, a registry.Actor, repo registry.Name, l look) (good bool, err error) {
	g.mu.Lock()
	good, known := g.looked[l]
	g.mu.Unlock()
	if known {
		return good, nil
	}
	b, err := Small(ctx, g.d.Catalog, g.d.Blobs, a, repo, l.digest, maxStatement)
	if err != nil || b == nil {
		return false, err
	}
	if good = isText(b); l.config {
		good = isNoImage(b)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.looked) >= maxLooked {
		clear(g.looked)
	}
	g.looked[l] = good
	return good, nil
}

// saysOfAnother reports whether a manifest has nothing in it but statements. What it
// says of itself does not count: no client may be able to run it. Without the
// configuration of an image none does, but for some (Docker before 23) the configuration
// may have any type, so it is looked at. With it (as cosign and buildkit have it) some
// unpack layers of any type, so these are looked at.
func (g *Gate) saysOfAnother(ctx context.Context, a registry.Actor, repo registry.Name, content []byte) (bool, error) {
	var m struct {
		MediaType string                `json:"mediaType"`
		Config    registry.Descriptor   `json:"config"`
		Layers    []registry.Descriptor `json:"layers"`
		Manifests json.RawMessage       `json:"manifests"`
	}
	if err := json.Unmarshal(content, &m); err != nil || len(m.Layers) == 0 || m.Manifests != nil {
		return false, nil //nolint:nilerr // it is no statement then
	}
	if slices.ContainsFunc(m.Layers, func(l registry.Descriptor) bool { return !slices.Contains(statements, l.MediaType) }) {
		return false, nil
	}
	if t := m.Config.MediaType; m.MediaType == registry.TypeManifest && t != imgspec.MediaTypeImageConfig && t != "" {
		if good, err := g.lookAt(ctx, a, repo, look{m.Config.Digest, true}); err != nil || good {
			return good, err
		}
	}
	// The catalog has compared the sizes with the blobs, unless it was told not to.
	size := int64(0)
	for _, l := range m.Layers {
		size += min(max(l.Size, 0), maxStatementSize+1)
	}
	if len(m.Layers) > maxStatements || size > maxStatementSize {
		return false, nil
	}
	for _, l := range m.Layers {
		if good, err := g.lookAt(ctx, a, repo, look{l.Digest, false}); err != nil || !good {
			return false, err
		}
	}
	return true, nil
}

// runs reports whether some client may run what a manifest has in it: its configuration is
// that of an image, by its type or by what is in it. An index has none: what it lists is
// decided for itself.
func (g *Gate) runs(ctx context.Context, a registry.Actor, repo registry.Name, content []byte) (bool, error) {
	var m struct {
		Config registry.Descriptor `json:"config"`
	}
	if json.Unmarshal(content, &m) != nil {
		return true, nil
	}
	switch m.Config.MediaType {
	case imgspec.MediaTypeImageConfig, "application/vnd.docker.container.image.v1+json":
		return true, nil
	}
	if m.Config.Digest == "" {
		return false, nil
	}
	good, err := g.lookAt(ctx, a, repo, look{m.Config.Digest, true})
	return err == nil && !good, err
}

// isNoImage reports whether b is JSON that no client takes for the configuration of an
// image: it does not name the layers.
func isNoImage(b []byte) bool {
	var members map[string]json.RawMessage
	if json.Unmarshal(b, &members) != nil {
		return false
	}
	for name := range members {
		if strings.EqualFold(name, "rootfs") { // as clients in Go read it
			return false
		}
	}
	return true
}

// isText reports whether b is JSON, and nothing that anybody unpacks: compressed
// archives are no JSON, and a plain one has a header that is right.
func isText(b []byte) bool {
	if !json.Valid(b) {
		return false
	}
	_, err := tar.NewReader(bytes.NewReader(b)).Next()
	return err != nil
}

// Small returns the content of a blob of repo that a may read; nil if there is none
// such, or it is larger than limit bytes.
func Small(ctx context.Context, c registry.Links, blobs registry.BlobReader, a registry.Actor, repo registry.Name, d registry.Digest, limit int64) ([]byte, error) {
	if _, err := registry.ParseDigest(string(d)); err != nil {
		return nil, nil //nolint:nilerr // no blob has it
	}
	b, err := c.Blob(ctx, a, repo, d)
	switch {
	case err != nil && absent(err):
		return nil, nil
	case err != nil:
		return nil, err
	case b.Inline != nil:
		return b.Inline, nil
	case b.Size > limit:
		return nil, nil
	}
	all := registry.Whole
	all.Verify = b.Unverified
	r, err := blobs.Open(ctx, b.Stored, all)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}

// absent reports whether an error says that there is no such content, or none for who
// asks.
func absent(err error) bool {
	return errors.Is(err, registry.ErrNameUnknown) || errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrBlobUnknown) ||
		registry.AsError(err).Code.Kind() == registry.Forbidden
}
