package transfer

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

// image is a manifest with the name that it should get.
type image struct {
	repo registry.Name // "" if the source has none for it
	tag  registry.Tag  // "" if none
	registry.Descriptor
}

// bundle is content with the images that are made of it.
type bundle struct {
	dir    string // in the source
	images []image
	open   func(registry.Digest) (io.ReadCloser, int64, error)
}

// read returns the bundles of a source, whichever form it has.
func read(src files, verify *Key) ([]bundle, error) {
	dirs, err := src.dirsWith("oci-layout")
	if err != nil {
		return nil, err
	}
	slices.Sort(dirs)
	signed, err := readManifest(src, verify)
	if err != nil {
		return nil, err
	}
	var all []bundle
	for _, dir := range dirs {
		b, err := readLayout(src, dir, signed)
		if errors.Is(err, fs.ErrNotExist) {
			continue // a directory with a file of that name
		}
		if err != nil {
			return nil, err
		}
		all = append(all, b)
	}
	if err := signed.complete(all); err != nil {
		return nil, err
	}
	// A signature that lists no layout, as an export that found nothing new has, says
	// nothing of what lies there in another form.
	if len(all) > 0 || signed.binding {
		return all, nil
	}
	for _, form := range []func(files) (bundle, error){readDocker, readDockerV1} {
		b, err := form(src)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return []bundle{b}, err
	}
	return nil, malformed("it is neither an OCI image layout nor made by docker save")
}

func readLayout(src files, dir string, signed *manifest) (bundle, error) {
	b, err := readAll(src, path.Join(dir, "index.json"), registry.MaxLayoutIndex)
	if err != nil {
		return bundle{}, err
	}
	if err := signed.check(dir, b); err != nil {
		return bundle{}, err
	}
	var index imgspec.Index
	if err := json.Unmarshal(b, &index); err != nil || index.SchemaVersion != 2 {
		return bundle{}, malformed("%s is not an image index", path.Join(dir, "index.json"))
	}
	l := bundle{dir: dir, open: func(d registry.Digest) (io.ReadCloser, int64, error) {
		return src.open(path.Join(dir, "blobs", string(d.Algorithm()), d.Encoded()))
	}}
	for _, d := range index.Manifests {
		if _, err := registry.ParseDigest(d.Digest.String()); err != nil {
			return bundle{}, malformed("%s lists %.100q, which is not a digest", path.Join(dir, "index.json"), string(d.Digest))
		}
		i := image{Descriptor: d}
		name := d.Annotations[imgspec.AnnotationRefName]
		if full := d.Annotations["io.containerd.image.name"]; full != "" { // docker save
			name = full
		}
		if t, err := registry.ParseTag(name); err == nil {
			i.tag = t
		} else if repo, tag, ok := parseName(name); ok {
			i.repo, i.tag = repo, tag
		}
		if dir != "" {
			repo, err := registry.ParseName(dir)
			if err != nil {
				return bundle{}, malformed("directory %.100q is not a repository's name", dir)
			}
			i.repo = repo
		}
		l.images = append(l.images, i)
	}
	return l, nil
}

// parseName reads an image's full name, registry.example/team/app:v1 say, whose
// first part is dropped if it is a host.
func parseName(s string) (registry.Name, registry.Tag, bool) {
	name, tag := s, ""
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, '/') {
		name, tag = s[:i], s[i+1:]
	}
	host, rest, found := strings.Cut(name, "/")
	if found && (strings.ContainsAny(host, ".:") || host == "localhost") {
		name = rest
	}
	repo, err := registry.ParseName(name)
	if err != nil {
		return "", "", false
	}
	if tag == "" {
		return repo, "", true
	}
	t, err := registry.ParseTag(tag)
	return repo, t, err == nil
}
