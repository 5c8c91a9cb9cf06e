package registrytest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

func searchTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"SearchImages", testSearchImages},
		{"SearchDetails", testSearchDetails},
		{"SearchRepositories", testSearchRepositories},
		{"SearchPermissions", testSearchPermissions},
		{"SearchFollows", testSearchFollows},
		{"SearchRefusals", testSearchRefusals},
		{"Preferences", testPreferences},
	}
}

// shelf is a catalog with images whose configs can be read.
type shelf struct {
	*catalog
	blobs *memory.Blobs
}

func openShelf(t *testing.T, b CatalogBackend, o CatalogOptions) *shelf {
	t.Helper()
	s := &shelf{blobs: memory.NewBlobs(o.Pools...)}
	o.Reaper = s.blobs
	s.catalog = b.open(t, o)
	return s
}

// store stores data and makes it known in repo.
func (s *shelf) store(t *testing.T, repo registry.Name, data []byte) {
	t.Helper()
	u, err := s.blobs.Start(t.Context(), registry.PoolOf(repo, s.options.Pools), registry.SHA256)
	must(t, "Start", err)
	stored, err := s.blobs.Commit(t.Context(), u, bytes.NewReader(data), sha256of(data))
	must(t, "Commit", err)
	_, err = s.Link(t.Context(), alice, repo, stored)
	must(t, "Link", err)
}

// shelved is an image to push: built at an hour of 2024, for a platform, of layers.
type shelved struct {
	hour     int
	platform string
	layers   []string
	notes    map[string]string // annotations
}

func (x shelved) time() int64 {
	return time.Date(2024, 1, 1, x.hour, 0, 0, 0, time.UTC).UnixMicro()
}

func (x shelved) config() []byte {
	os, arch, _ := strings.Cut(x.platform, "/")
	return object{
		"created": time.UnixMicro(x.time()).UTC().Format(time.RFC3339), "os": os, "architecture": arch, "author": "somebody",
		"config":  object{"Labels": map[string]string{"maintainer": "somebody"}},
		"history": []object{{"created_by": "RUN " + x.platform}}, "rootfs": object{"type": "layers"},
	}.bytes()
}

// build stores what an image needs, and returns its manifest.
func (s *shelf) build(t *testing.T, repo registry.Name, x shelved) []byte {
	t.Helper()
	var layers [][]byte
	s.store(t, repo, x.config())
	for _, l := range x.layers {
		s.store(t, repo, []byte(l))
		layers = append(layers, []byte(l))
	}
	m := image(x.config(), layers...)
	if x.notes != nil {
		m["annotations"] = x.notes
	}
	return m.bytes()
}

func (s *shelf) push(t *testing.T, repo registry.Name, x shelved, tags ...registry.Tag) registry.Digest {
	t.Helper()
	return s.put(t, repo, registry.TypeManifest, s.build(t, repo, x), tags...)
}

// find searches for images and returns their names, in pages of limit.
func (s *shelf) find(t *testing.T, a registry.Actor, limit int, q registry.ImageQuery) []string {
	t.Helper()
	names := []string{}
	for q.Limit = limit; ; q.Offset += limit {
		found, err := s.SearchImages(t.Context(), a, q)
		must(t, "SearchImages", err)
		for _, i := range found.Items {
			names = append(names, fmt.Sprintf("%s:%s", i.Repository, i.Tag))
		}
		if len(found.Items) > limit || found.Total < len(names) {
			t.Fatalf("a page of %d has %d images of %d", limit, len(found.Items), found.Total)
		}
		if q.Offset+limit >= found.Total {
			if len(names) != found.Total {
				t.Fatalf("there are %d images, and pages of %d have %d", found.Total, limit, len(names))
			}
			return names
		}
	}
}

