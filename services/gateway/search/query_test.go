package search

import (
	"context"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/trust"
)

// TestQueries asks each query with paging, sorting and filters.
func TestQueries(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	app, base, multi := w.ids["team/app:v1.0"].String(), w.ids["base:1"].String(), w.ids["multi:all"].String()
	rootfs := registry.SHA256.FromString("rootfs").String()
	for query, want := range map[string]string{
		// The guide's, which are of no schema that zot has had.
		`{ImageList{Name Tags}}`: `{"ImageList":{"Name":["base","multi","team/app"],"Tags":["base:1","multi:all","team/app:v1.0","team/app:v2.0"]}}`,

		`{ImageList(repo:"team/app"){Results{RepoName Tag Digest} Page{TotalCount ItemCount}}}`: `{"ImageList":{"Page":{"TotalCount":2,"ItemCount":2},"Results":[
			{"RepoName":"team/app","Tag":"v1.0","Digest":"` + app + `"},{"RepoName":"team/app","Tag":"v2.0","Digest":"` + w.ids["team/app:v2.0"].String() + `"}]}}`,
		`{ImageList(repo:"",requestedPage:{limit:2,offset:1,sortBy:UPDATE_TIME}){Results{RepoName Tag LastUpdated} Page{TotalCount ItemCount}}}`: `{"ImageList":{"Page":{"TotalCount":4,"ItemCount":2},"Results":[
			{"RepoName":"team/app","Tag":"v2.0","LastUpdated":"2024-01-03T00:00:00Z"},{"RepoName":"team/app","Tag":"v1.0","LastUpdated":"2024-01-02T00:00:00Z"}]}}`,
		`{ImageList(repo:"",requestedPage:{limit:1,sortBy:DOWNLOADS}){Results{Tag DownloadCount LastPullTimestamp}}}`: `{"ImageList":{"Results":[{"Tag":"v1.0","DownloadCount":3,"LastPullTimestamp":"2024-01-06T00:13:20Z"}]}}`,
		`{ImageList(repo:"",requestedPage:{limit:1,sortBy:ALPHABETIC_DSC}){Results{Tag}}}`:                            `{"ImageList":{"Results":[{"Tag":"v2.0"}]}}`,
		`{ImageList(repo:"",requestedPage:{offset:100}){Results{Tag} Page{TotalCount ItemCount}}}`:                    `{"ImageList":{"Page":{"TotalCount":4,"ItemCount":0},"Results":[]}}`,
		`{ImageList(repo:"none"){Results{Tag} Page{TotalCount ItemCount}}}`:                                           `{"ImageList":{"Page":{"TotalCount":0,"ItemCount":0},"Results":[]}}`,
		`{ImageList(repo:"No Name!"){Results{Tag}}}`:                                                                  `{"ImageList":{"Results":[]}}`,

		`{ImageListForDigest(id:"` + rootfs + `"){Results{RepoName Tag}}}`:  `{"ImageListForDigest":{"Results":[{"RepoName":"base","Tag":"1"},{"RepoName":"multi","Tag":"all"},{"RepoName":"team/app","Tag":"v1.0"}]}}`,
		`{ImageListForDigest(id:"` + rootfs[7:20] + `"){Page{TotalCount}}}`: `{"ImageListForDigest":{"Page":{"TotalCount":3}}}`,
		`{RepoListWithNewestImage(requestedPage:{limit:2}){Results{Name LastUpdated NewestImage{Tag Manifests{Platform{Os Arch}}}} Page{TotalCount ItemCount}}}`: `{"RepoListWithNewestImage":{"Page":{"TotalCount":3,"ItemCount":2},"Results":[
			{"Name":"multi","LastUpdated":"2024-01-05T00:00:00Z","NewestImage":{"Tag":"all","Manifests":[{"Platform":{"Os":"linux","Arch":"amd64"}},{"Platform":{"Os":"linux","Arch":"riscv64"}}]}},
			{"Name":"team/app","LastUpdated":"2024-01-03T00:00:00Z","NewestImage":{"Tag":"v2.0","Manifests":[{"Platform":{"Os":"linux","Arch":"arm64"}}]}}]}}`,

		`{ExpandedRepoInfo(repo:"team/app"){Images{Tag IsSigned Vulnerabilities{MaxSeverity}} Summary{Name Platforms{Os Arch} Vendors DownloadCount NewestImage{RepoName Tag}}}}`: `{"ExpandedRepoInfo":{
			"Images":[{"Tag":"v2.0","IsSigned":false,"Vulnerabilities":{"MaxSeverity":""}},{"Tag":"v1.0","IsSigned":true,"Vulnerabilities":{"MaxSeverity":""}}],
			"Summary":{"Name":"team/app","Platforms":[{"Os":"linux","Arch":"amd64"},{"Os":"linux","Arch":"arm64"}],"Vendors":["Acme"],"DownloadCount":3,"NewestImage":{"RepoName":"team/app","Tag":"v2.0"}}}}`,
		`{ExpandedRepoInfo(repo:"none"){Images{Tag} Summary{Name}}}`: `{"ExpandedRepoInfo":{"Images":[],"Summary":{"Name":null}}}`,

		`{GlobalSearch(query:"a"){Page{TotalCount} Repos{Name Rank} Images{Tag} Layers{Digest}}}`:                      `{"GlobalSearch":{"Page":{"TotalCount":2},"Repos":[{"Name":"team/app","Rank":1},{"Name":"base","Rank":2}],"Images":[],"Layers":[]}}`,
		`{GlobalSearch(query:"team/app:v1"){Page{TotalCount} Images{Tag}}}`:                                            `{"GlobalSearch":{"Page":{"TotalCount":1},"Images":[{"Tag":"v1.0"}]}}`,
		`{GlobalSearch(query:"team:v1"){Page{TotalCount} Images{Tag}}}`:                                                `{"GlobalSearch":{"Page":{"TotalCount":0},"Images":[]}}`,
		`{GlobalSearch(query:":V2"){Images{RepoName Tag}}}`:                                                            `{"GlobalSearch":{"Images":[{"RepoName":"team/app","Tag":"v2.0"}]}}`,
		`{GlobalSearch(query:"` + rootfs + `",requestedPage:{limit:1}){Images{RepoName}}}`:                             `{"GlobalSearch":{"Images":[{"RepoName":"base"}]}}`,
		`{GlobalSearch(query:"",filter:{Arch:["riscv64"]}){Repos{Name}}}`:                                              `{"GlobalSearch":{"Repos":[{"Name":"multi"}]}}`,
		`{GlobalSearch(query:"",filter:{Os:["windows"]}){Repos{Name}}}`:                                                `{"GlobalSearch":{"Repos":[]}}`,
		`{GlobalSearch(query:"",filter:{HasToBeSigned:true}){Repos{Name}}}`:                                            `{"GlobalSearch":{"Repos":[{"Name":"team/app"}]}}`,
		`{GlobalSearch(query:"a",filter:{IsStarred:true,IsBookmarked:false}){Repos{Name}}}`:                            `{"GlobalSearch":{"Repos":[]}}`,
		`{GlobalSearch(query:"",requestedPage:{limit:1 offset:1 sortBy:ALPHABETIC_ASC}){Page{ItemCount} Repos{Name}}}`: `{"GlobalSearch":{"Page":{"ItemCount":1},"Repos":[{"Name":"multi"}]}}`,

		`{BaseImageList(image:"team/app:v1.0"){Results{RepoName Tag}}}`:                                           `{"BaseImageList":{"Results":[{"RepoName":"base","Tag":"1"}]}}`,
		`{DerivedImageList(image:"base:1"){Results{RepoName Tag}}}`:                                               `{"DerivedImageList":{"Results":[{"RepoName":"multi","Tag":"all"},{"RepoName":"team/app","Tag":"v1.0"}]}}`,
		`{DerivedImageList(image:"base:1",digest:"` + base + `",requestedPage:{limit:1,offset:1}){Results{Tag}}}`: `{"DerivedImageList":{"Results":[{"Tag":"v1.0"}]}}`,
		`{BaseImageList(image:"multi:all"){Results{RepoName Tag}}}`:                                               `{"BaseImageList":{"Results":[{"RepoName":"base","Tag":"1"}]}}`,

		`{Image(image:"team/app:v1.0"){RepoName Tag Digest MediaType Title Description Vendor Licenses Authors Source IsSigned SignatureInfo{Tool IsTrusted Author} PushedBy IsDeletable
			Referrers{ArtifactType Annotations{Key Value}} Manifests{Digest Layers{Size} History{Layer{Size} HistoryDescription{CreatedBy EmptyLayer}} Platform{Os Arch}}}}`: `{"Image":{"RepoName":"team/app","Tag":"v1.0","Digest":"` + app + `",
			"MediaType":"application/vnd.oci.image.manifest.v1+json","Title":"App","Description":"An app","Vendor":"Acme","Licenses":"MIT","Authors":"the author","Source":"","IsSigned":true,
			"SignatureInfo":[{"Tool":"notation","IsTrusted":false,"Author":""}],"PushedBy":"pusher","IsDeletable":true,
			"Referrers":[{"ArtifactType":"application/vnd.cncf.notary.signature","Annotations":[{"Key":"k","Value":"v"}]}],
			"Manifests":[{"Digest":"` + app + `","Layers":[{"Size":"6"},{"Size":"3"}],"History":[
				{"Layer":null,"HistoryDescription":{"CreatedBy":"ENV x","EmptyLayer":true}},
				{"Layer":{"Size":"6"},"HistoryDescription":{"CreatedBy":"COPY rootfs","EmptyLayer":false}},
				{"Layer":{"Size":"3"},"HistoryDescription":{"CreatedBy":"COPY app","EmptyLayer":false}}],"Platform":{"Os":"linux","Arch":"amd64"}}]}}`,
		`{Image(image:"multi@` + multi + `"){Tag Manifests{LastUpdated}}}`: `{"Image":{"Tag":"` + multi + `","Manifests":[{"LastUpdated":"2024-01-04T00:00:00Z"},{"LastUpdated":"2024-01-05T00:00:00Z"}]}}`,

		`{Referrers(repo:"team/app",digest:"` + app + `",type:["application/vnd.cncf.notary.signature"]){ArtifactType}}`: `{"Referrers":[{"ArtifactType":"application/vnd.cncf.notary.signature"}]}`,
		`{Referrers(repo:"team/app",digest:"` + app + `"){Size MediaType}}`:                                              `{"Referrers":[{"Size":481,"MediaType":"application/vnd.oci.image.manifest.v1+json"}]}`,
		`{Referrers(repo:"team/app",digest:"` + app + `",type:["another"]){Digest}}`:                                     `{"Referrers":[]}`,

		// The language.
		`query A($r:String!,$p:PageInput){x:ImageList(repo:$r,requestedPage:$p){...f} __typename} fragment f on PaginatedImagesResult{Results{... on ImageSummary{Tag}} Page{TotalCount @skip(if:true) ItemCount @include(if:true)}}`: ``,
	} {
		if want != "" {
			w.get(t, alice, query).want(t, query, want)
			continue
		}
		body := string(encode(t, map[string]any{"query": query, "operationName": "A", "variables": map[string]any{"r": "base", "p": map[string]any{"limit": 1, "sortBy": "UPDATE_TIME"}}}))
		w.post(t, alice, body).want(t, query, `{"x":{"Results":[{"Tag":"1"}],"Page":{"ItemCount":1}},"__typename":"Query"}`)
	}
}

