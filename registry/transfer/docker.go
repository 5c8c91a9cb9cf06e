package transfer

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

// maxConfig is the size of the largest image config, in bytes.
const maxConfig = 4 << 20

// dockerImage is an entry of manifest.json, as docker save writes it.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerArchive makes a bundle of what docker save wrote: manifests, which it does
// not have, are made, and layers keep the bytes that they have in it.
type dockerArchive struct {
	src    files
	made   map[registry.Digest][]byte // manifests and configs
	file   map[registry.Digest]string // layers
	hashed map[string]imgspec.Descriptor
}

func newDockerArchive(src files) *dockerArchive {
	return &dockerArchive{src: src, made: make(map[registry.Digest][]byte), file: make(map[registry.Digest]string), hashed: make(map[string]imgspec.Descriptor)}
}

func (a *dockerArchive) open(d registry.Digest) (io.ReadCloser, int64, error) {
	if b, ok := a.made[d]; ok {
		return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
	}
	if name, ok := a.file[d]; ok {
		return a.src.open(name)
	}
	return nil, 0, fs.ErrNotExist
}

// readDocker reads the form with manifest.json.
func readDocker(src files) (bundle, error) {
	b, err := readAll(src, "manifest.json", maxConfig)
	if err != nil {
		return bundle{}, err
	}
	var list []dockerImage
	if err := json.Unmarshal(b, &list); err != nil {
		return bundle{}, malformed("manifest.json: %v", err)
	}
	a := newDockerArchive(src)
	all := bundle{open: a.open}
	for _, i := range list {
		config, err := readAll(src, path.Clean(i.Config), maxConfig)
		if err != nil {
			return bundle{}, needed(i.Config, err)
		}
		d, err := a.image(config, i.Layers)
		if err != nil {
			return bundle{}, err
		}
		all.images = append(all.images, named(d, i.RepoTags)...)
	}
	return all, nil
}

// needed says which file an error is about.
func needed(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return malformed("%.100q is not in it", name)
	}
	return err
}

// named returns an image for each of its names, or one without.
func named(d imgspec.Descriptor, names []string) []image {
	var all []image
	for _, n := range names {
		if repo, tag, ok := parseName(n); ok {
			all = append(all, image{repo: repo, tag: tag, Descriptor: d})
		}
	}
	if all == nil {
		return []image{{Descriptor: d}}
	}
	return all
}

// image makes a manifest.
func (a *dockerArchive) image(config []byte, layers []string) (imgspec.Descriptor, error) {
	m := imgspec.Manifest{
		MediaType: registry.TypeManifest,
		Config:    a.keep(imgspec.MediaTypeImageConfig, config),
		Layers:    []imgspec.Descriptor{},
	}
	m.SchemaVersion = 2
	for _, l := range layers {
		d, err := a.layer(path.Clean(l))
		if err != nil {
			return imgspec.Descriptor{}, err
		}
		m.Layers = append(m.Layers, d)
	}
	b, err := json.Marshal(m)
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	return a.keep(registry.TypeManifest, b), nil
}

func (a *dockerArchive) keep(mediaType string, b []byte) imgspec.Descriptor {
	d := imgspec.Descriptor{MediaType: mediaType, Digest: registry.SHA256.FromBytes(b), Size: int64(len(b))}
	a.made[d.Digest] = b
	return d
}

// layer reads a layer to know its digest.
func (a *dockerArchive) layer(name string) (imgspec.Descriptor, error) {
	if d, ok := a.hashed[name]; ok {
		return d, nil
	}
	r, size, err := a.src.open(name)
	if err != nil {
		return imgspec.Descriptor{}, needed(name, err)
	}
	defer r.Close()
	buffered := bufio.NewReaderSize(r, 64<<10)
	mediaType := imgspec.MediaTypeImageLayer
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		mediaType = imgspec.MediaTypeImageLayerGzip
	}
	digest, err := registry.SHA256.FromReader(buffered)
	if err != nil {
		return imgspec.Descriptor{}, fmt.Errorf("reading layer %.100q: %w", name, err)
	}
	d := imgspec.Descriptor{MediaType: mediaType, Digest: digest, Size: size}
	a.file[digest], a.hashed[name] = name, d
	return d, nil
}

// maxLayers is how many layers an image of the old form may have.
const maxLayers = 1000

// readDockerV1 reads the form that docker before 1.10 wrote: repositories names the
// last layer of each image, and each layer its parent.
func readDockerV1(src files) (bundle, error) {
	b, err := readAll(src, "repositories", maxConfig)
	if err != nil {
		return bundle{}, err
	}
	var repos map[string]map[string]string
	if err := json.Unmarshal(b, &repos); err != nil {
		return bundle{}, malformed("repositories: %v", err)
	}
	a := newDockerArchive(src)
	all := bundle{open: a.open}
	for name, tags := range repos {
		for tag, id := range tags {
			d, err := a.chain(id)
			if err != nil {
				return bundle{}, err
			}
			all.images = append(all.images, named(d, []string{name + ":" + tag})...)
		}
	}
	return all, nil
}

// chain makes an image of a layer and those below it.
func (a *dockerArchive) chain(id string) (imgspec.Descriptor, error) {
	var (
		config  map[string]json.RawMessage
		layers  []string
		history []imgspec.History
	)
	for id != "" {
		if len(layers) == maxLayers {
			return imgspec.Descriptor{}, malformed("an image has more than %d layers", maxLayers)
		}
		dir, err := cleanName(id)
		if err != nil {
			return imgspec.Descriptor{}, err
		}
		b, err := readAll(a.src, dir+"/json", maxConfig)
		if err != nil {
			return imgspec.Descriptor{}, needed(dir+"/json", err)
		}
		var v1 struct {
			Parent string
			imgspec.History
		}
		var fields map[string]json.RawMessage
		if err := errors.Join(json.Unmarshal(b, &fields), json.Unmarshal(b, &v1)); err != nil {
			return imgspec.Descriptor{}, malformed("%s/json: %v", dir, err)
		}
		if config == nil {
			config = fields
		}
		layers = append(layers, dir+"/layer.tar")
		history = append(history, imgspec.History{Created: v1.Created, Author: v1.Author, Comment: v1.Comment})
		id = v1.Parent
	}
	if config == nil {
		return imgspec.Descriptor{}, malformed("an image has no config")
	}
	slices.Reverse(layers)
	slices.Reverse(history)
	fsys := imgspec.RootFS{Type: "layers"}
	for _, l := range layers {
		d, err := a.layer(l)
		if err != nil {
			return imgspec.Descriptor{}, err
		}
		fsys.DiffIDs = append(fsys.DiffIDs, d.Digest)
	}
	for _, drop := range []string{"id", "parent", "parent_id", "layer_id", "throwaway", "Size"} {
		delete(config, drop)
	}
	var err error
	if config["rootfs"], err = json.Marshal(fsys); err != nil {
		return imgspec.Descriptor{}, err
	}
	if config["history"], err = json.Marshal(history); err != nil {
		return imgspec.Descriptor{}, err
	}
	b, err := json.Marshal(config)
	if err != nil {
		return imgspec.Descriptor{}, err
	}
	return a.image(b, layers)
}
