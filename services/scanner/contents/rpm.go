package contents

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// rpm reads the database of RPM: SQLite, as it is since RPM 4.16. Older ones, of
// Berkeley DB, are not read.
func (w *walk) rpm(f *Found, r io.ReaderAt, size int64) error {
	head := make([]byte, 16)
	if _, err := r.ReadAt(head, 0); err != nil {
		return err
	}
	if string(head) != "SQLite format 3\x00" {
		w.layer.Skipped = append(w.layer.Skipped, f.Path)
		return nil
	}
	f.Kind = RPM
	return tableRows(r, size, "Packages", func(columns [][]byte) error {
		if len(columns) < 2 || columns[len(columns)-1] == nil {
			return nil
		}
		p, ok, err := rpmHeader(columns[len(columns)-1])
		if err != nil {
			return err
		}
		if ok {
			f.Packages = append(f.Packages, p)
		}
		if len(f.Packages) > w.limits.Packages {
			return limit("a layer has more than %d packages", w.limits.Packages)
		}
		return nil
	})
}

// Tags of an RPM header (rpm's include/rpm/rpmtag.h).
const (
	rpmName      = 1000
	rpmVersion   = 1001
	rpmRelease   = 1002
	rpmEpoch     = 1003
	rpmLicense   = 1014
	rpmArch      = 1022
	rpmSourceRPM = 1044
)

// rpmHeader reads a header: the numbers of index entries and of bytes of data, the
// entries of tag, type, offset and count, and the data.
func rpmHeader(b []byte) (p Package, ok bool, err error) {
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
	source := ""
	for i := range entries {
		e := b[8+i*16:]
		at := binary.BigEndian.Uint32(e[8:])
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
		case rpmEpoch:
			if int64(at)+4 <= size {
				p.Epoch = int(binary.BigEndian.Uint32(data[at:]))
			}
		}
	}
	p.SourceName, p.SourceVersion, p.SourceRelease, p.SourceEpoch = p.Name, p.Version, p.Release, p.Epoch
	// NAME-VERSION-RELEASE.src.rpm
	name := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(source, ".rpm"), ".src"), ".nosrc")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if j := strings.LastIndexByte(name[:i], '-'); j > 0 {
			p.SourceName, p.SourceVersion, p.SourceRelease = name[:j], name[j+1:i], name[i+1:]
		}
	}
	return p, p.Name != "" && p.Version != "" && p.Name != "gpg-pubkey", nil
}
