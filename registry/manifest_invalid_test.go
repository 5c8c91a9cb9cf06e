package registry_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

func TestParseManifestInvalid(t *testing.T) {
	config := `"config":` + desc(configType, "config")
	layers := `"layers":[` + desc(layerType, "l") + `]`
	manifests := `"manifests":[` + desc(registry.TypeManifest, "m") + `]`
	with := func(descriptor string) string { return members(`"config":` + descriptor) }
	d := digestOf("x")
	for _, m := range []struct{ what, mediaType, text string }{
		{"nothing", registry.TypeManifest, ``},
		{"no JSON", registry.TypeManifest, `hello`},
		{"an array", registry.TypeManifest, `[]`},
		{"null", registry.TypeManifest, `null`},
		{"a string", registry.TypeManifest, `"x"`},
		{"an open object", registry.TypeManifest, `{"schemaVersion":2,` + config},
		{"something behind", registry.TypeManifest, members(config) + `{}`},
		{"an empty object", registry.TypeManifest, `{}`},
		{"no schemaVersion", registry.TypeManifest, `{` + config + `}`},
		{"schemaVersion 1", registry.TypeManifest, `{"schemaVersion":1,` + config + `}`},
		{"schemaVersion as text", registry.TypeManifest, `{"schemaVersion":"2",` + config + `}`},
		{"schema 1", registry.TypeDockerManifest, `{"schemaVersion":1,"name":"a","fsLayers":[{"blobSum":"` + d.String() + `"}]}`},
		{"schema 1 in disguise", registry.TypeManifest, members(config, `"fsLayers":[]`)},

		{"not UTF-8", registry.TypeManifest, members(config, `"annotations":{"a":"`+"\xff"+`"}`)},
		{"a byte order mark", registry.TypeManifest, "\xef\xbb\xbf" + members(config)},
		{"a NUL behind", registry.TypeManifest, members(config) + "\x00"},

		// A manifest that two clients could read as two (GHSA-mc8v-mgrf-8f4m).
		{"image and index, as image", registry.TypeManifest, members(config, layers, manifests)},
		{"image and index, as index", registry.TypeIndex, members(config, layers, manifests)},
		{"index with layers", registry.TypeIndex, members(layers, manifests)},
		{"index with no layers", registry.TypeIndex, members(`"layers":[]`, manifests)},
		{"index with config", registry.TypeIndex, members(config, manifests)},
		{"image with no manifests", registry.TypeManifest, members(config, `"manifests":[]`)},
		{"image as index", registry.TypeIndex, members(config, layers)},
		{"index as image", registry.TypeManifest, members(manifests)},
		{"image without config", registry.TypeManifest, members(layers)},
		{"index without manifests", registry.TypeIndex, members(`"annotations":{}`)},
		{"config twice", registry.TypeManifest, members(config, config)},
		{"layers twice", registry.TypeManifest, members(config, layers, layers)},
		{"mediaType twice", registry.TypeManifest, members(`"mediaType":"`+registry.TypeManifest+`"`, config, `"mediaType":"`+registry.TypeManifest+`"`)},
		{"config in another case", registry.TypeManifest, members(config, `"Config":null`)},
		{"only config in another case", registry.TypeManifest, members(`"CONFIG":` + desc(configType, "config"))},
		{"layers with a long s", registry.TypeManifest, members(config, `"layer\u017f":[]`)},
		{"config escaped", registry.TypeManifest, members(config, `"\u0063onfig":null`)},

		{"another mediaType", registry.TypeManifest, members(`"mediaType":"`+registry.TypeDockerManifest+`"`, config)},
		{"empty mediaType", registry.TypeManifest, members(`"mediaType":""`, config)},
		{"mediaType with parameters", registry.TypeManifest, members(`"mediaType":"`+registry.TypeManifest+`; charset=utf-8"`, config)},
		{"mediaType is a number", registry.TypeManifest, members(`"mediaType":1`, config)},
		{"docker without mediaType", registry.TypeDockerManifest, members(config)},
		{"docker list without mediaType", registry.TypeDockerList, members(manifests)},
		{"docker list that says OCI", registry.TypeDockerList, members(`"mediaType":"`+registry.TypeIndex+`"`, manifests)},

		{"layers is an object", registry.TypeManifest, members(config, `"layers":{}`)},
		{"annotation is a number", registry.TypeManifest, members(config, `"annotations":{"a":1}`)},
		{"empty descriptor", registry.TypeManifest, with(`{}`)},
		{"no digest", registry.TypeManifest, with(`{"mediaType":"x/y","size":1}`)},
		{"negative size", registry.TypeManifest, with(`{"mediaType":"x/y","digest":"` + d.String() + `","size":-1}`)},
		{"huge size", registry.TypeManifest, with(`{"mediaType":"x/y","digest":"` + d.String() + `","size":1e30}`)},
		{"half a byte", registry.TypeManifest, with(`{"mediaType":"x/y","digest":"` + d.String() + `","size":0.5}`)},
		{"no media type", registry.TypeManifest, with(`{"digest":"` + d.String() + `","size":1}`)},
		{"bad media type", registry.TypeManifest, with(`{"mediaType":"x","digest":"` + d.String() + `","size":1}`)},
		{"media type with parameters", registry.TypeManifest, with(`{"mediaType":"x/y; a=b","digest":"` + d.String() + `","size":1}`)},
		{"long media type", registry.TypeManifest, with(`{"mediaType":"x/` + strings.Repeat("y", 128) + `","digest":"` + d.String() + `","size":1}`)},
		{"bad layer", registry.TypeManifest, members(config, `"layers":[`+desc(layerType, "l")+`,null]`)},
		{"bad child", registry.TypeIndex, members(`"manifests":[{"digest":"` + d.String() + `"}]`)},
	} {
		got, err := registry.ParseManifest(m.mediaType, []byte(m.text))
		if !errors.Is(err, registry.ErrManifestInvalid) {
			t.Errorf("%s: got %+v, error %v, want ErrManifestInvalid", m.what, got, err)
		}
	}
	for _, m := range []struct{ what, mediaType, text string }{
		{"bad digest", registry.TypeManifest, with(`{"mediaType":"x/y","digest":"sha256:xyz","size":1}`)},
		{"unknown algorithm", registry.TypeManifest, with(`{"mediaType":"x/y","digest":"md5:d41d8cd98f00b204e9800998ecf8427e","size":1}`)},
		{"upper-case digest", registry.TypeManifest, with(`{"mediaType":"x/y","digest":"` + strings.ToUpper(d.String()) + `","size":1}`)},
		{"bad subject", registry.TypeManifest, members(config, `"subject":{"digest":"sha256:"}`)},
	} {
		got, err := registry.ParseManifest(m.mediaType, []byte(m.text))
		if !errors.Is(err, registry.ErrDigestInvalid) {
			t.Errorf("%s: got %+v, error %v, want ErrDigestInvalid", m.what, got, err)
		}
	}
}