// settle waits until the configs of all images were read.
func (s *shelf) settle(t *testing.T) {
	t.Helper()
	eventually(t, "reading configs", func() bool {
		found, err := s.SearchImages(t.Context(), alice, registry.ImageQuery{Limit: registry.MaxSearch, Detail: registry.DetailContent})
		must(t, "SearchImages", err)
		return !slices.ContainsFunc(found.Items, func(i registry.FoundImage) bool {
			unread := func(m registry.FoundManifest) bool {
				return m.Config == nil && bytes.Contains(m.Bytes, []byte(typeConfig))
			}
			index := i.MediaType == registry.TypeIndex && i.Created >= i.Pushed && len(i.Manifests) > 0
			return index || unread(i.FoundManifest) || slices.ContainsFunc(i.Manifests, unread)
		})
	})
}

// fillShelf pushes the images that tests look for.
func fillShelf(t *testing.T, s *shelf) map[string]registry.Digest {
	t.Helper()
	d := map[string]registry.Digest{}
	d["base"] = s.push(t, "base/debian", shelved{1, "linux/amd64", []string{"rootfs"}, nil}, "12", "latest")
	d["app"] = s.push(t, "team/app", shelved{5, "linux/amd64", []string{"rootfs", "app"}, map[string]string{"org.opencontainers.image.vendor": "Acme"}}, "v1.0")
	d["app2"] = s.push(t, "team/app", shelved{6, "linux/arm64", []string{"rootfs", "app", "more"}, nil}, "v2.0")
	d["same"] = s.push(t, "team/other", shelved{2, "windows/amd64", []string{"rootfs"}, nil}, "V1")
	d["none"] = s.push(t, "zoo", shelved{3, "linux/amd64", nil, nil}, "empty")
	// An index, one of whose manifests is derived from the base.
	one := s.build(t, "multi", shelved{4, "linux/amd64", []string{"rootfs", "multi"}, nil})
	two := s.build(t, "multi", shelved{7, "linux/riscv64", []string{"another"}, nil})
	d["multi1"], d["multi2"] = s.put(t, "multi", registry.TypeManifest, one), s.put(t, "multi", registry.TypeManifest, two)
	d["multi"] = s.put(t, "multi", registry.TypeIndex, indexOf(descriptor(registry.TypeManifest, one), descriptor(registry.TypeManifest, two)), "all")
	// Signatures, by both schemes.
	s.put(t, "team/app", registry.TypeManifest, s.signature(t, "team/app", d["app"]))
	s.put(t, "base/debian", registry.TypeManifest, s.build(t, "base/debian", shelved{9, "linux/amd64", []string{"signature"}, nil}), registry.SignatureTag(d["base"]))
	s.settle(t)
	return d
}

func (s *shelf) signature(t *testing.T, repo registry.Name, subject registry.Digest) []byte {
	t.Helper()
	s.store(t, repo, []byte("{}"))
	return referrer(subject, "application/vnd.dev.cosign.artifact.sig.v1+json", []byte("{}")).bytes()
}

func ref[T any](v T) *T { return &v }

