// Package bom writes bills of materials of images: CycloneDX 1.6 and SPDX 2.3, as
// JSON.
package bom

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/contents"
)

// Subject is the image that a bill is of.
type Subject struct {
	Repository registry.Name
	Digest     registry.Digest
	Image      *contents.Image
	At         time.Time // when it was scanned
	Version    string    // of this program
}

// Write returns a bill. The same subject gives the same bytes.
// [registry.ErrParameterInvalid] for an unknown format.
func Write(s Subject, f registry.SBOMFormat) ([]byte, error) {
	switch f {
	case registry.CycloneDX:
		return json.Marshal(cyclonedx(&s))
	case registry.SPDX:
		return json.Marshal(spdx(&s))
	}
	return nil, registry.ErrParameterInvalid.With("%q is no format of bills of materials: want %s or %s", f, registry.CycloneDX, registry.SPDX)
}

// purl returns the package URL of a package (github.com/package-url/purl-spec).
func purl(os contents.OS, k contents.Kind, p *contents.Package) string {
	kinds := map[contents.Kind]string{
		contents.APK: "apk", contents.DPKG: "deb", contents.RPM: "rpm", contents.GoBinary: "golang", contents.Rust: "cargo",
		contents.NodePkg: "npm", contents.NPM: "npm", contents.Python: "pypi", contents.Jar: "maven", contents.Gem: "gem",
		contents.Composer: "composer", contents.DotNet: "nuget", contents.NuGet: "nuget", contents.Props: "nuget",
		contents.Cargo: "cargo", contents.Conda: "conda",
	}
	name, q := p.Name, url.Values{}
	var namespace string
	switch k {
	case contents.APK, contents.DPKG, contents.RPM:
		namespace = os.Family
		if p.Arch != "" {
			q.Set("arch", p.Arch)
		}
		if os.Version != "" {
			q.Set("distro", os.Family+"-"+os.Version)
		}
		if p.Epoch != 0 {
			q.Set("epoch", fmt.Sprint(p.Epoch))
		}
	case contents.Jar:
		namespace, name, _ = strings.Cut(p.Name, ":")
	case contents.Python:
		name = strings.ReplaceAll(strings.ToLower(p.Name), "_", "-")
	default:
		if i := strings.LastIndexByte(p.Name, '/'); i >= 0 {
			namespace, name = p.Name[:i], p.Name[i+1:]
		}
	}
	u := "pkg:" + kinds[k] + "/"
	for part := range strings.SplitSeq(namespace, "/") {
		if part != "" {
			u += escape(part) + "/"
		}
	}
	u += escape(name) + "@" + escape(Version(p))
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	return u
}

// Version returns the version of a package as people know it.
func Version(p *contents.Package) string {
	v := p.Version
	if p.Release != "" {
		v += "-" + p.Release
	}
	return v
}

// each calls f with all packages, in the order of the image.
func each(image *contents.Image, f func(kind contents.Kind, path string, p *contents.Package)) {
	kind := contents.DPKG
	switch image.OS.Family {
	case "alpine", "wolfi", "chainguard":
		kind = contents.APK
	case "debian", "ubuntu", "":
	default:
		kind = contents.RPM
	}
	for i := range image.Packages {
		f(kind, "", &image.Packages[i])
	}
	for _, a := range image.Apps {
		for i := range a.Packages {
			f(a.Kind, a.Path, &a.Packages[i])
		}
	}
}

// imageURL returns the package URL of the image itself.
func imageURL(s *Subject) string {
	name := string(s.Repository)
	return "pkg:oci/" + escape(name[strings.LastIndexByte(name, '/')+1:]) + "@" + escape(string(s.Digest))
}

// escape encodes a part of a package URL.
func escape(s string) string { return strings.ReplaceAll(url.PathEscape(s), "@", "%40") }
