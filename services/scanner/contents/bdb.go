package contents

import (
	"bytes"
	"encoding/binary"
	"io"
)

// bdb reads a hash table of Berkeley DB (src/dbinc/db_page.h of release 5.3), which is
// what RPM kept its packages in until 4.16.
type bdb struct {
	r     io.ReaderAt
	order binary.ByteOrder // of the machine that wrote it
	page  int64            // bytes
	pages int64
	left  int64 // pages that may still be read: none has to be read twice
}

// Where things are in a page, and their kinds.
const (
	bdbMagic     = 0x061561 // of a hash table, at offset 12
	bdbPageHead  = 26
	bdbOverflow  = 7  // a page with a part of a large item
	bdbHashOld   = 2  // a page with items in no order
	bdbHash      = 13 // a page with items
	bdbHere      = 1  // an item that is in its page
	bdbElsewhere = 3  // an item that is in pages of its own
)

// bdbOrder returns the byte order of a hash table, nil if b is not the beginning of one.
func bdbOrder(b []byte) binary.ByteOrder {
	if len(b) < 16 {
		return nil
	}
	for _, o := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if o.Uint32(b[12:]) == bdbMagic {
			return o
		}
	}
	return nil
}

// bdbRows calls row with each value of a hash table.
func bdbRows(r io.ReaderAt, size int64, row func([]byte) error) error {
	head := make([]byte, 512)
	if _, err := r.ReadAt(head, 0); err != nil {
		return damaged("no database of Berkeley DB: %v", err)
	}
	t := &bdb{r: r, order: bdbOrder(head)}
	if t.order == nil {
		return damaged("no database of Berkeley DB")
	}
	t.page = int64(t.order.Uint32(head[20:]))
	if t.page < 512 || t.page > 64<<10 || t.page&(t.page-1) != 0 {
		return damaged("pages of %d bytes", t.page)
	}
	if head[24] != 0 {
		return damaged("the database is encrypted")
	}
	t.pages = min(size/t.page, int64(t.order.Uint32(head[32:]))+1)
	t.left = 2 * t.pages
	b := make([]byte, t.page)
	for n := int64(1); n < t.pages; n++ {
		if err := t.read(b, n); err != nil {
			return err
		}
		if b[25] == bdbHash || b[25] == bdbHashOld {
			if err := t.items(b, row); err != nil {
				return err
			}
		}
	}
	return nil
}

// read reads page n.
func (t *bdb) read(b []byte, n int64) error {
	if n < 1 || n >= t.pages {
		return damaged("page %d of %d", n, t.pages)
	}
	if t.left--; t.left < 0 {
		return damaged("pages refer to each other in circles")
	}
	_, err := t.r.ReadAt(b, n*t.page)
	return err
}

// items calls row with the values of a page: every second item, the others are keys.
func (t *bdb) items(b []byte, row func([]byte) error) error {
	n := int(t.order.Uint16(b[20:]))
	if bdbPageHead+2*n > len(b) {
		return damaged("a page with %d items", n)
	}
	end := len(b) // items are written from the end of the page
	for i := range n {
		begin := int(t.order.Uint16(b[bdbPageHead+2*i:]))
		if begin < bdbPageHead+2*n || begin >= end {
			return damaged("an item outside its page, or in another one")
		}
		item := b[begin:end]
		end = begin
		switch {
		case i%2 == 0:
			// A key.
		case item[0] == bdbHere && len(item) < 9:
			// The number of the next package.
		case item[0] == bdbHere:
			if err := row(bytes.Clone(item[1:])); err != nil {
				return err
			}
		case item[0] == bdbElsewhere && len(item) >= 12:
			value, err := t.large(int64(t.order.Uint32(item[4:])), int64(t.order.Uint32(item[8:])))
			if err != nil {
				return err
			}
			if err := row(value); err != nil {
				return err
			}
		}
	}
	return nil
}

// large returns an item of size bytes that begins in page n.
func (t *bdb) large(n, size int64) ([]byte, error) {
	if size > maxRow || size > t.pages*t.page {
		return nil, damaged("an item of %d bytes", size)
	}
	value := make([]byte, 0, size)
	b := make([]byte, t.page)
	for int64(len(value)) < size {
		if err := t.read(b, n); err != nil {
			return nil, err
		}
		used := int64(t.order.Uint16(b[22:]))
		if b[25] != bdbOverflow || used == 0 || used > t.page-bdbPageHead {
			return nil, damaged("an item goes on in a page of another kind")
		}
		value = append(value, b[bdbPageHead:bdbPageHead+min(used, size-int64(len(value)))]...)
		n = int64(t.order.Uint32(b[16:]))
	}
	return value, nil
}