func testSearchImages(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{})
	d := fillShelf(t, s)
	must(t, "CountPulls", s.CountPulls(t.Context(), []registry.Pull{
		{Repository: "zoo", Digest: d["none"], Tag: "empty", At: 9, Count: 5}, {Repository: "team/app", Digest: d["app"], At: 8, Count: 2},
	}))
	everything := []string{"base/debian:12", "base/debian:latest", "multi:all", "team/app:v1.0", "team/app:v2.0", "team/other:V1", "zoo:empty"}
	for name, x := range map[string]struct {
		q    registry.ImageQuery
		want []string
	}{
		"all":                 {registry.ImageQuery{}, everything},
		"relevance":           {registry.ImageQuery{Order: registry.ByRelevance}, everything},
		"descending":          {registry.ImageQuery{Order: registry.ByNameDescending}, []string{"zoo:empty", "team/other:V1", "team/app:v2.0", "team/app:v1.0", "multi:all", "base/debian:latest", "base/debian:12"}},
		"update":              {registry.ImageQuery{Order: registry.ByUpdate}, []string{"multi:all", "team/app:v2.0", "team/app:v1.0", "zoo:empty", "team/other:V1", "base/debian:12", "base/debian:latest"}},
		"downloads":           {registry.ImageQuery{Order: registry.ByDownloads}, []string{"zoo:empty", "team/app:v1.0", "base/debian:12", "base/debian:latest", "multi:all", "team/app:v2.0", "team/other:V1"}},
		"repository":          {registry.ImageQuery{Repository: "team/app"}, []string{"team/app:v1.0", "team/app:v2.0"}},
		"no repository":       {registry.ImageQuery{Repository: "team"}, []string{}},
		"tag":                 {registry.ImageQuery{Repository: "team/app", Ref: registry.Reference{Tag: "v2.0"}}, []string{"team/app:v2.0"}},
		"digest":              {registry.ImageQuery{Repository: "multi", Ref: registry.Reference{Digest: d["multi1"]}}, []string{"multi:"}},
		"no digest":           {registry.ImageQuery{Repository: "multi", Ref: registry.Reference{Digest: d["app"]}}, []string{}},
		"prefix":              {registry.ImageQuery{Repository: "team/app", TagPrefix: "v1"}, []string{"team/app:v1.0"}},
		"prefix of all":       {registry.ImageQuery{TagPrefix: "v"}, []string{"team/app:v1.0", "team/app:v2.0"}},
		"part":                {registry.ImageQuery{TagPart: "v1"}, []string{"team/app:v1.0", "team/other:V1"}},
		"part of wildcards":   {registry.ImageQuery{TagPart: "_"}, []string{}},
		"os":                  {registry.ImageQuery{Filter: registry.SearchFilter{OS: []string{"Windows"}}}, []string{"team/other:V1"}},
		"arch":                {registry.ImageQuery{Filter: registry.SearchFilter{Arch: []string{"arm64", "riscv64"}}}, []string{"multi:all", "team/app:v2.0"}},
		"platform":            {registry.ImageQuery{Filter: registry.SearchFilter{OS: []string{"windows"}, Arch: []string{"arm64"}}}, []string{}},
		"platform, wildcards": {registry.ImageQuery{Filter: registry.SearchFilter{OS: []string{"%"}, Arch: []string{"_md64"}}}, []string{}},
		"signed":              {registry.ImageQuery{Filter: registry.SearchFilter{Signed: true}}, []string{"base/debian:12", "base/debian:latest", "team/app:v1.0"}},
		"image":               {registry.ImageQuery{Content: d["app"].String()}, []string{"team/app:v1.0"}},
		"config":              {registry.ImageQuery{Content: sha256of(shelved{hour: 6, platform: "linux/arm64"}.config()).String()}, []string{"team/app:v2.0"}},
		"layer":               {registry.ImageQuery{Content: sha256of([]byte("app")).String()}, []string{"team/app:v1.0", "team/app:v2.0"}},
		"layer in an index":   {registry.ImageQuery{Content: sha256of([]byte("another")).String()}, []string{"multi:all"}},
		"layer of many":       {registry.ImageQuery{Content: sha256of([]byte("rootfs")).String(), Order: registry.ByNameDescending}, []string{"team/other:V1", "team/app:v2.0", "team/app:v1.0", "multi:all", "base/debian:latest", "base/debian:12"}},
		"odd prefix":          {registry.ImageQuery{Content: d["app"].String()[:20]}, []string{"team/app:v1.0"}},
		"even prefix":         {registry.ImageQuery{Content: d["app"].String()[:21]}, []string{"team/app:v1.0"}},
		"any digest":          {registry.ImageQuery{Content: "sha256:"}, everything},
		"no sha512":           {registry.ImageQuery{Content: "sha512:"}, []string{}},
		"digests":             {registry.ImageQuery{Manifests: []registry.Digest{d["app2"], d["multi2"], d["none"], sha256of([]byte("x"))}}, []string{"multi:all", "team/app:v2.0", "zoo:empty"}},
		"bases":               {registry.ImageQuery{BaseOf: digestsOf("rootfs", "app", "more"), Except: d["app2"]}, []string{"base/debian:12", "base/debian:latest", "team/app:v1.0", "team/other:V1"}},
		"bases of the base":   {registry.ImageQuery{BaseOf: digestsOf("rootfs"), Except: d["base"]}, []string{"team/other:V1"}},
		"derived":             {registry.ImageQuery{DerivedFrom: digestsOf("rootfs"), Except: d["base"]}, []string{"multi:all", "team/app:v1.0", "team/app:v2.0", "team/other:V1"}},
		"derived, filtered":   {registry.ImageQuery{DerivedFrom: digestsOf("rootfs", "app"), Filter: registry.SearchFilter{Arch: []string{"arm64"}}}, []string{"team/app:v2.0"}},
	} {
		for _, limit := range []int{1, 2, 100} {
			if diff := cmp.Diff(x.want, s.find(t, alice, limit, x.q)); diff != "" {
				t.Errorf("%s, in pages of %d: -want +got\n%s", name, limit, diff)
			}
		}
	}
	found, err := s.SearchImages(t.Context(), alice, registry.ImageQuery{Offset: 100, Limit: 10})
	must(t, "SearchImages", err)
	if len(found.Items) != 0 || found.Total != len(everything) {
		t.Errorf("behind the end: %d of %d", len(found.Items), found.Total)
	}
}

