package search

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

// stamp is a time in microseconds since 1970 as the schema has it; 0 is none.
func stamp(us int64) any {
	if us == 0 {
		return nil
	}
	return time.UnixMicro(us).UTC().Format(time.RFC3339Nano)
}

// bytesOf is a size as the schema has it.
func bytesOf(n int64) string { return strconv.FormatInt(n, 10) }

// imageValue is an ImageSummary.
type imageValue struct {
	*registry.FoundImage
	s *session
}

// contentOf returns what the manifest says, nothing if its bytes are not there.
func contentOf(m registry.FoundManifest) registry.ImageContent {
	if m.Bytes == nil {
		return registry.ImageContent{}
	}
	c, _ := registry.ReadImageContent(m.Bytes) // the catalog has read it before
	return c
}

// sizeOf returns the bytes of a manifest and of what it refers to, but for other manifests.
func sizeOf(m registry.FoundManifest) int64 {
	c, n := contentOf(m), m.Size
	if c.Config != nil {
		n += c.Config.Size
	}
	for _, l := range c.Layers {
		n += l.Size
	}
	return n
}

// manifests are those of an index, or the image itself.
func (v imageValue) manifests() []registry.FoundManifest {
	if len(v.Manifests) > 0 || v.MediaType == registry.TypeIndex || v.MediaType == registry.TypeDockerList {
		return v.Manifests
	}
	return []registry.FoundManifest{v.FoundManifest}
}

// note returns an annotation of the image, or else a label of its config, or else one
// of the first of an index's manifests.
func (v imageValue) note(key string) any {
	for _, m := range slices.Concat([]registry.FoundManifest{v.FoundManifest}, v.Manifests) {
		if s := contentOf(m).Annotations[key]; s != "" {
			return s
		}
		if m.Config != nil && m.Config.Config.Labels[key] != "" {
			return m.Config.Config.Labels[key]
		}
	}
	return ""
}

func (v imageValue) field(ctx context.Context, f *request) (any, error) {
	switch f.Name {
	case "RepoName":
		return string(v.Repository), nil
	case "Tag":
		if v.Tag == "" {
			return v.Digest.String(), nil
		}
		return string(v.Tag), nil
	case "Size":
		n := sizeOf(v.FoundManifest)
		for _, m := range v.Manifests {
			n += sizeOf(m)
		}
		return bytesOf(n), nil
	case "Manifests":
		all := []any{}
		for _, m := range v.manifests() {
			all = append(all, manifestValue{m, v.Repository, v.s})
		}
		return all, nil
	case "PushTimestamp":
		return stamp(v.Pushed), nil
	case "TaggedTimestamp":
		return stamp(v.Tagged), nil
	case "PushedBy":
		return v.PushedBy, nil
	case "IsDeletable":
		return v.Deletable, nil
	case "Description":
		return v.note(imgspec.AnnotationDescription), nil
	case "Licenses":
		return v.note(imgspec.AnnotationLicenses), nil
	case "Title":
		return v.note(imgspec.AnnotationTitle), nil
	case "Source":
		return v.note(imgspec.AnnotationSource), nil
	case "Documentation":
		return v.note(imgspec.AnnotationDocumentation), nil
	case "Vendor":
		return v.note(imgspec.AnnotationVendor), nil
	case "Authors":
		if s := v.note(imgspec.AnnotationAuthors); s != "" {
			return s, nil
		}
		for _, m := range v.manifests() {
			if m.Config != nil && m.Config.Author != "" {
				return m.Config.Author, nil
			}
		}
		return "", nil
	case "Labels":
		return "", nil
	}
	return manifestValue{v.FoundManifest, v.Repository, v.s}.field(ctx, f)
}

// manifestValue is a ManifestSummary.
type manifestValue struct {
	registry.FoundManifest
	repo registry.Name
	s    *session
}

