package contents

import (
	"io"
	"path"
	"strings"
)

// look is a way to look at a file.
type look struct {
	// stream reads a text from its beginning.
	stream func(f *Found, r io.Reader) error
	// anyOrder says that at is set, for files that are not texts.
	anyOrder bool
	at       func(w *walk, f *Found, r io.ReaderAt, size int64) error
}

var (
	lookOSRelease = &look{stream: osRelease}
	lookDebian    = &look{stream: debianVersion}
	lookAlpine    = &look{stream: alpineRelease}
	lookAPK       = &look{stream: apk}
	lookDPKG      = &look{stream: dpkg}
	lookNode      = &look{stream: packageJSON}
	lookLock      = &look{stream: packageLock}
	lookPython    = &look{stream: pythonMetadata}
	lookGem       = &look{stream: gemspec}
	lookComposer  = &look{stream: composerInstalled}
	lookDotNet    = &look{stream: dotnetDeps}
	lookJar       = &look{anyOrder: true, at: func(w *walk, f *Found, r io.ReaderAt, size int64) error { return w.jar(f, r, size) }}
	lookRPM       = &look{anyOrder: true, at: func(w *walk, f *Found, r io.ReaderAt, size int64) error { return w.rpm(f, r, size) }}
)

var lookByPath = map[string]*look{
	"etc/os-release":                    lookOSRelease,
	"usr/lib/os-release":                lookOSRelease,
	"etc/debian_version":                lookDebian,
	"etc/alpine-release":                lookAlpine,
	"lib/apk/db/installed":              lookAPK,
	"usr/lib/apk/db/installed":          lookAPK,
	"var/lib/dpkg/status":               lookDPKG,
	"var/lib/rpm/rpmdb.sqlite":          lookRPM,
	"usr/lib/sysimage/rpm/rpmdb.sqlite": lookRPM,
	"var/lib/rpm/Packages":              lookRPM,
	"var/lib/rpm/Packages.db":           lookRPM,
	"usr/lib/sysimage/rpm/Packages":     lookRPM,
	"usr/lib/sysimage/rpm/Packages.db":  lookRPM,
}

// lookAt returns the way to look at a file of that name, nil if there is none.
func lookAt(name, base string) *look {
	if l := lookByPath[name]; l != nil {
		return l
	}
	dir := path.Dir(name)
	switch {
	case dir == "var/lib/dpkg/status.d" && !strings.HasSuffix(base, ".md5sums"):
		return lookDPKG
	case base == "package.json" && strings.Contains(name, "node_modules/"):
		return lookNode
	case base == "package-lock.json" && !strings.Contains(name, "node_modules/"):
		return lookLock
	case base == "METADATA" && strings.HasSuffix(dir, ".dist-info"), base == "PKG-INFO" && strings.HasSuffix(dir, ".egg-info"), strings.HasSuffix(base, ".egg-info"):
		return lookPython
	case strings.HasSuffix(base, ".gemspec") && strings.HasSuffix(dir, "specifications") || strings.HasSuffix(base, ".gemspec") && strings.HasSuffix(dir, "specifications/default"):
		return lookGem
	case base == "installed.json" && strings.HasSuffix(dir, "vendor/composer"):
		return lookComposer
	case strings.HasSuffix(base, ".deps.json"):
		return lookDotNet
	}
	switch strings.ToLower(path.Ext(base)) {
	case ".jar", ".war", ".ear", ".par":
		return lookJar
	}
	return nil
}
