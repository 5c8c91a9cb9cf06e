package contents

import (
	"bufio"
	"encoding/json"
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

// packageJSON reads an installed package of Node.js.
func packageJSON(f *Found, r io.Reader) error {
	var p struct {
		Name, Version string
		License       any
	}
	if err := json.NewDecoder(r).Decode(&p); err != nil {
		return err
	}
	if p.Name == "" || p.Version == "" {
		return nil // a package.json for settings
	}
	license, _ := p.License.(string)
	f.Kind, f.Packages = NodePkg, []Package{{Name: p.Name, Version: p.Version, License: license}}
	return nil
}

// packageLock reads npm's lock file, of any version.
func packageLock(f *Found, r io.Reader) error {
	type old struct {
		Version      string
		Dev          bool
		Dependencies map[string]json.RawMessage
	}
	var lock struct {
		Packages map[string]struct {
			Name, Version string
			Dev, Link     bool
		}
		Dependencies map[string]json.RawMessage
	}
	if err := json.NewDecoder(r).Decode(&lock); err != nil {
		return err
	}
	f.Kind = NPM
	for where, p := range lock.Packages {
		i := strings.LastIndex(where, "node_modules/")
		if i < 0 || p.Version == "" || p.Dev || p.Link {
			continue
		}
		name := p.Name
		if name == "" {
			name = where[i+len("node_modules/"):]
		}
		f.Packages = append(f.Packages, Package{Name: name, Version: p.Version})
	}
	level := []map[string]json.RawMessage{lock.Dependencies}
	for depth := 0; len(lock.Packages) == 0 && len(level) > 0 && depth < 32; depth++ {
		var next []map[string]json.RawMessage
		for _, all := range level {
			for name, raw := range all {
				var p old
				if json.Unmarshal(raw, &p) != nil || p.Dev || p.Version == "" {
					continue
				}
				f.Packages = append(f.Packages, Package{Name: name, Version: p.Version})
				if len(p.Dependencies) > 0 {
					next = append(next, p.Dependencies)
				}
			}
		}
		level = next
	}
	f.Packages = sorted(f.Packages)
	return nil
}

// pythonMetadata reads the metadata of an installed package (core metadata, PEP 566).
func pythonMetadata(f *Found, r io.Reader) error {
	h, err := textproto.NewReader(bufio.NewReader(io.LimitReader(r, 1<<20))).ReadMIMEHeader()
	if h.Get("Name") == "" || h.Get("Version") == "" {
		return err
	}
	license := h.Get("License-Expression")
	if l := h.Get("License"); license == "" && len(l) < 100 {
		license = l
	}
	f.Kind, f.Packages = Python, []Package{{Name: h.Get("Name"), Version: h.Get("Version"), License: license}}
	return nil
}

var (
	gemName    = regexp.MustCompile(`(?m)^\s*\w+\.name\s*=\s*["']([\w.-]+)["']`)
	gemVersion = regexp.MustCompile(`(?m)^\s*\w+\.version\s*=\s*(?:Gem::Version\.new\()?\s*["']([\w.-]+)["']`)
)

// gemspec reads the specification of an installed Ruby gem, which RubyGems writes in
// one form.
func gemspec(f *Found, r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return err
	}
	name, version := gemName.FindSubmatch(b), gemVersion.FindSubmatch(b)
	if name != nil && version != nil {
		f.Kind, f.Packages = Gem, []Package{{Name: string(name[1]), Version: string(version[1])}}
	}
	return nil
}

// composerInstalled reads what Composer has installed for PHP.
func composerInstalled(f *Found, r io.Reader) error {
	var list struct {
		Packages []struct{ Name, Version string }
	}
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		return err
	}
	f.Kind = Composer
	for _, p := range list.Packages {
		if p.Name != "" && p.Version != "" {
			f.Packages = append(f.Packages, Package{Name: p.Name, Version: p.Version})
		}
	}
	f.Packages = sorted(f.Packages)
	return nil
}

// dotnetDeps reads the list of libraries of a .NET program.
func dotnetDeps(f *Found, r io.Reader) error {
	var deps struct {
		Libraries map[string]struct{ Type string }
	}
	if err := json.NewDecoder(r).Decode(&deps); err != nil {
		return err
	}
	f.Kind = DotNet
	for id, l := range deps.Libraries {
		name, version, ok := strings.Cut(id, "/")
		if ok && l.Type == "package" && name != "" && version != "" {
			f.Packages = append(f.Packages, Package{Name: name, Version: version})
		}
	}
	f.Packages = sorted(f.Packages)
	return nil
}

// jarFile is how the name of a jar tells an artifact and its version.
var jarFile = regexp.MustCompile(`^([\w.-]+?)-(\d[\w.+-]*)\.[jwep]ar$`)

// jarName returns what the name of a jar tells.
func jarName(name string) (artifact, version string) {
	m := jarFile.FindStringSubmatch(path.Base(name))
	if m == nil {
		return "", ""
	}
	return m[1], m[2]
}
