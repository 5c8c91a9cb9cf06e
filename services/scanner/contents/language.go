package contents

import (
	"bufio"
	"errors"
	"io"
	"net/textproto"
	"path"
	"regexp"
	"slices"
	"strings"
)

// sorted orders packages and drops those that are there twice.
func sorted(all []Package) []Package {
	slices.SortFunc(all, func(a, b Package) int {
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.Version, b.Version)
	})
	return slices.Compact(all)
}

// named reads a document of JSON that tells of one package.
func named(f *told, r io.Reader) error {
	var p Package
	if err := newDocument(r).texts(map[string]*string{"name": &p.Name, "version": &p.Version, "license": &p.License}); err != nil {
		return err
	}
	return f.add(p)
}

// packageJSON reads an installed package of Node.js. A package.json for settings has no
// version.
func packageJSON(f *told, r io.Reader) error {
	f.Kind = NodePkg
	return named(f, r)
}

// packageLock reads npm's lock file, of any version.
func packageLock(f *told, r io.Reader) error {
	f.Kind = NPM
	d := newDocument(r)
	placed := false // what was found is of the newer form, which counts if both are there
	err := d.object(func(key string) error {
		switch {
		case key == "packages":
			return d.object(func(where string) error {
				if !placed {
					placed, f.Packages = true, nil
				}
				return placedPackage(f, d, where)
			})
		case key == "dependencies" && !placed:
			return lockedPackages(f, d)
		}
		return d.skip()
	})
	f.Packages = sorted(f.Packages)
	return err
}

// placedPackage reads a package and where it is, node_modules/NAME, in a lock file of npm 7.
func placedPackage(f *told, d *document, where string) error {
	var p Package
	var dev, link bool
	err := d.object(func(key string) error {
		switch key {
		case "name":
			return d.text(&p.Name)
		case "version":
			return d.text(&p.Version)
		case "dev":
			return d.flag(&dev)
		case "link":
			return d.flag(&link)
		}
		return d.skip()
	})
	i := strings.LastIndex(where, "node_modules/")
	if err != nil || i < 0 || dev || link {
		return err
	}
	if p.Name == "" {
		p.Name = where[i+len("node_modules/"):]
	}
	return f.add(p)
}

// lockedPackages reads packages, and those in them, of a lock file before npm 7.
func lockedPackages(f *told, d *document) error {
	return d.object(func(name string) error {
		p, dev, before := Package{Name: name}, false, len(f.Packages)
		err := d.object(func(key string) error {
			switch key {
			case "version":
				return d.text(&p.Version)
			case "dev":
				return d.flag(&dev)
			case "dependencies":
				return lockedPackages(f, d)
			}
			return d.skip()
		})
		if err == nil && (dev || p.Version == "") {
			f.Packages = f.Packages[:before] // with what only it needs
			return nil
		}
		return errors.Join(err, f.add(p))
	})
}

// pythonMetadata reads the metadata of an installed package (core metadata, PEP 566).
func pythonMetadata(f *told, r io.Reader) error {
	h, err := textproto.NewReader(bufio.NewReader(io.LimitReader(r, 1<<20))).ReadMIMEHeader()
	if h.Get("Name") == "" || h.Get("Version") == "" {
		return err
	}
	license := h.Get("License-Expression")
	if l := h.Get("License"); license == "" && len(l) < 100 {
		license = l
	}
	f.Kind = Python
	return f.add(Package{Name: h.Get("Name"), Version: h.Get("Version"), License: license})
}

var (
	gemName    = regexp.MustCompile(`(?m)^\s*\w+\.name\s*=\s*["']([\w.-]+)["']`)
	gemVersion = regexp.MustCompile(`(?m)^\s*\w+\.version\s*=\s*(?:Gem::Version\.new\()?\s*["']([\w.-]+)["']`)
)

// gemspec reads the specification of an installed Ruby gem, which RubyGems writes in
// one form.
func gemspec(f *told, r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return err
	}
	name, version := gemName.FindSubmatch(b), gemVersion.FindSubmatch(b)
	if name != nil && version != nil {
		f.Kind = Gem
		return f.add(Package{Name: string(name[1]), Version: string(version[1])})
	}
	return nil
}

// composerInstalled reads what Composer has installed for PHP.
func composerInstalled(f *told, r io.Reader) error {
	f.Kind = Composer
	d := newDocument(r)
	err := d.object(func(key string) error {
		if key != "packages" {
			return d.skip()
		}
		return d.array(func() error {
			var p Package
			if err := d.texts(map[string]*string{"name": &p.Name, "version": &p.Version}); err != nil {
				return err
			}
			return f.add(p)
		})
	})
	f.Packages = sorted(f.Packages)
	return err
}

// jarFile is how the name of a jar tells an artifact and its version.
var jarFile = regexp.MustCompile(`^([\w.-]+)-(\d\S*)\.jar$`)

// jarName returns what the name of a jar tells.
func jarName(name string) (artifact, version string) {
	m := jarFile.FindStringSubmatch(path.Base(name))
	if m == nil {
		return "", ""
	}
	return m[1], m[2]
}
