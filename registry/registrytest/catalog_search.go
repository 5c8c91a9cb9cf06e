package registrytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
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
