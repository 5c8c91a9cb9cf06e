package rpc

import (
	"bytes"
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	metadatav1 "github.com/berth-registry/berth/proto/gen/berth/metadata/v1"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// manifestOf returns a manifest of exactly n bytes that refers to nothing a
// sparse catalog would miss.
func manifestOf(n int) []byte {
	head := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"a":"`,
		registry.TypeManifest, registry.SHA256.FromString("{}"))
	return []byte(head + strings.Repeat("x", n-len(head)-3) + `"}}`)
}

func TestManifestSizes(t *testing.T) {
	c := newPair().catalog(t, memory.NewCatalog(memory.CatalogOptions{AllowSparse: true}))
	actor := registry.Actor{ID: "alice"}
	for _, test := range []struct {
		size int
		want error
	}{
		{registry.MaxManifest, nil},
		{registry.MaxManifest + 1, registry.ErrTooLarge},
		{maxMessage + 1, registry.ErrTooLarge}, // gRPC's own limit
	} {
		b := manifestOf(test.size)
		d := registry.SHA256.FromBytes(b)
		_, err := c.PutManifest(t.Context(), actor, "a/b", registry.ManifestPut{Digest: d, MediaType: registry.TypeManifest, Bytes: b, Tags: []registry.Tag{"t"}})
		if test.want != nil {
			wantErr(t, fmt.Sprint(test.size), err, test.want)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Manifest(t.Context(), actor, "a/b", registry.ManifestQuery{Ref: registry.Reference{Tag: "t"}})
		if !bytes.Equal(got.Bytes, b) {
			t.Errorf("got other bytes than were stored: %d", len(got.Bytes))
		}
		got.Bytes = nil
		want := registry.Manifest{Digest: d, MediaType: registry.TypeManifest, Size: int64(test.size)}
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("got %v, %.300s", err, diff)
		}
		blob, err := c.Blob(t.Context(), actor, "a/b", d)
		if err != nil || len(blob.Inline) != test.size {
			t.Errorf("as a blob: got %d bytes, %v", len(blob.Inline), err)
		}
	}
}

// largeCatalog has long lists of large things.
type largeCatalog struct {
	*memory.Catalog
	referrers []registry.Descriptor
	actor     registry.Actor
}

func (c *largeCatalog) Referrers(_ context.Context, a registry.Actor, _ registry.Name, _ registry.Digest, artifactType string, p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
	c.actor = a
	list := c.referrers
	for len(list) > 0 && list[0].Digest <= p.After {
		list = list[1:]
	}
	return registry.List[registry.Descriptor]{Items: list}, nil
}

