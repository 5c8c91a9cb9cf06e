package contents

import (
	"encoding/xml"
	"io"
	"strings"
)

// dotnetDeps reads the list of libraries of a .NET program: those of its target that run,
// or all if it has no target.
func dotnetDeps(f *told, r io.Reader) error {
	f.Kind = DotNet
	d := newDocument(r)
	target, idle := "", make(map[[2]string]bool) // by target and library
	var ids []string                             // of the packages
	err := d.object(func(key string) error {
		switch key {
		case "runtimeTarget":
			return d.texts(map[string]*string{"name": &target})
		case "targets":
			return d.object(func(target string) error {
				return d.object(func(id string) error {
					runs, err := dotnetRuns(d)
					if err == nil && !runs {
						idle[[2]string{target, id}] = true
						err = f.w.remembers(len(id) + 100)
					}
					return err
				})
			})
		case "libraries":
			return d.object(func(id string) error {
				var kind string
				if err := d.texts(map[string]*string{"type": &kind}); err != nil {
					return err
				}
				switch strings.ToLower(kind) {
				case "package", "project", "runtimepack":
				default:
					return nil
				}
				name, version, _ := strings.Cut(strings.TrimPrefix(id, "runtimepack."), "/")
				n := len(f.Packages)
				err := f.add(Package{Name: name, Version: version})
				if len(f.Packages) > n {
					ids = append(ids, id)
				}
				return err
			})
		}
		return d.skip()
	})
	run := f.Packages[:0]
	for i, p := range f.Packages {
		if !idle[[2]string{target, ids[i]}] {
			run = append(run, p)
		}
	}
	f.Packages = sorted(run)
	return err
}

// dotnetRuns reads what a library has for a target, and reports whether that runs.
func dotnetRuns(d *document) (runs bool, err error) {
	err = d.object(func(key string) error {
		switch key {
		case "runtime", "runtimeTargets", "native":
			return d.object(func(string) error { runs = true; return d.skip() })
		}
		return d.skip()
	})
	return runs, err
}

// nugetLock reads packages.lock.json.
func nugetLock(f *told, r io.Reader) error {
	f.Kind = NuGet
	d := newDocument(r)
	err := d.object(func(key string) error {
		if key != "dependencies" {
			return d.skip()
		}
		return d.object(func(string) error {
			return d.object(func(name string) error {
				p, kind := Package{Name: name}, ""
				err := d.texts(map[string]*string{"type": &kind, "resolved": &p.Version})
				if err != nil || kind == "Project" {
					return err
				}
				return f.add(p)
			})
		})
	})
	f.Packages = sorted(f.Packages)
	return err
}

// attribute returns the value of an attribute, "" if there is none.
func attribute(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// nugetConfig reads packages.config, which was before packages.lock.json.
func nugetConfig(f *told, r io.Reader) error {
	f.Kind = NuGet
	err := elements(r, func(path []string, e xml.StartElement) error {
		if strings.Join(path, "/") != "packages/package" || strings.TrimSpace(attribute(e, "developmentDependency")) == "true" {
			return nil
		}
		return f.add(Package{Name: attribute(e, "id"), Version: attribute(e, "version")})
	})
	f.Packages = sorted(f.Packages)
	return err
}

// nugetProps reads *packages.props, where versions of several projects are in one place.
// What is a variable is not known.
func nugetProps(f *told, r io.Reader) error {
	f.Kind = Props
	err := elements(r, func(path []string, e xml.StartElement) error {
		switch strings.Join(path, "/") {
		case "Project/ItemGroup/PackageReference", "Project/ItemGroup/PackageVersion":
		default:
			return nil
		}
		name, version := strings.TrimSpace(attribute(e, "Include")), strings.TrimSpace(attribute(e, "Version"))
		if name == "" {
			name = strings.TrimSpace(attribute(e, "Update"))
		}
		if strings.HasPrefix(name, "$(") || strings.HasPrefix(version, "$(") {
			return nil
		}
		return f.add(Package{Name: name, Version: version})
	})
	f.Packages = sorted(f.Packages)
	return err
}
