package contents

import "github.com/berth-registry/berth/registry"

// Format is raised when a [Layer] of the same bytes would be another.
const Format = 3

// Kind says where packages were found, in the words of Trivy.
type Kind string

// The kinds.
const (
	APK      Kind = "apk"
	DPKG     Kind = "dpkg"
	RPM      Kind = "rpm"
	GoBinary Kind = "gobinary"
	Rust     Kind = "rustbinary"
	NodePkg  Kind = "node-pkg"
	NPM      Kind = "npm" // package-lock.json
	Python   Kind = "python-pkg"
	Jar      Kind = "jar"
	Gem      Kind = "gemspec"
	Composer Kind = "composer-vendor"
	DotNet   Kind = "dotnet-core"
	NuGet    Kind = "nuget"          // packages.lock.json, packages.config
	Props    Kind = "packages-props" // *.packages.props
	Cargo    Kind = "cargo"          // Cargo.lock
	Conda    Kind = "conda-pkg"      // has no advisories
)

// OfOS reports whether packages of that kind are the operating system's.
func (k Kind) OfOS() bool { return k == APK || k == DPKG || k == RPM }

// Package is an installed package.
type Package struct {
	Name    string `json:"n"`
	Version string `json:"v"`
	Release string `json:"r,omitempty"`
	Epoch   int    `json:"e,omitempty"`
	Arch    string `json:"a,omitempty"`
	// What it was built from, if it is of an operating system.
	SourceName    string `json:"sn,omitempty"`
	SourceVersion string `json:"sv,omitempty"`
	SourceRelease string `json:"sr,omitempty"`
	SourceEpoch   int    `json:"se,omitempty"`
	License       string `json:"l,omitempty"`
	// Module is the module's label of a package of an RPM distribution.
	Module string `json:"m,omitempty"`
	// Foreign says that a package of an operating system is not of its distribution, so
	// that its advisories don't tell of it.
	Foreign bool `json:"f,omitempty"`
	// Layer that it came with; of the packages of an [Image] only.
	Layer registry.Digest `json:"d,omitempty"`
}

// Found is a file that tells of packages or of the operating system. One that
// replaces such a file and tells nothing is Found, too, without a kind.
type Found struct {
	Path     string    `json:"p"`
	Kind     Kind      `json:"k,omitempty"`
	Packages []Package `json:"x,omitempty"`
	OS       *OS       `json:"o,omitempty"`
}

// OS is an operating system.
type OS struct {
	Family  string `json:"family"` // in the words of Trivy
	Version string `json:"version"`
}

// Layer is what one layer has.
type Layer struct {
	Found []Found `json:"f,omitempty"`
	// Hidden are the names that it removes, Opaque the directories of which it
	// removes all that was in them.
	Hidden []string `json:"h,omitempty"`
	Opaque []string `json:"q,omitempty"`
	// Skipped are files that were too large to look at.
	Skipped []string `json:"s,omitempty"`
}

// App is a file of an image that has packages of a language.
type App struct {
	Path     string    `json:"p"`
	Kind     Kind      `json:"k"`
	Packages []Package `json:"x"`
}

// Image is what all layers have together.
type Image struct {
	OS       OS        `json:"os"`
	Packages []Package `json:"packages,omitempty"` // of the OS
	Apps     []App     `json:"apps,omitempty"`
	Skipped  []string  `json:"skipped,omitempty"`
}

// Count returns how many packages there are.
func (i *Image) Count() int {
	n := len(i.Packages)
	for _, a := range i.Apps {
		n += len(a.Packages)
	}
	return n
}