func digestsOf(texts ...string) []registry.Digest {
	all := make([]registry.Digest, 0, len(texts))
	for _, s := range texts {
		all = append(all, sha256of([]byte(s)))
	}
	return all
}

func testSearchDetails(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{})
	d := fillShelf(t, s)
	must(t, "CountPulls", s.CountPulls(t.Context(), []registry.Pull{
		{Repository: "team/app", Digest: d["app"], Tag: "v1.0", At: 77, Count: 5}, {Repository: "team/app", Digest: d["app"], At: 88, Count: 2},
	}))
	get := func(detail registry.ImageDetail, repo registry.Name, tag registry.Tag) registry.FoundImage {
		t.Helper()
		found, err := s.SearchImages(t.Context(), alice, registry.ImageQuery{Repository: repo, Ref: registry.Reference{Tag: tag}, Limit: 1, Detail: detail})
		must(t, "SearchImages", err)
		if len(found.Items) != 1 {
			t.Fatalf("%d images are %s:%s", len(found.Items), repo, tag)
		}
		return found.Items[0]
	}
	const all = registry.DetailContent | registry.DetailPulls | registry.DetailReferrers
	i := get(all, "team/app", "v1.0")
	x := shelved{hour: 5, platform: "linux/amd64"}
	if i.Digest != d["app"] || i.MediaType != registry.TypeManifest || int64(len(i.Bytes)) != i.Size || sha256of(i.Bytes) != d["app"] || i.Created != x.time() {
		t.Errorf("the manifest: %+v", i)
	}
	if c := i.Config; c == nil || c.OS != "linux" || c.Architecture != "amd64" || c.Author != "somebody" || c.Config.Labels["maintainer"] != "somebody" || len(c.History) != 1 || c.History[0].CreatedBy != "RUN linux/amd64" {
		t.Errorf("the config: %+v", i.Config)
	}
	if i.Downloads != 7 || i.LastPull != 88 || i.PushedBy != alice.ID || i.Tagged == 0 || i.Pushed == 0 || !i.Deletable || i.ArtifactType != typeConfig {
		t.Errorf("the rest: %+v", i)
	}
	if len(i.Referrers) != 1 || i.Referrers[0].ArtifactType != "application/vnd.dev.cosign.artifact.sig.v1+json" || !slices.Equal(i.Signatures, []string{"cosign"}) {
		t.Errorf("referrers %+v, signatures %q", i.Referrers, i.Signatures)
	}
	if got := get(all, "base/debian", "12"); !slices.Equal(got.Signatures, []string{"cosign"}) || len(got.Referrers) != 0 {
		t.Errorf("by a tag: referrers %+v, signatures %q", got.Referrers, got.Signatures)
	}
	m := get(all, "multi", "all")
	if m.Digest != d["multi"] || len(m.Manifests) != 2 || m.Manifests[0].Digest != d["multi1"] || m.Manifests[1].Digest != d["multi2"] || m.Created != (shelved{hour: 7}).time() {
		t.Fatalf("an index: %+v", m)
	}
	if c := m.Manifests[1].Config; c == nil || c.Architecture != "riscv64" || m.Config != nil {
		t.Errorf("the configs of an index's manifests: %+v", c)
	}
	little := get(0, "multi", "all")
	if little.Digest != d["multi"] || little.Bytes != nil || little.Manifests != nil || little.Config != nil {
		t.Errorf("without details: %+v", little)
	}
}