func (v manifestValue) field(ctx context.Context, f *request) (any, error) {
	switch f.Name {
	case "Digest":
		return v.Digest.String(), nil
	case "MediaType":
		return v.MediaType, nil
	case "ArtifactType":
		return v.ArtifactType, nil
	case "ConfigDigest":
		if c := contentOf(v.FoundManifest).Config; c != nil {
			return c.Digest.String(), nil
		}
		return "", nil
	case "LastUpdated":
		return stamp(v.Created), nil
	case "Size":
		return bytesOf(sizeOf(v.FoundManifest)), nil
	case "IsSigned":
		return len(v.Signatures) > 0, nil
	case "SignatureInfo":
		return v.s.signatures(ctx, v.repo, v.FoundManifest)
	case "Platform":
		if v.Config == nil {
			return fields{"Os": "", "Arch": ""}, nil
		}
		return fields{"Os": v.Config.OS, "Arch": archOf(v.Config)}, nil
	case "DownloadCount":
		return v.Downloads, nil
	case "LastPullTimestamp":
		return stamp(v.LastPull), nil
	case "Layers":
		all := []any{}
		for _, l := range contentOf(v.FoundManifest).Layers {
			all = append(all, layerValue(l))
		}
		return all, nil
	case "History":
		return history(v.FoundManifest), nil
	case "Referrers":
		all := []any{}
		for _, d := range v.Referrers {
			all = append(all, referrerValue(d))
		}
		return all, nil
	case "Vulnerabilities":
		return v.s.vulnerabilities(v.Digest), nil
	}
	return nil, nil
}

// archOf is an architecture as the schema has it, with its variant.
func archOf(c *registry.ImageConfig) string {
	if c.Variant == "" {
		return c.Architecture
	}
	return c.Architecture + "/" + c.Variant
}

func layerValue(d registry.Descriptor) any {
	return fields{"Size": bytesOf(d.Size), "Digest": d.Digest.String()}
}

// history returns the steps of an image's making with the layers that they made.
func history(m registry.FoundManifest) []any {
	layers, all := contentOf(m).Layers, []any{}
	if m.Config == nil || len(m.Config.History) == 0 {
		for _, l := range layers {
			all = append(all, fields{"Layer": layerValue(l), "HistoryDescription": fields{"EmptyLayer": false}})
		}
		return all
	}
	for _, h := range m.Config.History {
		d := fields{"CreatedBy": h.CreatedBy, "Author": h.Author, "Comment": h.Comment, "EmptyLayer": h.EmptyLayer}
		if t, err := time.Parse(time.RFC3339Nano, h.Created); err == nil {
			d["Created"] = t.Format(time.RFC3339Nano)
		}
		o := fields{"HistoryDescription": d}
		if !h.EmptyLayer && len(layers) > 0 {
			o["Layer"], layers = layerValue(layers[0]), layers[1:]
		}
		all = append(all, o)
	}
	return all
}

func referrerValue(d registry.Descriptor) any {
	notes := []any{}
	for _, k := range slices.Sorted(maps.Keys(d.Annotations)) {
		notes = append(notes, fields{"Key": k, "Value": d.Annotations[k]})
	}
	return fields{"MediaType": d.MediaType, "ArtifactType": d.ArtifactType, "Size": d.Size, "Digest": d.Digest.String(), "Annotations": notes}
}

// repoValue is a RepoSummary.
type repoValue struct {
	*registry.FoundRepository
	s *session
}

func (v repoValue) field(_ context.Context, f *request) (any, error) {
	switch f.Name {
	case "Name":
		return string(v.Name), nil
	case "LastUpdated":
		return stamp(v.Updated), nil
	case "Size":
		return bytesOf(v.Size), nil
	case "Platforms":
		all := []any{}
		for _, p := range v.Platforms {
			os, arch, _ := strings.Cut(p, "/")
			all = append(all, fields{"Os": os, "Arch": arch})
		}
		return all, nil
	case "Vendors":
		return anys(v.Vendors), nil
	case "NewestImage":
		if v.Newest == nil {
			return nil, nil
		}
		return imageValue{v.Newest, v.s}, nil
	case "DownloadCount":
		return v.Downloads, nil
	case "StarCount":
		return v.Stars, nil
	case "IsBookmarked":
		return v.Bookmarked, nil
	case "IsStarred":
		return v.Starred, nil
	case "Rank":
		return int64(v.Rank), nil
	}
	return nil, nil
}

func anys[T any](list []T) []any {
	all := make([]any, len(list))
	for i, v := range list {
		all[i] = v
	}
	return all
}

func pageInfo(total, items int) fields { return fields{"TotalCount": total, "ItemCount": items} }
