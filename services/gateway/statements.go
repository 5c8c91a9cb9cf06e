package gateway

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"

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
	maxStatement  = 4 << 20 // bytes
	maxStatements = 50      // layers
)

// saysOfAnother reports whether a manifest has nothing in it but statements. What it
// says of itself does not count: no client may be able to run it. Without the
// configuration of an image none does. With it (as cosign and buildkit have it) some
// unpack layers of any type, so these are looked at.
func (g *Gateway) saysOfAnother(x *exchange, content []byte) (bool, error) {
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
		return true, nil
	}
	if len(m.Layers) > maxStatements {
		return false, nil
	}
	for _, l := range m.Layers {
		b, err := g.small(x.context(), x, l.Digest, maxStatement)
		if err != nil || !isText(b) {
			return false, err
		}
	}
	return true, nil
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

// small returns the content of a blob, nil if the exchange's repository has no such
// blob or it is larger than limit bytes.
func (g *Gateway) small(ctx context.Context, x *exchange, d registry.Digest, limit int64) ([]byte, error) {
	if _, err := registry.ParseDigest(string(d)); err != nil {
		return nil, nil //nolint:nilerr // no blob has it
	}
	b, err := g.catalog.Blob(ctx, x.actor, x.repo, d)
	switch {
	case unknown(err), err != nil && registry.AsError(err).Code.Kind() == registry.Forbidden:
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
	r, err := g.blobs.Open(ctx, b.Stored, all)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, limit))
}