func testSearchRepositories(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{})
	d := fillShelf(t, s)
	s.link(t, "bare", []byte("no image"))
	must(t, "CountPulls", s.CountPulls(t.Context(), []registry.Pull{{Repository: "zoo", Digest: d["none"], Tag: "empty", At: 9, Count: 5}}))
	find := func(limit int, q registry.RepositoryQuery) []string {
		t.Helper()
		names := []string{}
		for q.Limit = limit; ; q.Offset += limit {
			found, err := s.SearchRepositories(t.Context(), alice, q)
			must(t, "SearchRepositories", err)
			for _, r := range found.Items {
				names = append(names, string(r.Name))
			}
			if q.Offset+limit >= found.Total {
				if len(names) != found.Total {
					t.Fatalf("there are %d repositories, and pages of %d have %d", found.Total, limit, len(names))
				}
				return names
			}
		}
	}
	for name, x := range map[string]struct {
		q    registry.RepositoryQuery
		want []string
	}{
		"all":        {registry.RepositoryQuery{}, []string{"base/debian", "multi", "team/app", "team/other", "zoo"}},
		"descending": {registry.RepositoryQuery{Order: registry.ByNameDescending}, []string{"zoo", "team/other", "team/app", "multi", "base/debian"}},
		"update":     {registry.RepositoryQuery{Order: registry.ByUpdate}, []string{"multi", "team/app", "zoo", "team/other", "base/debian"}},
		"downloads":  {registry.RepositoryQuery{Order: registry.ByDownloads}, []string{"zoo", "base/debian", "multi", "team/app", "team/other"}},
		"text":       {registry.RepositoryQuery{Text: "team/o"}, []string{"team/other"}},
		"relevance":  {registry.RepositoryQuery{Text: "o", Order: registry.ByRelevance}, []string{"team/other", "zoo"}},
		"wildcards":  {registry.RepositoryQuery{Text: "_oo"}, []string{}},
		"name":       {registry.RepositoryQuery{Name: "zoo"}, []string{"zoo"}},
		"no name":    {registry.RepositoryQuery{Name: "zo"}, []string{}},
		"arch":       {registry.RepositoryQuery{Filter: registry.SearchFilter{Arch: []string{"arm64", "riscv64"}}}, []string{"multi", "team/app"}},
		"signed":     {registry.RepositoryQuery{Filter: registry.SearchFilter{Signed: true}}, []string{"base/debian", "team/app"}},
	} {
		for _, limit := range []int{1, 2, 100} {
			if diff := cmp.Diff(x.want, find(limit, x.q)); diff != "" {
				t.Errorf("%s, in pages of %d: -want +got\n%s", name, limit, diff)
			}
		}
	}
	found, err := s.SearchRepositories(t.Context(), alice, registry.RepositoryQuery{Name: "team/app", Limit: 1, Content: true, NewestImage: true, Detail: registry.DetailContent})
	must(t, "SearchRepositories", err)
	r := found.Items[0]
	if r.Updated != (shelved{hour: 6}).time() || r.Newest == nil || r.Newest.Tag != "v2.0" || r.Newest.Digest != d["app2"] || r.Newest.Config == nil ||
		!slices.Equal(r.Platforms, []string{"linux/amd64", "linux/arm64"}) || !slices.Equal(r.Vendors, []string{"Acme"}) {
		t.Errorf("a repository: %+v", r)
	}
	usage, err := s.Usage(t.Context(), alice, "team/app")
	must(t, "Usage", err)
	if r.Size != usage.Logical {
		t.Errorf("a repository has %d bytes, and its usage is %d", r.Size, usage.Logical)
	}
}

