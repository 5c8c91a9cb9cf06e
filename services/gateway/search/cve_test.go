package search

import (
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// TestCVE asks each query about vulnerabilities of a scanner that knows some images.
func TestCVE(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	scans := memory.NewScans()
	w.h.scans = scans
	high := registry.ScanFinding{ID: "CVE-2024-1", Severity: registry.SeverityHigh, Title: "bad", Packages: []registry.FindingPackage{{Name: "ssl", Version: "1", Fixed: "2"}}}
	low := registry.ScanFinding{ID: "CVE-2024-2", Severity: registry.SeverityLow, Packages: []registry.FindingPackage{{Name: "zip", Path: "a.jar", Version: "3"}}}
	put := func(image string, findings ...registry.ScanFinding) {
		scans.Put(registry.ScanStatus{Digest: w.ids[image], State: registry.ScanDone, DB: "1"}, findings...)
	}
	put("base:1")
	put("team/app:v1.0", high, low)
	put("team/app:v2.0", low)
	for query, want := range map[string]string{
		// The guide's two.
		`{CVEListForImage(image:"team/app:v1.0"){Tag CVEList{Id Severity Title PackageList{Name InstalledVersion FixedVersion}}}}`: `{"CVEListForImage":{"Tag":"v1.0","CVEList":[
			{"Id":"CVE-2024-1","Severity":"HIGH","Title":"bad","PackageList":[{"Name":"ssl","InstalledVersion":"1","FixedVersion":"2"}]},
			{"Id":"CVE-2024-2","Severity":"LOW","Title":"","PackageList":[{"Name":"zip","InstalledVersion":"3","FixedVersion":"Not Specified"}]}]}}`,
		`{ImageListForCVE(id:"CVE-2024-1"){Name Tags}}`: `{"ImageListForCVE":{"Name":["team/app"],"Tags":["team/app:v1.0"]}}`,

		`{CVEListForImage(image:"base:1"){CVEList{Id} Summary{MaxSeverity Count} Page{TotalCount}}}`: `{"CVEListForImage":{"CVEList":[],"Summary":{"MaxSeverity":"NONE","Count":0},"Page":{"TotalCount":0}}}`,
		`{CVEListForImage(image:"team/app:v1.0",requestedPage:{limit:1,offset:1,sortBy:ALPHABETIC_DSC}){CVEList{Id} Summary{MaxSeverity Count HighCount LowCount} Page{TotalCount ItemCount}}}`: `{"CVEListForImage":{
			"CVEList":[{"Id":"CVE-2024-1"}],"Summary":{"MaxSeverity":"HIGH","Count":2,"HighCount":1,"LowCount":1},"Page":{"TotalCount":2,"ItemCount":1}}}`,
		`{CVEListForImage(image:"team/app:v1.0",searchedCVE:"2024-2"){CVEList{Id}}}`:                                   `{"CVEListForImage":{"CVEList":[{"Id":"CVE-2024-2"}]}}`,
		`{CVEListForImage(image:"team/app:v1.0",excludedCVE:"2024-2"){CVEList{Id}}}`:                                   `{"CVEListForImage":{"CVEList":[{"Id":"CVE-2024-1"}]}}`,
		`{CVEListForImage(image:"team/app:v1.0",severity:"LOW"){CVEList{Id}}}`:                                         `{"CVEListForImage":{"CVEList":[{"Id":"CVE-2024-2"}]}}`,
		`{ImageListForCVE(id:"CVE-2024-2",requestedPage:{limit:1,sortBy:UPDATE_TIME}){Results{Tag} Page{TotalCount}}}`: `{"ImageListForCVE":{"Results":[{"Tag":"v2.0"}],"Page":{"TotalCount":2}}}`,
		`{ImageListForCVE(id:"CVE-2024-2",filter:{Arch:["amd64"]}){Results{Tag}}}`:                                     `{"ImageListForCVE":{"Results":[{"Tag":"v1.0"}]}}`,
		`{ImageListForCVE(id:"CVE-0"){Results{Tag}}}`:                                                                  `{"ImageListForCVE":{"Results":[]}}`,
		`{ImageListWithCVEFixed(id:"CVE-2024-1",image:"team/app"){Results{Tag} Page{TotalCount}}}`:                     `{"ImageListWithCVEFixed":{"Results":[{"Tag":"v2.0"}],"Page":{"TotalCount":1}}}`,
		`{ImageListWithCVEFixed(id:"CVE-2024-2",image:"team/app"){Results{Tag}}}`:                                      `{"ImageListWithCVEFixed":{"Results":[]}}`,
		`{ImageListWithCVEFixed(id:"CVE-2024-2",image:"base"){Results{Tag}}}`:                                          `{"ImageListWithCVEFixed":{"Results":[{"Tag":"1"}]}}`,
		`{CVEDiffListForImages(minuend:{Repo:"team/app",Tag:"v1.0"},subtrahend:{Repo:"team/app",Tag:"v2.0",Platform:{Os:"linux",Arch:"arm64"}}){Minuend{Repo Tag} Subtrahend{Tag Platform{Arch}} CVEList{Id}}}`: `{"CVEDiffListForImages":{
			"Minuend":{"Repo":"team/app","Tag":"v1.0"},"Subtrahend":{"Tag":"v2.0","Platform":{"Arch":"arm64"}},"CVEList":[{"Id":"CVE-2024-1"}]}}`,
		`{ImageList(requestedPage:{sortBy:ALPHABETIC_ASC}){Results{Vulnerabilities{MaxSeverity Count}}}}`: `{"ImageList":{"Results":[
			{"Vulnerabilities":{"MaxSeverity":"NONE","Count":0}},{"Vulnerabilities":{"MaxSeverity":"","Count":0}},{"Vulnerabilities":{"MaxSeverity":"HIGH","Count":2}},{"Vulnerabilities":{"MaxSeverity":"LOW","Count":1}}]}}`,
		`{RepoListWithNewestImage{Results{NewestImage{Vulnerabilities{MaxSeverity}}}}}`: `{"RepoListWithNewestImage":{"Results":[{"NewestImage":{"Vulnerabilities":{"MaxSeverity":""}}},{"NewestImage":{"Vulnerabilities":{"MaxSeverity":"LOW"}}},{"NewestImage":{"Vulnerabilities":{"MaxSeverity":"NONE"}}}]}}`,
	} {
		w.get(t, alice, query).want(t, query, want)
	}
	scans.Put(registry.ScanStatus{Digest: w.ids["multi:all"], State: registry.ScanFailed, Reason: "limit: too many files"})
	scans.Put(registry.ScanStatus{Digest: w.ids["base:1"], State: registry.ScanDone})
	for query, want := range map[string]string{
		`{CVEListForImage(image:"multi:all"){Tag}}`:                                                                                    "limit: too many files",
		`{CVEListForImage(image:"base:1"){Tag}}`:                                                                                       "cve-db is not present",
		`{CVEListForImage(image:"none:1"){Tag}}`:                                                                                       "can't find image: none:1",
		`{CVEListForImage(image:"team/app:v1.0",requestedPage:{limit:4097}){Tag}}`:                                                     "at most 4096",
		`{CVEListForImage(image:"team/app:v1.0",requestedPage:{sortBy:STARS}){Tag}}`:                                                   "STARS",
		`{CVEDiffListForImages(minuend:{Repo:"team/app",Tag:"v1.0",Platform:{Os:"x"}},subtrahend:{Repo:"base",Tag:"1"}){CVEList{Id}}}`: "can't find image: team/app:v1.0",
	} {
		got := w.get(t, alice, query)
		if got.status != 200 || len(got.Errors) != 1 || !strings.Contains(got.Errors[0].Message, want) {
			t.Errorf("%s: %+v, want an error with %q", query, got, want)
		}
	}
}

// What may not be read has no vulnerabilities to tell of.
// TestS090Texts: what others wrote of a vulnerability is text in JSON, and its address
// leads to a page or is none.
func TestS090Texts(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	scans := memory.NewScans()
	w.h.scans = scans
	const markup = `<img src=x onerror=alert(1)><svg onload=alert(1)>`
	for address, want := range map[string]string{
		"https://nvd.nist.gov/vuln/detail/CVE-1": "https://nvd.nist.gov/vuln/detail/CVE-1",
		"javascript:alert(1)":                    "", "data:text/html,x": "", "JaVaScRiPt://x/%0aalert(1)": "", "//x": "", "https:": "", "%": "",
	} {
		scans.Put(registry.ScanStatus{Digest: w.ids["base:1"], State: registry.ScanDone, DB: "1"}, registry.ScanFinding{
			ID: "CVE-1", Title: markup, Description: markup, Reference: address, Packages: []registry.FindingPackage{{Name: markup, Version: markup, Path: markup}},
		})
		got := w.get(t, alice, `{CVEListForImage(image:"base:1"){CVEList{Title Description Reference PackageList{Name PackagePath InstalledVersion}}}}`)
		if body := string(got.Data); strings.Contains(body, "<") || !strings.Contains(body, `"Reference":"`+want+`"`) || !strings.Contains(body, `\u003cimg`) {
			t.Errorf("%s: %s", address, body)
		}
	}
}

func TestCVEPermissions(t *testing.T) {
	w := newWorld(t, &registry.AccessRules{Repositories: map[string]registry.RepositoryRules{"base": {DefaultPolicy: []string{"read"}}}}).fill(t)
	scans := memory.NewScans()
	w.h.scans = scans
	bad := registry.ScanFinding{ID: "CVE-2024-1", Severity: registry.SeverityHigh, Packages: []registry.FindingPackage{{Name: "ssl", Version: "1"}}}
	for _, image := range []string{"base:1", "team/app:v1.0"} {
		scans.Put(registry.ScanStatus{Digest: w.ids[image], State: registry.ScanDone, DB: "1"}, bad)
	}
	for query, want := range map[string]string{
		`{ImageListForCVE(id:"CVE-2024-1"){Tags Page{TotalCount}}}`:                        `{"ImageListForCVE":{"Tags":["base:1"],"Page":{"TotalCount":1}}}`,
		`{ImageListWithCVEFixed(id:"CVE-2024-9",image:"team/app"){Tags Page{TotalCount}}}`: `{"ImageListWithCVEFixed":{"Tags":[],"Page":{"TotalCount":0}}}`,
	} {
		w.get(t, registry.Actor{ID: "bob"}, query).want(t, query, want)
	}
	for _, query := range []string{
		`{CVEListForImage(image:"team/app:v1.0"){Tag}}`,
		`{CVEDiffListForImages(minuend:{Repo:"base",Tag:"1"},subtrahend:{Repo:"team/app",Tag:"v1.0"}){CVEList{Id}}}`,
	} {
		got := w.get(t, registry.Actor{ID: "bob"}, query)
		if len(got.Errors) != 1 || got.Errors[0].Message != "can't find image: team/app:v1.0" {
			t.Errorf("%s: %+v", query, got)
		}
	}
}

// TestCVEVariants: of images for several variants of an architecture, that one is meant
// whose platform is named as search tells it, and without a variant the first.
func TestCVEVariants(t *testing.T) {
	w := newWorld(t, nil)
	scans := memory.NewScans()
	w.h.scans = scans
	var list []registry.Descriptor
	for _, variant := range []string{"v6", "v7"} {
		config := w.store(t, "arm", "application/vnd.oci.image.config.v1+json", encode(t, map[string]any{"os": "linux", "architecture": "arm", "variant": variant}))
		d := w.put(t, "arm", registry.TypeManifest, map[string]any{"config": config, "layers": []any{}})
		scans.Put(registry.ScanStatus{Digest: d.Digest, State: registry.ScanDone, DB: "1"}, registry.ScanFinding{ID: "CVE-2024-" + variant, Severity: registry.SeverityLow})
		list = append(list, d)
	}
	w.put(t, "arm", registry.TypeIndex, map[string]any{"manifests": list}, "all")
	none := w.image(t, "none", "amd64", "2024-01-01T00:00:00Z", []string{"x"}, nil, "1")
	scans.Put(registry.ScanStatus{Digest: none.Digest, State: registry.ScanDone, DB: "1"})
	w.get(t, alice, `{Image(image:"arm:all"){Manifests{Platform{Arch}}}}`).want(t, "the platforms", `{"Image":{"Manifests":[{"Platform":{"Arch":"arm/v6"}},{"Platform":{"Arch":"arm/v7"}}]}}`)
	for arch, want := range map[string]string{"arm/v7": "v7", "arm/v6": "v6", "ARM/v7": "v7", "arm": "v6"} {
		query := `{CVEDiffListForImages(minuend:{Repo:"arm",Tag:"all",Platform:{Os:"linux",Arch:"` + arch + `"}},subtrahend:{Repo:"none",Tag:"1"}){Minuend{Platform{Arch}} CVEList{Id}}}`
		w.get(t, alice, query).want(t, query, `{"CVEDiffListForImages":{"Minuend":{"Platform":{"Arch":"arm/`+want+`"}},"CVEList":[{"Id":"CVE-2024-`+want+`"}]}}`)
	}
}

// TestCVEScannedAgain: what is known of an image is told while it waits to be scanned again.
func TestCVEScannedAgain(t *testing.T) {
	w := newWorld(t, nil).fill(t)
	scans := memory.NewScans()
	w.h.scans = scans
	scans.Put(registry.ScanStatus{Digest: w.ids["base:1"], State: registry.ScanDone, DB: "1"}, registry.ScanFinding{ID: "CVE-1", Severity: registry.SeverityLow})
	if err := scans.ScanNow(t.Context(), "base", w.ids["base:1"]); err != nil {
		t.Fatal(err)
	}
	for query, want := range map[string]string{
		`{CVEListForImage(image:"base:1"){CVEList{Id}}}`:              `{"CVEListForImage":{"CVEList":[{"Id":"CVE-1"}]}}`,
		`{Image(image:"base:1"){Vulnerabilities{MaxSeverity Count}}}`: `{"Image":{"Vulnerabilities":{"MaxSeverity":"LOW","Count":1}}}`,
	} {
		w.get(t, alice, query).want(t, query, want)
	}
}
