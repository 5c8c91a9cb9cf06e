package scanner

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/bom"
)

// maxSBOM is the size of the largest bill that is handed out, in bytes: it travels in
// one message.
const maxSBOM = 4 << 20

// SBOM implements [registry.Bills]. An image that brings its own has that one.
func (s *Service) SBOM(ctx context.Context, repo registry.Name, d registry.Digest, f registry.SBOMFormat) ([]byte, error) {
	if f.MediaType() == "" {
		return nil, registry.ErrParameterInvalid.With("%q is no format of bills of materials: want %s or %s", f, registry.CycloneDX, registry.SPDX)
	}
	if _, err := s.catalog.Manifest(ctx, installation, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}, NoBytes: true}); err != nil {
		return nil, err
	}
	if b, _, err := s.attached(ctx, repo, d, f); err != nil || b != nil {
		return b, err
	}
	b, err := s.bill(ctx, repo, d, f)
	if err == nil && len(b) > maxSBOM {
		err = registry.ErrTooLarge.With("the bill of materials has %d bytes: attach it to the image and fetch it from there", len(b))
	}
	return b, err
}

// bill makes a bill.
func (s *Service) bill(ctx context.Context, repo registry.Name, d registry.Digest, f registry.SBOMFormat) ([]byte, error) {
	st, err := s.scanned(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	image, err := s.store.image(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("reading what is in an image: %w", err)
	}
	if image == nil {
		return nil, registry.ErrParameterInvalid.With("%s is an index: ask for the bill of one of its images", d)
	}
	return bom.Write(bom.Subject{Repository: repo, Digest: d, Image: image, At: time.UnixMicro(st.At), Version: s.o.Version}, f)
}

// scanned returns the status of an image when it is scanned, which it waits for.
func (s *Service) scanned(ctx context.Context, repo registry.Name, d registry.Digest) (registry.ScanStatus, error) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		st, err := s.ScanStatus(ctx, repo, d)
		switch {
		case err != nil:
			return st, err
		case st.State == registry.ScanDone:
			return st, nil
		case st.State == registry.ScanFailed, st.State == registry.ScanUnsupported, st.State == registry.ScanQueued && st.Reason != "":
			return st, registry.ErrUnavailable.With("the image can't be scanned: %s", st.Reason)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return st, registry.ErrUnavailable.With("the image is being scanned: try again").Because(ctx.Err())
		case <-s.ctx.Done():
			return st, registry.ErrUnavailable.With("the scanner is stopping")
		}
	}
}

// attached returns the bill of a format that refers to an image, and the digest of
// its manifest; nil if there is none.
func (s *Service) attached(ctx context.Context, repo registry.Name, d registry.Digest, f registry.SBOMFormat) ([]byte, registry.Digest, error) {
	list, err := s.catalog.Referrers(ctx, installation, repo, d, f.MediaType(), registry.Page[registry.Digest]{Limit: 10})
	if err != nil {
		return nil, "", fmt.Errorf("looking for a bill of materials: %w", err)
	}
	for _, r := range list.Items {
		m, err := s.catalog.Manifest(ctx, installation, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: r.Digest}})
		if err != nil {
			continue // it is gone meanwhile
		}
		var doc imgspec.Manifest
		if json.Unmarshal(m.Bytes, &doc) != nil || len(doc.Layers) != 1 || doc.Layers[0].Size > maxSBOM {
			continue
		}
		b, err := s.small(ctx, repo, doc.Layers[0].Digest)
		if errors.Is(err, registry.ErrBlobUnknown) || err == nil && !json.Valid(b) {
			continue
		}
		return b, r.Digest, err
	}
	return nil, "", nil
}

// small returns the content of a small blob.
func (s *Service) small(ctx context.Context, repo registry.Name, d registry.Digest) ([]byte, error) {
	b, err := s.catalog.Blob(ctx, installation, repo, d)
	if err != nil || b.Locator == "" {
		return b.Inline, err
	}
	if b.Size > maxSBOM {
		return nil, registry.ErrTooLarge
	}
	c, err := s.blobs.Open(ctx, b.Stored, registry.Range{Length: -1, Verify: b.Unverified})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return io.ReadAll(io.LimitReader(c, maxSBOM))
}

// emptyConfig is the config of a manifest that needs none (image-spec, "Guidance for
// an Empty Descriptor").
var emptyConfig = []byte("{}")

// AttachSBOM implements [registry.Bills]. One that is attached already is not attached
// again.
func (s *Service) AttachSBOM(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, f registry.SBOMFormat) (registry.Digest, error) {
	if f.MediaType() == "" {
		return "", registry.ErrParameterInvalid.With("%q is no format of bills of materials: want %s or %s", f, registry.CycloneDX, registry.SPDX)
	}
	if b, have, err := s.attached(ctx, repo, d, f); err != nil || b != nil {
		return have, err
	}
	subject, err := s.catalog.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}, NoBytes: true})
	if err != nil {
		return "", err
	}
	b, err := s.bill(ctx, repo, d, f)
	if err != nil {
		return "", err
	}
	layer, err := s.upload(ctx, a, repo, b, f.MediaType())
	if err != nil {
		return "", err
	}
	config, err := s.upload(ctx, a, repo, emptyConfig, imgspec.MediaTypeEmptyJSON)
	if err != nil {
		return "", err
	}
	m := imgspec.Manifest{
		MediaType: imgspec.MediaTypeImageManifest, ArtifactType: f.MediaType(), Config: config, Layers: []imgspec.Descriptor{layer},
		Subject:     &imgspec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations: map[string]string{imgspec.AnnotationTitle: "Bill of materials", imgspec.AnnotationVendor: "berth"},
	}
	m.SchemaVersion = 2
	text, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	made := registry.SHA256.FromBytes(text)
	_, err = s.catalog.PutManifest(ctx, a, repo, registry.ManifestPut{Digest: made, MediaType: m.MediaType, Bytes: text, ByDigest: true})
	if err != nil {
		return "", fmt.Errorf("attaching a bill of materials: %w", err)
	}
	return made, nil
}

// upload stores a blob in repo.
func (s *Service) upload(ctx context.Context, a registry.Actor, repo registry.Name, b []byte, mediaType string) (registry.Descriptor, error) {
	d := registry.SHA256.FromBytes(b)
	pool, err := s.catalog.Admit(ctx, a, repo)
	if err != nil {
		return registry.Descriptor{}, err
	}
	u, err := s.blobs.Start(ctx, pool, registry.SHA256)
	if err != nil {
		return registry.Descriptor{}, err
	}
	stored, err := s.blobs.Commit(ctx, u, bytes.NewReader(b), d)
	if err == nil {
		_, err = s.catalog.Link(ctx, a, repo, stored)
	}
	if err != nil {
		return registry.Descriptor{}, fmt.Errorf("storing a bill of materials: %w", err)
	}
	return registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}, nil
}