// S-029: what somebody may not read is neither found nor counted.
func testSearchPermissions(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{Access: tenants(t)})
	x := shelved{1, "linux/amd64", []string{"rootfs"}, nil}
	for _, repo := range []registry.Name{"a/1", "a/2", "b/1", "commons/x", "z"} {
		s.push(t, repo, x, "t")
	}
	s.settle(t)
	for _, who := range []struct {
		name string
		a    registry.Actor
		want []string
	}{
		{"nobody", nobody, []string{"commons/x"}},
		{"anna", anna, []string{"a/1", "a/2", "commons/x"}},
		{"bert", bert, []string{"b/1", "commons/x"}},
		{"alice", alice, []string{"a/1", "a/2", "b/1", "commons/x", "z"}},
		{"a token", registry.Actor{ID: "alice", Scope: []registry.Grant{{Repositories: "z", Actions: registry.ActRead}, {Repositories: "a/*", Actions: registry.ActList}}}, []string{"z"}},
		{"a token for nothing", registry.Actor{ID: "alice", Scope: []registry.Grant{}}, []string{}},
	} {
		want := []string{}
		for _, r := range who.want {
			want = append(want, r+":t")
		}
		for _, q := range []registry.ImageQuery{{}, {TagPart: "T"}, {Content: sha256of([]byte("rootfs")).String()}, {DerivedFrom: digestsOf("rootfs")}, {BaseOf: digestsOf("rootfs")}} {
			for _, limit := range []int{1, 100} {
				if diff := cmp.Diff(want, s.find(t, who.a, limit, q)); diff != "" {
					t.Errorf("%s finds by %+v: -want +got\n%s", who.name, q, diff)
				}
			}
		}
		for _, repo := range []string{"a/1", "b/1", "commons/x", "z"} {
			got := s.find(t, who.a, 10, registry.ImageQuery{Repository: registry.Name(repo)})
			byDigest := s.find(t, who.a, 10, registry.ImageQuery{Repository: registry.Name(repo), Ref: registry.Reference{Digest: sha256of(s.build(t, "commons/x", x))}})
			if may := slices.Contains(who.want, repo); (len(got) == 1) != may || (len(byDigest) == 1) != may {
				t.Errorf("%s finds %q and %q in %s", who.name, got, byDigest, repo)
			}
		}
		found, err := s.SearchRepositories(t.Context(), who.a, registry.RepositoryQuery{Limit: 100})
		must(t, "SearchRepositories", err)
		got := []string{}
		for _, r := range found.Items {
			got = append(got, string(r.Name))
		}
		if diff := cmp.Diff(who.want, got); diff != "" || found.Total != len(got) {
			t.Errorf("%s sees %d repositories: -want +got\n%s", who.name, found.Total, diff)
		}
	}
	images, err := s.SearchImages(t.Context(), anna, registry.ImageQuery{Limit: 10})
	must(t, "SearchImages", err)
	for _, i := range images.Items {
		if i.Deletable != strings.HasPrefix(string(i.Repository), "a/") {
			t.Errorf("anna may delete of %s: %v", i.Repository, i.Deletable)
		}
	}
	if _, err := s.TogglePreference(t.Context(), anna, "b/1", registry.Starred); err == nil {
		t.Error("anna stars what she may not read")
	} else {
		wantErr(t, "TogglePreference", err, registry.ErrDenied)
	}
}

