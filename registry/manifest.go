package registry

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifest is the size of the largest manifest, in bytes (distribution-spec,
// "Pushing Manifests": a registry should take at least 4 MiB).
const MaxManifest = 4 << 20

// MaxDescriptors is how many descriptors one manifest may hold.
const MaxDescriptors = 10_000

// The media types of manifests that Berth stores.
const (
	TypeManifest       = imgspec.MediaTypeImageManifest
	TypeIndex          = imgspec.MediaTypeImageIndex
	TypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	TypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// Descriptor describes content by media type, digest and size (image-spec,
// descriptor.md).
type Descriptor = imgspec.Descriptor

// ManifestInfo is what a registry needs to know of a manifest's content.
type ManifestInfo struct {
	MediaType string
	// ArtifactType is the manifest's own, or else its config's media type.
	ArtifactType string
	Annotations  map[string]string
	// Subject is the manifest that this one refers to, "" if none.
	Subject Digest
	// References are the config, layers or index entries, each digest once, in
	// the order of the manifest.
	References []ManifestReference
}

// ManifestReference is content that a manifest needs.
type ManifestReference struct {
	Digest Digest
	Size   int64
	// Manifest reports whether it is listed by an index. It may still be a blob:
	// buildkit lists cache layers in an index.
	Manifest bool
	// Optional content need not be in the registry: layers whose media type says
	// that they are fetched from elsewhere.
	Optional bool
}

// CheckSize returns [ErrManifestInvalid] if the registry has the content with a
// size other than the one that the manifest tells its readers. What is fetched
// from elsewhere may have any.
func (r ManifestReference) CheckSize(size int64) error {
	if r.Optional || r.Size == size {
		return nil
	}
	return ErrManifestInvalid.With("%s is %d bytes long, not %d as the manifest says", r.Digest, size, r.Size)
}

// manifestJSON covers the image manifest, the index, and docker's two forms.
type manifestJSON struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     *string           `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`

	// Members that tell a manifest of another kind.
	FSLayers json.RawMessage `json:"fsLayers"`
}

// ParseManifest reads a manifest of the given media type. It returns
// [ErrMediaTypeUnsupported] for a type that is not one of the four,
// [ErrTooLarge] beyond [MaxManifest], [ErrDigestInvalid] for a descriptor whose
// digest is malformed, and [ErrManifestInvalid] for bytes that are not a manifest
// of that type, for no type, and for the two artifact types that OCI 1.1 dropped. Unknown members, media types and annotations are allowed.
func ParseManifest(mediaType string, b []byte) (ManifestInfo, error) {
	switch mediaType {
	case TypeManifest, TypeDockerManifest, TypeIndex, TypeDockerList:
	default:
		return ManifestInfo{}, unsupportedType(mediaType)
	}
	if len(b) > MaxManifest {
		return ManifestInfo{}, ErrTooLarge.With("manifest is larger than %d bytes", MaxManifest)
	}
	if !utf8.Valid(b) {
		return ManifestInfo{}, ErrManifestInvalid.With("manifest is not UTF-8")
	}
	if err := checkMembers(b); err != nil {
		return ManifestInfo{}, err
	}
	var m manifestJSON
	if err := json.Unmarshal(b, &m); err != nil {
		return ManifestInfo{}, ErrManifestInvalid.With("manifest is not valid JSON: %v", err)
	}
	if err := m.check(mediaType); err != nil {
		return ManifestInfo{}, err
	}
	info := ManifestInfo{
		MediaType:    mediaType,
		ArtifactType: m.ArtifactType,
		Annotations:  m.Annotations,
	}
	if m.Subject != nil {
		info.Subject = m.Subject.Digest
	}
	if m.Config != nil && info.ArtifactType == "" && !isIndex(mediaType) {
		info.ArtifactType = m.Config.MediaType
	}
	var err error
	info.References, err = m.references(mediaType)
	return info, err
}

// Descriptor returns how a referrers list shows the manifest with digest d and
// the given size.
func (m ManifestInfo) Descriptor(d Digest, size int64) Descriptor {
	return Descriptor{
		MediaType:    m.MediaType,
		Digest:       d,
		Size:         size,
		ArtifactType: m.ArtifactType,
		Annotations:  maps.Clone(m.Annotations),
	}
}

func isIndex(mediaType string) bool {
	return mediaType == TypeIndex || mediaType == TypeDockerList
}

func unsupportedType(mediaType string) error {
	switch {
	case strings.HasPrefix(mediaType, "application/vnd.docker.distribution.manifest.v1+"):
		return ErrMediaTypeUnsupported.With("docker image manifest schema 1 is not supported: push again with docker 1.10 or later, or convert with skopeo copy --format v2s2")
	case mediaType == "application/vnd.oci.artifact.manifest.v1+json",
		mediaType == "application/vnd.cncf.oras.artifact.manifest.v1+json":
		return ErrManifestInvalid.With("media type %s was dropped before OCI 1.1: push an image manifest with artifactType", mediaType)
	case mediaType == "":
		return ErrManifestInvalid.With("a manifest needs a Content-Type")
	}
	return ErrMediaTypeUnsupported.Detailed(map[string]string{"mediaType": mediaType})
}

// check refuses what is not a manifest of the type it claims to be. A manifest
// that could be read as two kinds would mean different things to different
// clients (CVE-2021-41190).
func (m *manifestJSON) check(mediaType string) error {
	if m.FSLayers != nil {
		return ErrManifestInvalid.With("docker image manifest schema 1 is not supported")
	}
	if m.SchemaVersion != 2 {
		return ErrManifestInvalid.With("schemaVersion must be 2")
	}
	if m.MediaType != nil && *m.MediaType != mediaType {
		return ErrManifestInvalid.With("mediaType %q differs from the Content-Type %q", *m.MediaType, mediaType)
	}
	if m.MediaType == nil && (mediaType == TypeDockerManifest || mediaType == TypeDockerList) {
		return ErrManifestInvalid.With("a docker manifest needs mediaType")
	}
	if isIndex(mediaType) {
		if m.Manifests == nil || m.Layers != nil || m.Config != nil {
			return ErrManifestInvalid.With("an index has manifests, and neither config nor layers")
		}
	} else if m.Config == nil || m.Manifests != nil {
		return ErrManifestInvalid.With("an image manifest has config, and no manifests")
	}
	if n := len(m.Layers) + len(m.Manifests); n > MaxDescriptors {
		return ErrManifestInvalid.With("manifest has more than %d descriptors", MaxDescriptors)
	}
	if m.Subject != nil {
		return checkDescriptor("subject", *m.Subject)
	}
	return nil
}

func checkDescriptor(where string, d Descriptor) error {
	if d.Digest == "" {
		return ErrManifestInvalid.With("%s: no digest", where)
	}
	if _, err := ParseDigest(d.Digest.String()); err != nil {
		return ErrDigestInvalid.With("%s: %s", where, AsError(err).Text())
	}
	if d.Size < 0 {
		return ErrManifestInvalid.With("%s: negative size", where)
	}
	if !validMediaType(d.MediaType) {
		return ErrManifestInvalid.With("%s: %q is not a media type", where, d.MediaType)
	}
	return nil
}

func (m *manifestJSON) references(mediaType string) ([]ManifestReference, error) {
	refs := make([]ManifestReference, 0, len(m.Layers)+len(m.Manifests)+1)
	seen := make(map[Digest]int, cap(refs))
	add := func(where string, d Descriptor) error {
		if err := checkDescriptor(where, d); err != nil {
			return err
		}
		r := ManifestReference{Digest: d.Digest, Size: d.Size, Manifest: isIndex(mediaType), Optional: isForeign(d.MediaType)}
		if i, ok := seen[d.Digest]; ok {
			old := &refs[i]
			switch {
			case old.Size == r.Size:
			case old.Optional:
				old.Size = r.Size
			case !r.Optional:
				return ErrManifestInvalid.With("%s: two sizes of %s, %d and %d bytes", where, d.Digest, old.Size, r.Size)
			}
			old.Optional = old.Optional && r.Optional
			return nil
		}
		seen[d.Digest] = len(refs)
		refs = append(refs, r)
		return nil
	}
	if m.Config != nil {
		if err := add("config", *m.Config); err != nil {
			return nil, err
		}
	}
	for _, d := range slices.Concat(m.Layers, m.Manifests) {
		if err := add("descriptor", d); err != nil {
			return nil, err
		}
	}
	return refs, nil
}

// isForeign reports whether a layer's media type says that a registry need not
// hold it (image-spec, layer.md, "Non-Distributable Layers").
func isForeign(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.oci.image.layer.nondistributable.") ||
		strings.HasPrefix(mediaType, "application/vnd.docker.image.rootfs.foreign.")
}

// validMediaType reports whether s has the form type/subtype of RFC 6838 §4.2.
func validMediaType(s string) bool {
	typ, sub, ok := strings.Cut(s, "/")
	return ok && validRestrictedName(typ) && validRestrictedName(sub)
}

func validRestrictedName(s string) bool {
	if s == "" || len(s) > 127 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("!#$&-^_.+", rune(c))) {
			return false
		}
	}
	return true
}

// checkMembers refuses JSON in which a member of the top level that we look at
// occurs twice, or in another letter case: parsers disagree about which one
// counts, so two clients could see two manifests (OCI advisory GHSA-mc8v-mgrf-8f4m).
func checkMembers(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return ErrManifestInvalid.With("manifest is not a JSON object")
	}
	known := []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers"}
	seen := make(map[string]bool, len(known))
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return ErrManifestInvalid.With("manifest is not valid JSON: %v", err)
		}
		key, _ := t.(string)
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, key) })
		if i >= 0 && (seen[known[i]] || key != known[i]) {
			return ErrManifestInvalid.With("manifest has an ambiguous member %q", key)
		}
		if i >= 0 {
			seen[known[i]] = true
		}
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			return ErrManifestInvalid.With("manifest is not valid JSON: %v", err)
		}
	}
	return nil
}
