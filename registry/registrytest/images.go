package registrytest

import (
	"encoding/json"

	"github.com/berth-registry/berth/registry"
)

const (
	typeConfig  = "application/vnd.oci.image.config.v1+json"
	typeLayer   = "application/vnd.oci.image.layer.v1.tar+gzip"
	typeForeign = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
)

// object is a JSON object to write.
type object map[string]any

func (o object) bytes() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // a test put something in that JSON can't say
	}
	return b
}

func descriptor(mediaType string, data []byte) registry.Descriptor {
	return registry.Descriptor{MediaType: mediaType, Digest: sha256of(data), Size: int64(len(data))}
}

// image returns the members of an OCI image manifest.
func image(config []byte, layers ...[]byte) object {
	list := make([]registry.Descriptor, 0, len(layers))
	for _, l := range layers {
		list = append(list, descriptor(typeLayer, l))
	}
	return object{"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": descriptor(typeConfig, config), "layers": list}
}

func imageOf(config []byte, layers ...[]byte) []byte { return image(config, layers...).bytes() }

// indexOf returns an OCI index of the children.
func indexOf(children ...registry.Descriptor) []byte {
	list := append([]registry.Descriptor{}, children...) // never null
	return object{"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": list}.bytes()
}

// referrer returns the members of an image manifest that refers to subject.
func referrer(subject registry.Digest, artifactType string, config []byte) object {
	m := image(config)
	m["subject"] = registry.Descriptor{MediaType: registry.TypeManifest, Digest: subject, Size: 1}
	if artifactType != "" {
		m["artifactType"] = artifactType
	}
	return m
}

// note returns an index that needs no content, another one for each text.
func note(text string) []byte {
	return object{
		"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": []registry.Descriptor{},
		"annotations": map[string]string{"note": text},
	}.bytes()
}