// A list that is too large for a message is cut, and can be read all the same.
func TestLargeLists(t *testing.T) {
	local := &largeCatalog{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
	for i := range 6 {
		local.referrers = append(local.referrers, registry.Descriptor{
			MediaType:   registry.TypeManifest,
			Digest:      registry.Digest(fmt.Sprintf("sha256:%064d", i)),
			Annotations: map[string]string{"large": strings.Repeat("x", 1500_000*(1+i%3)-1000)},
		})
	}
	c := newPair().catalog(t, local)
	var got []registry.Descriptor
	p := registry.Page[registry.Digest]{Limit: registry.MaxPage}
	for pages := 1; ; pages++ {
		list, err := c.Referrers(t.Context(), registry.Actor{}, "a", local.referrers[0].Digest, "", p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, list.Items...)
		if !list.More {
			if pages < 3 {
				t.Errorf("got all in %d pages: the test is too small", pages)
			}
			break
		}
		p.After = got[len(got)-1].Digest
	}
	if !reflect.DeepEqual(got, local.referrers) {
		t.Errorf("got %d referrers, or other ones than the %d there are", len(got), len(local.referrers))
	}
}

func TestActors(t *testing.T) {
	local := &largeCatalog{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
	c := newPair().catalog(t, local)
	d := registry.SHA256.FromString("")
	for _, test := range []struct{ sent, want registry.Actor }{
		{registry.Actor{}, registry.Actor{}},
		{
			registry.Actor{ID: "alice", Groups: []string{"a", "b"}, Claims: map[string]string{"iss": "x"}},
			registry.Actor{ID: "alice", Groups: []string{"a", "b"}, Claims: map[string]string{"iss": "x"}},
		},
		{ // what can't be sent opens nothing
			registry.Actor{ID: "alice", Groups: []string{"a\xff", "b"}, Claims: map[string]string{"iss\xff": "x", "sub": "\xff"}},
			registry.Actor{ID: "alice", Groups: []string{"b"}},
		},
	} {
		if _, err := c.Referrers(t.Context(), test.sent, "a", d, "", registry.Page[registry.Digest]{Limit: 1}); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(test.want, local.actor); diff != "" {
			t.Errorf("%+v: %s", test.sent, diff)
		}
	}
	_, err := c.Referrers(t.Context(), registry.Actor{ID: "\xff"}, "a", d, "", registry.Page[registry.Digest]{Limit: 1})
	wantErr(t, "a name that is not UTF-8", err, registry.ErrDenied)
}

// What a client sends is checked before the catalog sees it, and bytes that are
// not UTF-8 get the answer that other nonsense gets.
func TestMalformedRequests(t *testing.T) {
	p := newPair()
	c := p.catalog(t, memory.NewCatalog(memory.CatalogOptions{AllowSparse: true}))
	wire := metadatav1.NewCatalogServiceClient(p.conn)
	ctx, actor, page := t.Context(), registry.Actor{ID: "alice"}, registry.Page[registry.Tag]{Limit: 1}
	d := registry.SHA256.FromString("")
	m := manifestOf(1000)
	put := func(edit func(*registry.ManifestPut)) error {
		put := registry.ManifestPut{Digest: registry.SHA256.FromBytes(m), MediaType: registry.TypeManifest, Bytes: m}
		edit(&put)
		_, err := c.PutManifest(ctx, actor, "a", put)
		return err
	}
	for what, test := range map[string]struct{ err, want error }{
		"name":                {second(c.Tags(ctx, actor, "../etc", page)), registry.ErrNameInvalid},
		"name not UTF-8":      {second(c.Tags(ctx, actor, "a\xff", page)), registry.ErrNameInvalid},
		"after not UTF-8":     {second(c.Tags(ctx, actor, "a", registry.Page[registry.Tag]{After: "\xff", Limit: 1})), registry.ErrNameUnknown},
		"digest":              {second(c.Blob(ctx, actor, "a", "sha256:..")), registry.ErrDigestInvalid},
		"tag":                 {c.DeleteTag(ctx, actor, "a", "-", registry.Condition{}), registry.ErrTagInvalid},
		"condition":           {c.DeleteTag(ctx, actor, "a", "t", registry.Condition{Match: "x"}), registry.ErrDigestInvalid},
		"mount from":          {second(c.Mount(ctx, actor, "a", d, "A")), registry.ErrNameInvalid},
		"media type":          {put(func(m *registry.ManifestPut) { m.MediaType = "\xff" }), registry.ErrMediaTypeUnsupported},
		"a tag of several":    {put(func(m *registry.ManifestPut) { m.Tags = []registry.Tag{"a", "b\xff"} }), registry.ErrTagInvalid},
		"empty reference":     {second(c.Manifest(ctx, actor, "a", registry.ManifestQuery{})), registry.ErrTagInvalid},
		"link without digest": {second(c.Link(ctx, actor, "a", registry.Stored{})), registry.ErrDigestInvalid},
		"no actor":            {fromStatus(ctx, second(wire.GetManifest(ctx, &metadatav1.GetManifestRequest{}))), registry.ErrNameInvalid},
		"large request":       {second(c.Tags(ctx, registry.Actor{ID: strings.Repeat("x", maxSmall)}, "a", page)), registry.ErrInternal},
	} {
		wantErr(t, what, test.err, test.want)
	}
}

func second[T any](_ T, err error) error { return err }
