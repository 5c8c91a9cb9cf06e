package contents

import (
	"encoding/binary"
	"io"
)

// Where things are in a database of RPM's own kind, which SUSE has (lib/backend/ndb/rpmpkg.c
// of RPM): pages of slots, the first two of which are the head, and blobs in blocks.
const (
	ndbPage  = 4096
	ndbSlot  = 16
	ndbBlock = 16
)

// ndbRows calls row with each package of a database. It is little-endian on all
// machines.
func ndbRows(r io.ReaderAt, size int64, row func([]byte) error) error {
	head := make([]byte, 32)
	if _, err := r.ReadAt(head, 0); err != nil || string(head[:4]) != "RpmP" {
		return damaged("no database of RPM")
	}
	if v := binary.LittleEndian.Uint32(head[4:]); v != 0 {
		return damaged("a database of RPM of version %d", v)
	}
	pages := int64(binary.LittleEndian.Uint32(head[12:]))
	if pages < 1 || pages > size/ndbPage {
		return damaged("a database of RPM with %d pages of slots", pages)
	}
	left := size // no byte has to be read twice
	slots := make([]byte, ndbPage)
	for n := range pages {
		if _, err := r.ReadAt(slots, n*ndbPage); err != nil {
			return err
		}
		first := 0
		if n == 0 {
			first = 2 * ndbSlot
		}
		for s := slots[first:]; len(s) >= ndbSlot; s = s[ndbSlot:] {
			if string(s[:4]) != "Slot" {
				return damaged("a slot is missing")
			}
			at, blocks := int64(binary.LittleEndian.Uint32(s[8:])), int64(binary.LittleEndian.Uint32(s[12:]))
			if at == 0 {
				continue // it is free
			}
			length := blocks * ndbBlock
			if length < 32 || length > maxRow || at*ndbBlock+length > size {
				return damaged("a package of %d bytes", length)
			}
			if left -= length; left < 0 {
				return damaged("packages lie over each other")
			}
			b := make([]byte, length)
			if _, err := r.ReadAt(b, at*ndbBlock); err != nil {
				return err
			}
			n := int64(binary.LittleEndian.Uint32(b[12:]))
			if string(b[:4]) != "BlbS" || string(b[4:8]) != string(s[4:8]) || n > length-28 {
				return damaged("a package is not where its slot says")
			}
			if err := row(b[16 : 16+n]); err != nil {
				return err
			}
		}
	}
	return nil
}