// TestPreferences lists what users star.
func TestPreferences(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	for repo, p := range map[registry.Name]registry.Preference{"base": registry.Starred, "multi": registry.Bookmarked} {
		if _, err := w.TogglePreference(t.Context(), alice, repo, p); err != nil {
			t.Fatal(err)
		}
	}
	q := `{StarredRepos{Results{Name StarCount IsStarred IsBookmarked} Page{TotalCount}} BookmarkedRepos(requestedPage:{limit:5,sortBy:ALPHABETIC_ASC}){Results{Name}}}`
	w.get(t, alice, q).want(t, q, `{"StarredRepos":{"Page":{"TotalCount":1},"Results":[{"Name":"base","StarCount":1,"IsStarred":true,"IsBookmarked":false}]},"BookmarkedRepos":{"Results":[{"Name":"multi"}]}}`)
	for _, other := range []registry.Actor{{}, {ID: "bob"}} {
		w.get(t, other, q).want(t, q, `{"StarredRepos":{"Page":{"TotalCount":0},"Results":[]},"BookmarkedRepos":{"Results":[]}}`)
	}
	q = `{GlobalSearch(query:"base",filter:{IsStarred:true}){Repos{Name StarCount IsStarred}}}`
	w.get(t, alice, q).want(t, q, `{"GlobalSearch":{"Repos":[{"Name":"base","StarCount":1,"IsStarred":true}]}}`)
}

