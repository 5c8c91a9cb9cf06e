package contents

import (
	"cmp"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Stacked is a layer of an image.
type Stacked struct {
	Digest registry.Digest
	*Layer
}

// Squash returns what is visible of the layers of an image, the lowest first.
func Squash(layers []Stacked) *Image {
	visible := make(map[string]*Found)
	from := make(map[string]registry.Digest)
	var skipped []string
	for _, l := range layers {
		hide(visible, l.Layer)
		for i := range l.Found {
			if f := &l.Found[i]; f.Kind != "" || f.OS != nil {
				visible[f.Path], from[f.Path] = f, l.Digest
			}
		}
		skipped = append(skipped, l.Skipped...)
	}
	image := &Image{OS: system(visible), Skipped: skipped}
	origin := newOrigins(layers)
	for p, f := range visible {
		if f.Kind == "" || len(f.Packages) == 0 {
			continue
		}
		packages := slices.Clone(f.Packages)
		for i := range packages {
			packages[i].Layer = cmp.Or(origin.of(f, &packages[i]), from[p])
		}
		if f.Kind.OfOS() {
			image.Packages = append(image.Packages, packages...)
		} else {
			image.Apps = append(image.Apps, App{Path: p, Kind: f.Kind, Packages: packages})
		}
	}
	slices.SortFunc(image.Packages, func(a, b Package) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Version, b.Version))
	})
	slices.SortFunc(image.Apps, func(a, b App) int { return strings.Compare(a.Path, b.Path) })
	return image
}

// hide removes what a layer hides: what it removes, and what it has other files for,
// with all that is below it if that was a directory.
func hide(visible map[string]*Found, l *Layer) {
	if len(visible) == 0 {
		return
	}
	gone := make(map[string]bool, len(l.Hidden))
	for _, h := range l.Hidden {
		gone[h] = true
	}
	for i := range l.Found {
		gone[l.Found[i].Path] = true
	}
	opaque := make(map[string]bool, len(l.Opaque))
	for _, o := range l.Opaque {
		opaque[o] = true
	}
	if len(gone)+len(opaque) == 0 {
		return
	}
	for p := range visible {
		hidden := gone[p] || opaque[""]
		for dir := p; !hidden; {
			i := strings.LastIndexByte(dir, '/')
			if i < 0 {
				break
			}
			dir = dir[:i]
			hidden = gone[dir] || opaque[dir]
		}
		if hidden {
			delete(visible, p)
		}
	}
}

// system returns the operating system that files tell of. Debian tells its version in
// full in a file of its own; that of derived ones is the version they are derived
// from.
func system(visible map[string]*Found) OS {
	var is OS
	for _, p := range []string{
		"etc/os-release", "usr/lib/os-release", "etc/alpine-release", "etc/debian_version", "etc/redhat-release", "etc/system-release", "usr/lib/system-release",
	} {
		f := visible[p]
		if f == nil || f.OS == nil {
			continue
		}
		precise := is.Family == f.OS.Family && f.OS.Version != "" && f.OS.Version[0] >= '0' && f.OS.Version[0] <= '9'
		if is.Family == "" || is.Version == "" && is.Family == f.OS.Family || precise && strings.HasPrefix(f.OS.Version, is.Version) {
			is = *f.OS
		}
	}
	return is
}

// origins knows the first layer in which a file told of a package.
type origins map[originKey]registry.Digest

type originKey struct{ path, name, version, release string }

func newOrigins(layers []Stacked) origins {
	o := make(origins)
	for _, l := range layers {
		for i := range l.Found {
			f := &l.Found[i]
			for j := range f.Packages {
				p := &f.Packages[j]
				k := originKey{f.Path, p.Name, p.Version, p.Release}
				if _, ok := o[k]; !ok {
					o[k] = l.Digest
				}
			}
		}
	}
	return o
}

func (o origins) of(f *Found, p *Package) registry.Digest {
	return o[originKey{f.Path, p.Name, p.Version, p.Release}]
}
