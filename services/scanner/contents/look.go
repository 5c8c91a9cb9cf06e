package contents

import (
	"io"
	"path"
	"strings"
)

// look is a way to look at a file: a text from its beginning, or a file in any order.
type look struct {
	text func(w *walk, f *told, r io.Reader) error
	file func(w *walk, f *told, r io.ReaderAt, size int64) error
	most int64 // bytes of a text, if that is less than of others
}

// plain is a look at a text that needs nothing but the text.
func plain(f func(f *told, r io.Reader) error) *look {
	return &look{text: func(_ *walk, found *told, r io.Reader) error { return f(found, r) }}
}

// mostXML is the most bytes of XML: all attributes of an element are in memory at once.
const mostXML = 4 << 20

var (
	lookOSRelease = plain(osRelease)
	lookDebian    = plain(debianVersion)
	lookAlpine    = plain(alpineRelease)
	lookRedHat    = plain(redhatRelease)
	lookAmazon    = plain(amazonRelease)
	lookAPK       = &look{text: (*walk).apk}
	lookDPKG      = plain(dpkg)
	lookMD5       = &look{text: (*walk).md5sums}
	lookNode      = plain(packageJSON)
	lookLock      = plain(packageLock)
	lookPython    = plain(pythonMetadata)
	lookGem       = plain(gemspec)
	lookComposer  = plain(composerInstalled)
	lookDotNet    = plain(dotnetDeps)
	lookNuGet     = plain(nugetLock)
	lookNuGetOld  = &look{text: func(_ *walk, f *told, r io.Reader) error { return nugetConfig(f, r) }, most: mostXML}
	lookProps     = &look{text: func(_ *walk, f *told, r io.Reader) error { return nugetProps(f, r) }, most: mostXML}
	lookCargo     = plain(cargoLock)
	lookConda     = plain(condaMeta)
	lookEgg       = &look{file: (*walk).egg}
	lookJar       = &look{file: (*walk).jar}
	lookRPM       = &look{file: (*walk).rpm}
	lookRPMList   = plain(rpmManifest)
)

var lookByPath = map[string]*look{
	"etc/os-release":                    lookOSRelease,
	"usr/lib/os-release":                lookOSRelease,
	"etc/debian_version":                lookDebian,
	"etc/alpine-release":                lookAlpine,
	"lib/apk/db/installed":              lookAPK,
	"usr/lib/apk/db/installed":          lookAPK,
	"var/lib/dpkg/status":               lookDPKG,
	"etc/redhat-release":                lookRedHat,
	"etc/system-release":                lookAmazon,
	"usr/lib/system-release":            lookAmazon,
	"usr/share/rpm/rpmdb.sqlite":        lookRPM,
	"var/lib/rpm/rpmdb.sqlite":          lookRPM,
	"usr/lib/sysimage/rpm/rpmdb.sqlite": lookRPM,
	"var/lib/rpm/Packages":              lookRPM,
	"var/lib/rpm/Packages.db":           lookRPM,
	"usr/lib/sysimage/rpm/Packages":     lookRPM,
	"usr/lib/sysimage/rpm/Packages.db":  lookRPM,

	"var/lib/rpmmanifest/container-manifest-2": lookRPMList,
}

var lookByName = map[string]*look{
	"package.json": lookNode, "packages.lock.json": lookNuGet, "packages.config": lookNuGetOld, "Cargo.lock": lookCargo,
	"installed.json": lookComposer,
}

// lookAt returns the way to look at a file of that name, nil if there is none.
func lookAt(name, base string) *look {
	if l := lookByPath[name]; l != nil {
		return l
	}
	if l := lookByName[base]; l != nil {
		return l
	}
	dir := path.Dir(name)
	switch {
	case strings.HasSuffix(base, ".md5sums"):
		if dir == "var/lib/dpkg/info" || dir == "var/lib/dpkg/status.d" {
			return lookMD5
		}
	case dir == "var/lib/dpkg/status.d":
		return lookDPKG
	case base == "package-lock.json" && !strings.Contains(name, "node_modules/"):
		return lookLock
	case base == "METADATA" && (strings.HasSuffix(dir, ".dist-info") || strings.HasSuffix(dir, ".egg-info")),
		base == "PKG-INFO" && (strings.HasSuffix(dir, ".egg-info") || strings.HasSuffix(dir, "EGG-INFO")),
		strings.HasSuffix(base, ".egg-info"):
		return lookPython
	case strings.HasSuffix(base, ".gemspec") && (strings.HasSuffix(dir, "/specifications") || strings.Contains(dir, "/specifications/")):
		return lookGem
	case strings.HasSuffix(base, ".deps.json"):
		return lookDotNet
	case strings.HasSuffix(strings.ToLower(base), "packages.props"):
		return lookProps
	case strings.HasSuffix(base, ".json") && strings.HasSuffix(dir, "/conda-meta"):
		return lookConda
	}
	switch strings.ToLower(path.Ext(base)) {
	case ".jar", ".war", ".ear", ".par":
		return lookJar
	case ".egg":
		return lookEgg
	}
	return nil
}
