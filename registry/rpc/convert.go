package rpc

import (
	"math"
	"strings"

	blobstorev1 "github.com/berth-registry/berth/proto/gen/berth/blobstore/v1"
	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
)

// Values that a client sends us may be anything; the ports expect well-formed
// ones. The functions named parse check, the others only translate.

// text returns a string that protobuf can carry. What is not UTF-8 can be no
// name, media type or digest, and is none afterwards; since those are ASCII, it
// sorts behind all of them before and after.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

func size32(n int) int32 { return int32(max(math.MinInt32, min(n, math.MaxInt32))) }

func storedToWire(s registry.Stored) *blobstorev1.Stored {
	return &blobstorev1.Stored{
		Digest:  text(s.Digest.String()),
		Size:    s.Size,
		Pool:    text(string(s.Pool)),
		Locator: []byte(s.Locator),
	}
}

func storedFromWire(s *blobstorev1.Stored) registry.Stored {
	return registry.Stored{
		Digest:  registry.Digest(s.GetDigest()),
		Size:    s.GetSize(),
		Pool:    registry.Pool(s.GetPool()),
		Locator: registry.Locator(s.GetLocator()),
	}
}

func parseStored(s *blobstorev1.Stored) (registry.Stored, error) {
	if _, err := registry.ParseDigest(s.GetDigest()); err != nil {
		return registry.Stored{}, err
	}
	return storedFromWire(s), nil
}

func uploadToWire(u registry.Upload) *blobstorev1.Upload {
	return &blobstorev1.Upload{Id: text(string(u.ID)), Pool: text(string(u.Pool)), Offset: u.Offset}
}

func uploadFromWire(u *blobstorev1.Upload) registry.Upload {
	return registry.Upload{
		ID:     registry.UploadID(u.GetId()),
		Pool:   registry.Pool(u.GetPool()),
		Offset: u.GetOffset(),
	}
}

func parseUpload(u *blobstorev1.Upload) (registry.Upload, error) {
	if _, err := registry.ParseUploadID(u.GetId()); err != nil {
		return registry.Upload{}, err
	}
	return uploadFromWire(u), nil
}

func pageToWire[T ~string](p registry.Page[T]) *metadatav1.Page {
	return &metadatav1.Page{After: text(string(p.After)), Limit: size32(p.Limit)}
}

func pageFromWire[T ~string](p *metadatav1.Page) registry.Page[T] {
	return registry.Page[T]{After: T(p.GetAfter()), Limit: int(p.GetLimit())}
}

func listFromWire[T ~string](items []string, more bool) registry.List[T] {
	return registry.List[T]{Items: fromStrings[T](items), More: more}
}

func toStrings[T ~string](in []T) []string {
	if in == nil {
		return nil
	}
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = text(string(s))
	}
	return out
}

func fromStrings[T ~string](in []string) []T {
	if in == nil {
		return nil
	}
	out := make([]T, len(in))
	for i, s := range in {
		out[i] = T(s)
	}
	return out
}

func referenceToWire(r registry.Reference) *metadatav1.Reference {
	if r.Digest != "" {
		return &metadatav1.Reference{Name: &metadatav1.Reference_Digest{Digest: text(r.Digest.String())}}
	}
	return &metadatav1.Reference{Name: &metadatav1.Reference_Tag{Tag: text(string(r.Tag))}}
}

func parseReference(r *metadatav1.Reference) (registry.Reference, error) {
	if _, ok := r.GetName().(*metadatav1.Reference_Digest); ok {
		d, err := registry.ParseDigest(r.GetDigest())
		return registry.Reference{Digest: d}, err
	}
	t, err := registry.ParseTag(r.GetTag())
	return registry.Reference{Tag: t}, err
}

func conditionToWire(c registry.Condition) *metadatav1.Condition {
	return &metadatav1.Condition{Match: text(c.Match.String()), Absent: c.Absent}
}

func parseCondition(c *metadatav1.Condition) (registry.Condition, error) {
	match, err := parseOptionalDigest(c.GetMatch())
	return registry.Condition{Match: match, Absent: c.GetAbsent()}, err
}

func parseOptionalDigest(s string) (registry.Digest, error) {
	if s == "" {
		return "", nil
	}
	return registry.ParseDigest(s)
}

func infoToWire(m registry.ManifestInfo) *metadatav1.PutManifestResponse {
	w := &metadatav1.PutManifestResponse{
		MediaType:    text(m.MediaType),
		ArtifactType: text(m.ArtifactType),
		Annotations:  annotationsToWire(m.Annotations),
		Subject:      text(m.Subject.String()),
		References:   make([]*metadatav1.ManifestReference, len(m.References)),
	}
	for i, r := range m.References {
		w.References[i] = &metadatav1.ManifestReference{
			Digest:   text(r.Digest.String()),
			Size:     r.Size,
			Manifest: r.Manifest,
			Optional: r.Optional,
		}
	}
	return w
}

func infoFromWire(w *metadatav1.PutManifestResponse) registry.ManifestInfo {
	m := registry.ManifestInfo{
		MediaType:    w.GetMediaType(),
		ArtifactType: w.GetArtifactType(),
		Annotations:  w.GetAnnotations(),
		Subject:      registry.Digest(w.GetSubject()),
		References:   make([]registry.ManifestReference, len(w.GetReferences())),
	}
	for i, r := range w.GetReferences() {
		m.References[i] = registry.ManifestReference{
			Digest:   registry.Digest(r.GetDigest()),
			Size:     r.GetSize(),
			Manifest: r.GetManifest(),
			Optional: r.GetOptional(),
		}
	}
	return m
}

func annotationsToWire(in map[string]string) map[string]string {
	if in == nil {
		return nil
	}
	out := make(map[string]string, len(in))
	for k, v := range in {
		out[text(k)] = text(v)
	}
	return out
}

func descriptorToWire(d registry.Descriptor) *metadatav1.Descriptor {
	return &metadatav1.Descriptor{
		MediaType:    text(d.MediaType),
		Digest:       text(d.Digest.String()),
		Size:         d.Size,
		ArtifactType: text(d.ArtifactType),
		Annotations:  annotationsToWire(d.Annotations),
	}
}

func descriptorFromWire(w *metadatav1.Descriptor) registry.Descriptor {
	return registry.Descriptor{
		MediaType:    w.GetMediaType(),
		Digest:       registry.Digest(w.GetDigest()),
		Size:         w.GetSize(),
		ArtifactType: w.GetArtifactType(),
		Annotations:  w.GetAnnotations(),
	}
}
