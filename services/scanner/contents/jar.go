package contents

import (
	"archive/zip"
	"bufio"
	"io"
	"math"
	"path"
	"strings"
)

// jar looks at a Java archive, and at those in it.
func (w *walk) jar(f *told, r io.ReaderAt, size int64) error {
	f.Kind = Jar
	if err := w.jarAt(f, f.Path, r, size, 0); err != nil {
		return err
	}
	f.Packages = sorted(f.Packages)
	return nil
}

func (w *walk) jarAt(f *told, name string, r io.ReaderAt, size int64, depth int) error {
	if depth > w.limits.Depth {
		return limit("archives lie in each other more than %d deep", w.limits.Depth)
	}
	z, done, err := w.unzip(r, size)
	if err != nil {
		if depth == 0 {
			return err
		}
		return keepLimit(err) // one inside that is none
	}
	defer done()
	var self *Package
	named := false
	artifact, version := jarName(name)
	for _, e := range z.File {
		base := path.Base(e.Name)
		switch {
		case base == "pom.properties":
			p, err := w.properties(e)
			if err != nil {
				return err
			}
			if p.Name != "" {
				if err := f.add(p); err != nil {
					return err
				}
				// Archives may have others' files in them beside their own.
				_, id, _ := strings.Cut(p.Name, ":")
				named = named || id == artifact && p.Version == version
			}
		case base == "MANIFEST.MF":
			if self, err = w.manifest(e); err != nil {
				return err
			}
		case isJar(base):
			if err := w.inner(f, name+"/"+base, e, depth); err != nil {
				return err
			}
		}
	}
	if !named && self != nil {
		return f.add(*self)
	}
	return nil
}

// unzip returns an archive, which counts as open until done is called.
func (w *walk) unzip(r io.ReaderAt, size int64) (z *zip.Reader, done func(), err error) {
	s := &sparing{r: r, left: w.limits.Directory - w.directories}
	z, err = zip.NewReader(s, size)
	if s.spent {
		return nil, nil, limit("directories of archives have more than %d bytes", w.limits.Directory)
	}
	if err != nil {
		return nil, nil, err
	}
	if len(z.File) > w.limits.Entries {
		return nil, nil, limit("an archive has more than %d entries", w.limits.Entries)
	}
	read := s.n
	w.directories += read
	s.left = math.MaxInt64 // what is read from here on is not kept
	return z, func() { w.directories -= read }, nil
}

func isJar(base string) bool {
	switch strings.ToLower(path.Ext(base)) {
	case ".jar", ".war", ".ear", ".par":
		return true
	}
	return false
}

// open returns the content of an entry, which costs of what archives may expand to.
func (w *walk) open(e *zip.File) (io.ReadCloser, error) {
	size := int64(min(e.UncompressedSize64, 1<<62)) //nolint:gosec // it fits
	if w.expanded += size; w.expanded > w.limits.Archive {
		return nil, limit("archives in a layer expand to more than %d bytes", w.limits.Archive)
	}
	return e.Open() // it yields no more than the size
}

func (w *walk) inner(f *told, name string, e *zip.File, depth int) error {
	size := int64(min(e.UncompressedSize64, 1<<62)) //nolint:gosec // it fits
	if size > w.limits.File {
		w.layer.Skipped = append(w.layer.Skipped, name)
		return nil
	}
	c, err := w.open(e)
	if err != nil {
		return keepLimit(err)
	}
	defer c.Close()
	return keepLimit(w.inAnyOrder(c, size, func(r io.ReaderAt) error { return w.jarAt(f, name, r, size, depth+1) }))
}

// keepLimit drops errors of the content of one entry.
func keepLimit(err error) error {
	if err != nil && isFatal(err) {
		return err
	}
	return nil
}

// text returns the lines of a small entry.
func (w *walk) text(e *zip.File) ([]string, error) {
	if e.UncompressedSize64 > 1<<20 {
		return nil, nil
	}
	c, err := w.open(e)
	if err != nil {
		return nil, keepLimit(err)
	}
	defer c.Close()
	var all []string
	lines := bufio.NewScanner(io.LimitReader(c, 1<<20))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		all = append(all, strings.TrimSuffix(lines.Text(), "\r"))
	}
	return all, nil
}

// properties reads what Maven tells of an artifact.
func (w *walk) properties(e *zip.File) (Package, error) {
	lines, err := w.text(e)
	var group, artifact, version string
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "groupId":
			group = value
		case "artifactId":
			artifact = value
		case "version":
			version = value
		}
	}
	if group == "" || artifact == "" || version == "" {
		return Package{}, err
	}
	return Package{Name: group + ":" + artifact, Version: version}, err
}

// manifest reads the manifest of an archive.
func (w *walk) manifest(e *zip.File) (*Package, error) {
	lines, err := w.text(e)
	v := map[string]string{}
	for _, line := range lines {
		if key, value, ok := strings.Cut(line, ":"); ok {
			if value = strings.TrimSpace(value); value != "" && !strings.HasPrefix(value, "%") { // a variable
				v[key] = value
			}
		}
	}
	first := func(keys ...string) string {
		for _, k := range keys {
			if v[k] != "" {
				return v[k]
			}
		}
		return ""
	}
	group := first("Implementation-Vendor-Id")
	if symbolic := first("Bundle-SymbolicName"); group == "" && symbolic != "" {
		group = symbolic
		if i := strings.LastIndexByte(symbolic, '.'); i > 0 {
			group = symbolic[:i]
		}
	}
	if group == "" {
		group = first("Implementation-Vendor", "Specification-Vendor")
	}
	artifact := first("Implementation-Title", "Specification-Title", "Bundle-Name")
	version := first("Implementation-Version", "Specification-Version", "Bundle-Version")
	if group == "" || artifact == "" || version == "" {
		return nil, err
	}
	return &Package{Name: group + ":" + artifact, Version: version}, err
}

// egg looks at a Python package that is an archive.
func (w *walk) egg(f *told, r io.ReaderAt, size int64) error {
	z, done, err := w.unzip(r, size)
	if err != nil {
		return err
	}
	defer done()
	for _, e := range z.File {
		if strings.HasSuffix(e.Name, "EGG-INFO/PKG-INFO") {
			c, err := w.open(e)
			if err != nil {
				return err
			}
			defer c.Close()
			return pythonMetadata(f, c)
		}
	}
	return nil
}