func TestParseManifestLimits(t *testing.T) {
	list := func(n int) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(desc("x/y", fmt.Sprint(i)))
		}
		return b.String()
	}
	config := `"config":` + desc(configType, "config")
	for _, m := range []struct {
		what, mediaType, text string
		want                  error
	}{
		{"10,000 layers", registry.TypeManifest, members(config, `"layers":[`+list(10_000)+`]`), nil},
		{"10,001 layers", registry.TypeManifest, members(config, `"layers":[`+list(10_001)+`]`), registry.ErrManifestInvalid},
		{"10,000 children", registry.TypeIndex, members(`"manifests":[` + list(10_000) + `]`), nil},
		{"10,001 children", registry.TypeIndex, members(`"manifests":[` + list(10_001) + `]`), registry.ErrManifestInvalid},
		{"10,001 times the same", registry.TypeIndex, members(`"manifests":[` + strings.Repeat(desc("x/y", "z")+",", 10_000) + desc("x/y", "z") + `]`), registry.ErrManifestInvalid},
		{"depth", registry.TypeManifest, members(config, `"x":`+strings.Repeat("[", 1<<20)), registry.ErrManifestInvalid},
	} {
		if _, err := registry.ParseManifest(m.mediaType, []byte(m.text)); !errors.Is(err, m.want) {
			t.Errorf("%s: got error %v, want %v", m.what, err, m.want)
		}
	}
	text := members(config)
	padded := text + strings.Repeat(" ", registry.MaxManifest-len(text))
	if _, err := registry.ParseManifest(registry.TypeManifest, []byte(padded)); err != nil {
		t.Errorf("the largest manifest: %v", err)
	}
	if _, err := registry.ParseManifest(registry.TypeManifest, []byte(padded+" ")); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("one byte more: got error %v, want ErrTooLarge", err)
	}
}

func FuzzParseManifest(f *testing.F) {
	config := `"config":` + desc(configType, "config")
	for _, s := range []string{
		members(config, `"layers":[`+desc(layerType, "l")+`]`), members(`"manifests":[` + desc(registry.TypeManifest, "m") + `]`),
		members(`"mediaType":"`+registry.TypeDockerManifest+`"`, config), members(config, `"subject":`+desc("x/y", "s"), `"artifactType":"x/y"`),
		members(config, `"manifests":[]`), `{}`, `{"schemaVersion":2,"CONFIG":{}}`,
		`{"schemaVersion":2,"config":{"digest":"0"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		accepted := 0
		before := bytes.Clone(b)
		for _, mediaType := range []string{registry.TypeManifest, registry.TypeIndex, registry.TypeDockerManifest, registry.TypeDockerList} {
			got, err := registry.ParseManifest(mediaType, b)
			if err != nil {
				if e := registry.AsError(err); e.Code != registry.ManifestInvalid && e.Code != registry.DigestInvalid && e.Code != registry.TooLarge {
					t.Errorf("error %v", err)
				}
				continue
			}
			accepted++
			checkInfo(t, got)
			var compact bytes.Buffer
			if err := json.Compact(&compact, b); err != nil {
				t.Fatalf("accepted what is no JSON: %v", err)
			}
			again, err := registry.ParseManifest(mediaType, compact.Bytes())
			if diff := cmp.Diff(got, again, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("without white space: error %v, -before +after\n%s", err, diff)
			}
		}
		if accepted > 1 {
			t.Error("the bytes are manifests of two types")
		}
		if !bytes.Equal(before, b) {
			t.Error("the bytes were changed")
		}
	})
}

// checkInfo checks what must be true of each manifest that was accepted.
func checkInfo(t *testing.T, m registry.ManifestInfo) {
	seen := make(map[registry.Digest]bool)
	for _, r := range m.References {
		if _, err := registry.ParseDigest(r.Digest.String()); err != nil || seen[r.Digest] || r.Size < 0 {
			t.Errorf("reference %+v: malformed, or there twice", r)
		}
		seen[r.Digest] = true
	}
	if m.Subject != "" {
		if _, err := registry.ParseDigest(m.Subject.String()); err != nil {
			t.Errorf("subject %s: %v", m.Subject, err)
		}
	}
	if len(m.References) > registry.MaxDescriptors+1 {
		t.Errorf("%d references", len(m.References))
	}
}