// TestPermissions asks each query for what may not be read: it looks as if it were
// missing.
func TestPermissions(t *testing.T) {
	w := newWorld(t, &registry.AccessRules{Repositories: map[string]registry.RepositoryRules{
		"base": {AnonymousPolicy: []string{"read"}, DefaultPolicy: []string{"read"}},
		"**":   {Policies: []registry.AccessPolicy{{Users: []string{"alice"}, Actions: []string{"read"}}}},
	}}).fill(t)
	app := w.ids["team/app:v1.0"].String()
	for _, a := range []registry.Actor{{}, {ID: "bob"}} {
		for query, want := range map[string]string{
			`{ImageList{Tags}}`: `{"ImageList":{"Tags":["base:1"]}}`,
			`{ImageList(repo:"team/app"){Tags Page{TotalCount}}}`:                                    `{"ImageList":{"Tags":[],"Page":{"TotalCount":0}}}`,
			`{ImageListForDigest(id:"` + registry.SHA256.FromString("rootfs").String() + `"){Tags}}`: `{"ImageListForDigest":{"Tags":["base:1"]}}`,
			`{RepoListWithNewestImage{Results{Name} Page{TotalCount}}}`:                              `{"RepoListWithNewestImage":{"Results":[{"Name":"base"}],"Page":{"TotalCount":1}}}`,
			`{ExpandedRepoInfo(repo:"team/app"){Images{Tag} Summary{Name}}}`:                         `{"ExpandedRepoInfo":{"Images":[],"Summary":{"Name":null}}}`,
			`{GlobalSearch(query:"a"){Repos{Name} Page{TotalCount}}}`:                                `{"GlobalSearch":{"Repos":[{"Name":"base"}],"Page":{"TotalCount":1}}}`,
			`{GlobalSearch(query:":v"){Images{Tag} Page{TotalCount}}}`:                               `{"GlobalSearch":{"Images":[],"Page":{"TotalCount":0}}}`,
			`{DerivedImageList(image:"base:1"){Tags Page{TotalCount}}}`:                              `{"DerivedImageList":{"Tags":[],"Page":{"TotalCount":0}}}`,
			`{Referrers(repo:"team/app",digest:"` + app + `"){Digest}}`:                              `{"Referrers":[]}`,
			`{StarredRepos{Page{TotalCount}} BookmarkedRepos{Page{TotalCount}}}`:                     `{"StarredRepos":{"Page":{"TotalCount":0}},"BookmarkedRepos":{"Page":{"TotalCount":0}}}`,
		} {
			w.get(t, a, query).want(t, query, want)
		}
		for _, query := range []string{`{Image(image:"%"){Tag}}`, `{BaseImageList(image:"%"){Tags}}`, `{DerivedImageList(image:"%"){Tags}}`} {
			there := w.get(t, a, strings.ReplaceAll(query, "%", "team/app:v1.0"))
			gone := w.get(t, a, strings.ReplaceAll(query, "%", "team/none:v1.0"))
			if there.status != 200 || len(there.Errors) != 1 || len(gone.Errors) != 1 || strings.ReplaceAll(there.Errors[0].Message, "app", "none") != gone.Errors[0].Message || string(there.Data) != "null" {
				t.Errorf("%s: what is there is told from what is not: %+v, %+v", query, there, gone)
			}
		}
	}
}