// Changes are found at once, and what configs say of them in a moment.
func testSearchFollows(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{})
	one := s.push(t, "a", shelved{1, "linux/amd64", []string{"l"}, nil}, "t", "u")
	if got := s.find(t, alice, 10, registry.ImageQuery{}); !slices.Equal(got, []string{"a:t", "a:u"}) {
		t.Errorf("after a push: %q", got)
	}
	s.settle(t)
	two := s.push(t, "a", shelved{2, "linux/arm64", []string{"l"}, nil}, "t")
	s.settle(t)
	arm := registry.ImageQuery{Filter: registry.SearchFilter{Arch: []string{"arm64"}}}
	if got := s.find(t, alice, 10, arm); !slices.Equal(got, []string{"a:t"}) {
		t.Errorf("after a tag was moved: %q", got)
	}
	must(t, "DeleteTag", s.DeleteTag(t.Context(), alice, "a", "u", registry.Condition{}))
	if got := s.find(t, alice, 10, registry.ImageQuery{}); !slices.Equal(got, []string{"a:t"}) {
		t.Errorf("after a tag was deleted: %q", got)
	}
	must(t, "DeleteManifest", s.DeleteManifest(t.Context(), alice, "a", two))
	for _, q := range []registry.ImageQuery{{}, arm, {Content: two.String()}, {DerivedFrom: digestsOf("l")}} {
		if got := s.find(t, alice, 10, q); len(got) != 0 {
			t.Errorf("after the manifest was deleted, by %+v: %q", q, got)
		}
	}
	found, err := s.SearchRepositories(t.Context(), alice, registry.RepositoryQuery{Limit: 10})
	must(t, "SearchRepositories", err)
	if found.Total != 0 {
		t.Errorf("a repository without tags is found: %+v", found.Items)
	}
	if got := s.find(t, alice, 10, registry.ImageQuery{Repository: "a", Ref: registry.Reference{Digest: one}}); len(got) != 1 {
		t.Errorf("an untagged manifest by its digest: %q", got)
	}
}

func testSearchRefusals(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{})
	long := strings.Repeat("x", registry.MaxSearchText+1)
	for name, q := range map[string]registry.ImageQuery{
		"no limit":      {},
		"a long page":   {Limit: registry.MaxSearch + 1},
		"below zero":    {Limit: 1, Offset: -1},
		"far out":       {Limit: 1, Offset: 1 << 31},
		"two searches":  {Limit: 1, Content: "sha256:", BaseOf: digestsOf("x")},
		"no repository": {Limit: 1, Ref: registry.Reference{Tag: "t"}},
		"no digest":     {Limit: 1, Content: "sha256:x"},
		"another hash":  {Limit: 1, Content: "md5:00"},
		"long content":  {Limit: 1, Content: "sha256:" + strings.Repeat("0", 65)},
		"long prefix":   {Limit: 1, TagPrefix: long},
		"long part":     {Limit: 1, TagPart: long},
		"layers":        {Limit: 1, BaseOf: slices.Repeat(digestsOf("x"), registry.MaxSearchLayers+1)},
		"an order":      {Limit: 1, Order: 77},
		"manifests":     {Limit: 1, Manifests: slices.Repeat(digestsOf("x"), registry.MaxSearchManifests+1)},
		"values":        {Limit: 1, Filter: registry.SearchFilter{OS: make([]string, registry.MaxSearchValues+1)}},
		"a value":       {Limit: 1, Filter: registry.SearchFilter{Arch: []string{long}}},
	} {
		_, err := s.SearchImages(t.Context(), alice, q)
		wantErr(t, name, err, registry.ErrParameterInvalid)
	}
	_, err := s.SearchImages(t.Context(), alice, registry.ImageQuery{Limit: 1, BaseOf: []registry.Digest{"x"}})
	wantErr(t, "a malformed layer", err, registry.ErrDigestInvalid)
	for name, q := range map[string]registry.RepositoryQuery{"no limit": {}, "a long text": {Limit: 1, Text: long}, "below zero": {Limit: 1, Offset: -1}} {
		_, err := s.SearchRepositories(t.Context(), alice, q)
		wantErr(t, name, err, registry.ErrParameterInvalid)
	}
	for _, text := range []string{"\xff", "a\x00b", "'", "%"} {
		found, err := s.SearchImages(t.Context(), alice, registry.ImageQuery{Limit: 1, TagPart: text})
		if err != nil || found.Total != 0 {
			t.Errorf("tags with %q: %+v, %v", text, found, err)
		}
	}
}

