package contents

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

// rpm reads the database of RPM: SQLite, as it is since RPM 4.16, Berkeley DB, as it was
// before, or RPM's own kind.
func (w *walk) rpm(f *told, r io.ReaderAt, size int64) error {
	head := make([]byte, 16)
	if _, err := r.ReadAt(head, 0); err != nil {
		return err
	}
	f.Kind = RPM
	row := func(header []byte) error {
		p, ok, err := w.rpmHeader(header)
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		return f.add(p)
	}
	switch {
	case string(head) == "SQLite format 3\x00":
		return tableRows(r, size, "Packages", func(columns [][]byte) error {
			if len(columns) < 2 || columns[len(columns)-1] == nil {
				return nil
			}
			return row(columns[len(columns)-1])
		})
	case string(head[:4]) == "RpmP":
		return ndbRows(r, size, row)
	}
	return bdbRows(r, size, row)
}

// Tags of an RPM header (rpm's include/rpm/rpmtag.h).
const (
	rpmName      = 1000
	rpmVersion   = 1001
	rpmRelease   = 1002
	rpmEpoch     = 1003
	rpmVendor    = 1011
	rpmLicense   = 1014
	rpmArch      = 1022
	rpmSourceRPM = 1044
	rpmDirOf     = 1116 // of each file, the number of its directory
	rpmBaseNames = 1117
	rpmDirNames  = 1118
	rpmModule    = 5096
)

// rpmHeader reads a header: the numbers of index entries and of bytes of data, the
// entries of tag, type, offset and count, and the data.
func (w *walk) rpmHeader(b []byte) (p Package, ok bool, err error) {
	if len(b) < 8 {
		return p, false, fmt.Errorf("%w: RPM header of %d bytes", ErrDamaged, len(b))
	}
	entries, size := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	start := 8 + entries*16
	if start+size > int64(len(b)) {
		return p, false, fmt.Errorf("%w: RPM header is cut off", ErrDamaged)
	}
	data := b[start : start+size]
	text := func(at uint32) string {
		if int64(at) >= size {
			return ""
		}
		s, _, _ := strings.Cut(string(data[at:min(int64(at)+4096, size)]), "\x00")
		return s
	}
	var source, vendor string
	var files rpmFiles
	for i := range entries {
		e := b[8+i*16:]
		at := binary.BigEndian.Uint32(e[8:])
		array := func() rpmArray {
			return rpmArray{data[min(int64(at), size):], binary.BigEndian.Uint32(e[12:])}
		}
		switch binary.BigEndian.Uint32(e) {
		case rpmName:
			p.Name = text(at)
		case rpmVersion:
			p.Version = text(at)
		case rpmRelease:
			p.Release = text(at)
		case rpmArch:
			p.Arch = text(at)
		case rpmLicense:
			p.License = text(at)
		case rpmSourceRPM:
			source = text(at)
		case rpmVendor:
			vendor = text(at)
		case rpmModule:
			p.Module = text(at)
		case rpmDirOf:
			files.dirOf = array()
		case rpmBaseNames:
			files.bases = array()
		case rpmDirNames:
			files.dirs = array()
		case rpmEpoch:
			if int64(at)+4 <= size {
				p.Epoch = int(binary.BigEndian.Uint32(data[at:]))
			}
		}
	}
	p.from(source)
	if p.Foreign = !isVendor(vendor, p.Release); !p.Foreign {
		err = files.each(w.owned.add)
	}
	return p, p.Name != "" && p.Version != "" && p.Name != "gpg-pubkey", err
}

// from sets what a package was built from, NAME-VERSION-RELEASE.src.rpm.
func (p *Package) from(source string) {
	p.SourceName, p.SourceVersion, p.SourceRelease, p.SourceEpoch = p.Name, p.Version, p.Release, p.Epoch
	name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(source, ".rpm"), ".src"), ".nosrc")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if j := strings.LastIndexByte(name[:i], '-'); j > 0 {
			p.SourceName, p.SourceVersion, p.SourceRelease = name[:j], name[j+1:i], name[i+1:]
		}
	}
}

// vendors are those of the distributions that have advisories, as Trivy has them. Packages
// of others are not what those tell of.
var vendors = []string{
	"AlmaLinux", "Amazon Linux", "Amazon.com", "CentOS", "CloudLinux", "Fedora Project", "Microsoft Corporation", "Oracle America",
	"Red Hat", "Rocky", "SUSE", "VMware", "openSUSE",
}

func isVendor(name, release string) bool {
	if name == "" {
		return strings.Contains(release, "amzn") // Amazon's packages tell no vendor
	}
	return slices.ContainsFunc(vendors, func(v string) bool { return strings.HasPrefix(name, v) })
}

// rpmArray is a value of several, n of them by its own account.
type rpmArray struct {
	data []byte
	n    uint32
}

// texts yields an array's texts.
func (a rpmArray) texts(yield func([]byte) bool) {
	rest := a.data
	for range a.n {
		s, after, ok := bytes.Cut(rest, []byte{0})
		if !ok || !yield(s) {
			return
		}
		rest = after
	}
}

// rpmFiles are the files of a package.
type rpmFiles struct{ dirs, bases, dirOf rpmArray }

// maxDirs is how many directories a package may have files in.
const maxDirs = 1 << 18

// each calls f with the name of each file.
func (x rpmFiles) each(f func(string) error) error {
	if x.dirs.n > maxDirs {
		return damaged("an RPM package with %d directories", x.dirs.n)
	}
	dirs := slices.Collect(x.dirs.texts)
	i := 0
	for base := range x.bases.texts {
		if 4*i+4 > len(x.dirOf.data) {
			return nil
		}
		dir := binary.BigEndian.Uint32(x.dirOf.data[4*i:])
		if i++; int64(dir) >= int64(len(dirs)) || len(dirs[dir])+len(base) > maxPath {
			continue
		}
		if err := f(string(dirs[dir]) + string(base)); err != nil {
			return err
		}
	}
	return nil
}
