package registry

import (
	"encoding/json"
	"strings"
	"time"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxImageConfig is the size of the largest image config that is read, in bytes.
const MaxImageConfig = 4 << 20

// Bounds of what is kept of an image config.
const (
	maxConfigHistory = 500
	maxConfigText    = 4 << 10
	maxConfigLabels  = 200
)

// ImageConfig is the part of an image's config (image-spec, config.md) that people
// look at. Its JSON has the same members.
type ImageConfig struct {
	Created      string           `json:"created,omitempty"` // RFC 3339
	Author       string           `json:"author,omitempty"`
	OS           string           `json:"os,omitempty"`
	Architecture string           `json:"architecture,omitempty"`
	Variant      string           `json:"variant,omitempty"`
	Config       ImageRunConfig   `json:"config,omitzero"`
	History      []HistoryElement `json:"history,omitempty"`
}

// ImageRunConfig is the part of an image's config about containers of it.
type ImageRunConfig struct {
	Labels map[string]string `json:"Labels,omitempty"`
}

// HistoryElement is a step of an image's making.
type HistoryElement struct {
	Created    string `json:"created,omitempty"` // RFC 3339
	CreatedBy  string `json:"created_by,omitempty"`
	Author     string `json:"author,omitempty"`
	Comment    string `json:"comment,omitempty"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

// IsImageConfig reports whether content of that media type is read by
// [ReadImageConfig].
func IsImageConfig(mediaType string) bool {
	return mediaType == imgspec.MediaTypeImageConfig || mediaType == "application/vnd.docker.container.image.v1+json"
}

// ReadImageConfig reads an image's config. Texts that are longer than people read, and
// more of them than that, are cut.
func ReadImageConfig(b []byte) (*ImageConfig, error) {
	c := new(ImageConfig)
	if err := json.Unmarshal(b, c); err != nil {
		return nil, ErrManifestInvalid.With("the image's config is not valid JSON: %v", err)
	}
	for _, s := range []*string{&c.Created, &c.Author, &c.OS, &c.Architecture, &c.Variant} {
		*s = cutText(*s)
	}
	if len(c.History) > maxConfigHistory {
		c.History = c.History[:maxConfigHistory]
	}
	for i := range c.History {
		h := &c.History[i]
		for _, s := range []*string{&h.Created, &h.CreatedBy, &h.Author, &h.Comment} {
			*s = cutText(*s)
		}
	}
	if len(c.Config.Labels) > maxConfigLabels {
		c.Config.Labels = nil
	}
	for k, v := range c.Config.Labels {
		c.Config.Labels[k] = cutText(v)
	}
	return c, nil
}

func cutText(s string) string {
	if len(s) > maxConfigText {
		s = strings.ToValidUTF8(s[:maxConfigText], "")
	}
	return strings.ReplaceAll(s, "\x00", "") // which PostgreSQL has no place for
}

// Time returns when the image was made, microseconds since 1970, 0 if the config does
// not say: images that are built to be reproducible say 1970.
func (c *ImageConfig) Time() int64 {
	if t := micros(c.Created); t > 0 || len(c.History) == 0 {
		return t
	}
	return micros(c.History[len(c.History)-1].Created)
}

func micros(s string) int64 {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return 0
	}
	return t.UnixMicro()
}

// Platform returns "os/arch" as a search knows it, "" if the config does not say.
func (c *ImageConfig) Platform() string { return platform(c.OS, c.Architecture) }

func platform(os, arch string) string {
	os, arch = strings.ToLower(os), strings.ToLower(arch)
	if os == "" || len(os)+len(arch) > 100 || strings.Trim(os+arch, "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
		return ""
	}
	return os + "/" + arch
}

// ImageContent is what a manifest says of the image it is.
type ImageContent struct {
	Config      *Descriptor       `json:"config"`
	Layers      []Descriptor      `json:"layers"`
	Manifests   []Descriptor      `json:"manifests"`
	Annotations map[string]string `json:"annotations"`
}

// ReadImageContent reads a manifest or index that [ParseManifest] has accepted.
func ReadImageContent(manifest []byte) (ImageContent, error) {
	var c ImageContent
	if err := json.Unmarshal(manifest, &c); err != nil {
		return ImageContent{}, ErrManifestInvalid.With("manifest is not valid JSON: %v", err)
	}
	return c, nil
}

// Created returns the time in a manifest's annotations, microseconds since 1970, 0 if
// there is none.
func (c ImageContent) Created() int64 { return micros(c.Annotations[imgspec.AnnotationCreated]) }

// DescriptorPlatform returns what an index says of the platform of one of its
// manifests, as [ImageConfig.Platform] does.
func DescriptorPlatform(d Descriptor) string {
	if d.Platform == nil || d.Platform.OS == "unknown" {
		return ""
	}
	return platform(d.Platform.OS, d.Platform.Architecture)
}

// signatureTypes are artifact types of signatures, and the tools that make them.
var signatureTypes = [][2]string{
	{"application/vnd.cncf.notary.signature", "notation"},
	{"application/vnd.dev.cosign.artifact.sig.v1+json", "cosign"},
	{"application/vnd.dev.cosign.simplesigning.v1+json", "cosign"},
	{"application/vnd.dev.sigstore.bundle+json;version=0.3", "cosign"},
	{"application/vnd.dev.sigstore.bundle.v0.2+json", "cosign"},
	{"application/vnd.dev.sigstore.bundle.v0.3+json", "cosign"},
}

// SignatureTool returns the tool that makes signatures of an artifact type, "" if it
// is none.
func SignatureTool(artifactType string) string {
	for _, t := range signatureTypes {
		if t[0] == artifactType {
			return t[1]
		}
	}
	return ""
}

// SignatureTypes lists the artifact types of signatures, in a fixed order.
func SignatureTypes() []string {
	all := make([]string, len(signatureTypes))
	for i, t := range signatureTypes {
		all[i] = t[0]
	}
	return all
}

// SignatureTag returns the tag that cosign's older scheme keeps the signatures of a
// manifest under.
func SignatureTag(d Digest) Tag { return Tag(string(d.Algorithm()) + "-" + d.Encoded() + ".sig") }

// IsSignatureTag reports whether a tag is one of those that tools keep signatures,
// attestations and SBOMs of another manifest under: sha256-<64 hex digits>.<suffix>.
func IsSignatureTag(t Tag) bool {
	s := string(t)
	return len(s) > 72 && strings.HasPrefix(s, "sha256-") && s[71] == '.'
}
