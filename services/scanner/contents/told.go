package contents

import "strings"

// told is a file while it is looked at.
type told struct {
	Found
	w *walk
}

// add adds a package, unless it has no name or version. The error is a limit.
func (f *told) add(p Package) error {
	if p.Name == "" || p.Version == "" {
		return nil
	}
	w := f.w
	if w.packages++; w.packages > w.limits.Packages {
		return limit("a layer has more than %d packages", w.limits.Packages)
	}
	if len(p.Name) > longestName || len(p.Version) > longestName {
		return damaged("a package whose name or version has more than %d bytes", longestName)
	}
	p.License = clip(p.License)
	f.Packages = append(f.Packages, p.own())
	return w.remembers(p.size())
}

// longestName is how long a package's name or version may be, and what is told of it.
const longestName = 1 << 10

// clip returns the beginning of a text about a package.
func clip(s string) string {
	if len(s) > longestName {
		s = strings.ToValidUTF8(s[:longestName], "")
	}
	return s
}

// own returns a package whose texts are no part of larger ones, such as lines.
func (p Package) own() Package {
	for _, s := range []*string{&p.Name, &p.Version, &p.Release, &p.Arch, &p.SourceName, &p.SourceVersion, &p.SourceRelease, &p.License, &p.Module} {
		*s = strings.Clone(clip(*s))
	}
	return p
}

// size returns how many bytes the texts of a package have.
func (p Package) size() int {
	return len(p.Name) + len(p.Version) + len(p.Release) + len(p.Arch) + len(p.SourceName) + len(p.SourceVersion) + len(p.SourceRelease) + len(p.License) + len(p.Module)
}

// remembers counts bytes that are kept of a layer until its scan ends.
func (w *walk) remembers(n int) error {
	if w.kept += int64(n); w.kept > w.limits.Kept {
		return limit("a layer tells more than %d bytes", w.limits.Kept)
	}
	return nil
}

// Size returns about how many bytes a layer's account needs in memory.
func (l *Layer) Size() int64 {
	const ofFound, ofPackage, ofName = 80, 220, 16
	n := 0
	for i := range l.Found {
		n += ofFound + len(l.Found[i].Path)
		for j := range l.Found[i].Packages {
			n += ofPackage + l.Found[i].Packages[j].size()
		}
	}
	for _, names := range [][]string{l.Hidden, l.Opaque, l.Skipped} {
		for _, s := range names {
			n += ofName + len(s)
		}
	}
	return int64(n)
}
