package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Limits of one image: what is beyond them is not looked at, and so not trusted.
const (
	maxSignatures = 200     // and as many manifests that have, or should have, some
	maxEnvelope   = 1 << 20 // bytes
)

// Signature is a signature of an image.
type Signature = registry.Signature

// Verifier reads signatures from a registry. Its methods may be called by many
// goroutines.
type Verifier struct {
	Catalog interface {
		registry.Manifests
		registry.Links
	}
	Blobs registry.BlobReader
	Now   func() time.Time // nil means time.Now
}

// Signatures returns the signatures of the manifest d of repo that a may see, and
// whether each is trusted by keys. Neither tool: all of them.
func (v *Verifier) Signatures(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, keys *Keys) ([]Signature, error) {
	image, err := v.Catalog.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
	if err != nil {
		return nil, fmt.Errorf("reading a manifest whose signatures are wanted: %w", err)
	}
	s := &search{v: v, a: a, repo: repo, image: image, keys: keys}
	tag := registry.Tag(strings.Replace(string(d), ":", "-", 1) + ".sig")
	m, err := v.Catalog.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
	switch {
	case err == nil:
		if err := s.manifest(ctx, m); err != nil {
			return nil, err
		}
	case !errors.Is(err, registry.ErrManifestUnknown):
		return nil, fmt.Errorf("reading a signature: %w", err)
	}
	p := registry.Page[registry.Digest]{Limit: maxSignatures}
	for read := 0; read < maxSignatures && len(s.found) < maxSignatures; {
		list, err := v.Catalog.Referrers(ctx, a, repo, d, "", p)
		if err != nil {
			return nil, fmt.Errorf("listing signatures: %w", err)
		}
		for _, r := range list.Items {
			p.After = r.Digest
			if r.ArtifactType != typeCosignArtifact && r.ArtifactType != typeNotation && !strings.HasPrefix(r.ArtifactType, typeBundlePrefix) || len(s.found) >= maxSignatures || read >= maxSignatures {
				continue
			}
			read++
			m, err := v.Catalog.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: r.Digest}})
			if errors.Is(err, registry.ErrManifestUnknown) {
				continue // removed meanwhile
			}
			if err != nil {
				return nil, fmt.Errorf("reading a signature: %w", err)
			}
			if err := s.manifest(ctx, m); err != nil {
				return nil, err
			}
		}
		if !list.More || len(list.Items) == 0 {
			break
		}
	}
	return s.found, nil
}

// search looks for the signatures of one image.
type search struct {
	v     *Verifier
	a     registry.Actor
	repo  registry.Name
	image registry.Manifest
	keys  *Keys
	found []Signature
}

// manifest verifies the signatures in a manifest.
func (s *search) manifest(ctx context.Context, m registry.Manifest) error {
	var sig struct {
		ArtifactType string                `json:"artifactType"`
		Config       registry.Descriptor   `json:"config"`
		Layers       []registry.Descriptor `json:"layers"`
	}
	if err := json.Unmarshal(m.Bytes, &sig); err != nil {
		s.add(m.Digest, registry.ToolCosign, "", errMalformed)
		return nil //nolint:nilerr // told
	}
	for _, l := range sig.Layers {
		var verify func(content []byte) (string, error)
		tool := registry.ToolCosign
		switch {
		case l.MediaType == typeSimpleSigning:
			verify = func(b []byte) (string, error) {
				return s.keys.simple(s.image.Digest, b, l.Annotations[signatureKey], annotatedProof(l.Annotations), s.v.now())
			}
		case strings.HasPrefix(l.MediaType, typeBundlePrefix):
			verify = func(b []byte) (string, error) { return s.keys.bundle(s.image.Digest, s.image.Bytes, b, s.v.now()) }
		case sig.ArtifactType == typeNotation || sig.Config.MediaType == typeNotation:
			tool = registry.ToolNotation
			d := registry.Descriptor{MediaType: s.image.MediaType, Digest: s.image.Digest, Size: s.image.Size}
			verify = func(b []byte) (string, error) {
				if l.MediaType != typeJWS {
					return "", errors.New("envelopes of this type are not read: " + l.MediaType)
				}
				return s.keys.jws(d, b, s.v.now())
			}
		default:
			continue
		}
		if len(s.found) >= maxSignatures {
			return nil
		}
		content, err := s.read(ctx, l)
		var author string
		if err == nil {
			author, err = verify(content)
		} else if !isVerdict(err) {
			return err
		}
		s.add(m.Digest, tool, author, err)
	}
	return nil
}

func (s *search) add(in registry.Digest, tool, author string, err error) {
	found := Signature{Tool: tool, Manifest: in, Trusted: err == nil, Author: author}
	if err != nil {
		found.Problem, found.Author = err.Error(), ""
	}
	s.found = append(s.found, found)
}

// isVerdict reports whether an error says something about the signature, and not
// about the registry.
func isVerdict(err error) bool {
	return errors.Is(err, errMalformed) || errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrDigestInvalid)
}

// read returns the content of a layer, which is compared with its digest.
func (s *search) read(ctx context.Context, l registry.Descriptor) ([]byte, error) {
	d, err := registry.ParseDigest(string(l.Digest))
	if err != nil || l.Size > maxEnvelope {
		return nil, errMalformed
	}
	b, err := s.v.Catalog.Blob(ctx, s.a, s.repo, d)
	if err != nil {
		return nil, fmt.Errorf("reading a signature: %w", err)
	}
	content := b.Inline
	if content == nil {
		if b.Size > maxEnvelope {
			return nil, errMalformed
		}
		r, err := s.v.Blobs.Open(ctx, b.Stored, registry.Whole)
		if err != nil {
			return nil, fmt.Errorf("reading a signature: %w", err)
		}
		defer r.Close()
		if content, err = io.ReadAll(io.LimitReader(r, maxEnvelope)); err != nil {
			return nil, fmt.Errorf("reading a signature: %w", err)
		}
	}
	if d.Algorithm().FromBytes(content) != d {
		return nil, errMalformed
	}
	return content, nil
}

func (v *Verifier) now() time.Time {
	if v.Now == nil {
		return time.Now()
	}
	return v.Now()
}