// TestErrors: what can't be answered is told in GraphQL's own form.
func TestErrors(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	for query, want := range map[string]string{
		`{Image(image:"none:1"){Tag}}`:                                          "can't find image: none:1",
		`{Image(image:":"){Tag}}`:                                               "can't find image: :",
		`{ImageList(requestedPage:{limit:-1}){Tags}}`:                           "limit and offset must not be negative",
		`{ImageListForDigest(id:"sha256:xyz"){Tags}}`:                           "does not begin a digest",
		`{GlobalSearch(query:"` + strings.Repeat("a", 257) + `"){Repos{Name}}}`: "at most 256 bytes",
		`{BaseImageList(image:"base:1",digest:"sha256:00"){Tags}}`:              "has no manifest",
		`{Referrers(repo:"base",digest:"x"){Digest}}`:                           "digest",
		// CVE scanning is off: zot's words.
		`{CVEListForImage(image:"base:1"){Tag CVEList{Id Severity Title PackageList{Name InstalledVersion FixedVersion}}}}`: "search: CVE search is disabled",
		`{ImageListForCVE(id:"CVE-2024-1234"){Name Tags}}`:                                                                  "search: CVE search is disabled",
		`{ImageListWithCVEFixed(id:"CVE-2024-1234",image:"base"){Tags}}`:                                                    "search: CVE search is disabled",
		`{CVEDiffListForImages(minuend:{Repo:"base",Tag:"1"},subtrahend:{Repo:"base",Tag:"1"}){CVEList{Id}}}`:               "search: CVE search is disabled",
	} {
		got := w.get(t, alice, query)
		if got.status != 200 || len(got.Errors) != 1 || !strings.Contains(got.Errors[0].Message, want) || string(got.Data) != "null" || len(got.Errors[0].Path) != 1 {
			t.Errorf("%s: %+v, want an error with %q", query, got, want)
		}
	}
	// One of two is answered as far as the schema lets it: the root can't be null.
	for query, status := range map[string]int{
		`{Nothing}`:            422,
		`{ImageList{Nothing}}`: 422,
		`{Image{Tag}}`:         422,
		`mutation{x}`:          422,
		`{ImageList(requestedPage:{limit:"x"}){Tags}}`: 422,
		`query A{__typename} query B{__typename}`:      422,
		`{ImageList`: 400,
		``:           400,
		"\xff":       400,
	} {
		if got := w.get(t, alice, query); got.status != status || len(got.Errors) == 0 {
			t.Errorf("%s: %+v, want %d", query, got, status)
		}
	}
}

// TestTrust tells who signed an image, if somebody verifies that.
func TestTrust(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	asked := 0
	w.h.signed = func(_ context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]trust.Signature, error) {
		asked++
		if a.ID != alice.ID || repo != "team/app" || d != w.ids["team/app:v1.0"] {
			t.Errorf("%s is asked about %s@%s", a.ID, repo, d)
		}
		return []trust.Signature{{Tool: "notation", Trusted: true, Author: "CN=somebody"}}, nil
	}
	q := `{ImageList(requestedPage:{sortBy:ALPHABETIC_ASC}){Results{Tag IsSigned SignatureInfo{Tool IsTrusted Author}}}}`
	w.get(t, alice, q).want(t, q, `{"ImageList":{"Results":[{"Tag":"1","IsSigned":false,"SignatureInfo":[]},{"Tag":"all","IsSigned":false,"SignatureInfo":[]},
		{"Tag":"v1.0","IsSigned":true,"SignatureInfo":[{"Tool":"notation","IsTrusted":true,"Author":"CN=somebody"}]},{"Tag":"v2.0","IsSigned":false,"SignatureInfo":[]}]}}`)
	if asked != 1 {
		t.Errorf("%d images were verified, and one is signed", asked)
	}
}