func testPreferences(t *testing.T, b CatalogBackend) {
	s := openShelf(t, b, CatalogOptions{})
	x := shelved{1, "linux/amd64", []string{"l"}, nil}
	s.push(t, "a", x, "t")
	s.push(t, "b", x, "t")
	toggle := func(a registry.Actor, repo registry.Name, p registry.Preference, want bool) {
		t.Helper()
		on, err := s.TogglePreference(t.Context(), a, repo, p)
		must(t, "TogglePreference", err)
		if on != want {
			t.Errorf("%s of %s is %v, want %v", a.ID, repo, on, want)
		}
	}
	toggle(anna, "b", registry.Starred, true)
	toggle(bert, "b", registry.Starred, true)
	toggle(anna, "a", registry.Starred, true)
	toggle(anna, "a", registry.Starred, false)
	toggle(anna, "a", registry.Bookmarked, true)
	check := func() {
		t.Helper()
		for _, x := range []struct {
			a                   registry.Actor
			starred, bookmarked []bool
		}{{anna, []bool{false, true}, []bool{true, false}}, {bert, []bool{false, true}, []bool{false, false}}, {nobody, []bool{false, false}, []bool{false, false}}} {
			found, err := s.SearchRepositories(t.Context(), x.a, registry.RepositoryQuery{Limit: 10})
			must(t, "SearchRepositories", err)
			if len(found.Items) != 2 {
				t.Fatalf("found %+v", found)
			}
			for i, r := range found.Items {
				if r.Stars != int64(2*i) || r.Starred != x.starred[i] || r.Bookmarked != x.bookmarked[i] {
					t.Errorf("%q sees %+v", x.a.ID, r)
				}
			}
		}
		for _, x := range []struct {
			f    registry.SearchFilter
			want []string
		}{
			{registry.SearchFilter{Starred: ref(true)}, []string{"b:t"}},
			{registry.SearchFilter{Starred: ref(false)}, []string{"a:t"}},
			{registry.SearchFilter{Bookmarked: ref(true)}, []string{"a:t"}},
			{registry.SearchFilter{Bookmarked: ref(true), Starred: ref(true)}, []string{}},
		} {
			if got := s.find(t, anna, 10, registry.ImageQuery{Filter: x.f}); !slices.Equal(got, x.want) {
				t.Errorf("anna finds %q, want %q", got, x.want)
			}
		}
		if got := s.find(t, bert, 10, registry.ImageQuery{Order: registry.ByStars}); !slices.Equal(got, []string{"b:t", "a:t"}) {
			t.Errorf("by stars: %q", got)
		}
	}
	check()
	if s.reopen(t) {
		check()
	}
	_, err := s.TogglePreference(t.Context(), nobody, "a", registry.Starred)
	wantErr(t, "nobody's star", err, registry.ErrUnauthorized)
	_, err = s.TogglePreference(t.Context(), anna, "c", registry.Starred)
	wantErr(t, "a star for nothing", err, registry.ErrNameUnknown)
	_, err = s.TogglePreference(t.Context(), anna, "a", 9)
	wantErr(t, "a way there is not", err, registry.ErrParameterInvalid)
}
