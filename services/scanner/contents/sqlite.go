package contents

import (
	"encoding/binary"
	"fmt"
	"io"
)

// table reads one table of a SQLite database (www.sqlite.org/fileformat2.html). The
// database of a stranger is not for a database engine.
type table struct {
	r      io.ReaderAt
	page   int64 // bytes
	usable int64 // bytes of a page
	pages  int64
	left   int64 // pages that may still be read: none has to be read twice
}

// maxRow is the size of the largest row that is read, in bytes.
const maxRow = 16 << 20

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// tableRows calls row with the columns of each row of a table: text and blobs as they
// are, integers as eight bytes, and nil for others.
func tableRows(r io.ReaderAt, size int64, name string, row func([][]byte) error) error {
	head := make([]byte, 100)
	if _, err := r.ReadAt(head, 0); err != nil {
		return damaged("no SQLite database: %v", err)
	}
	t := &table{r: r, page: int64(binary.BigEndian.Uint16(head[16:]))}
	if t.page == 1 {
		t.page = 64 << 10
	}
	if t.page < 512 || t.page&(t.page-1) != 0 {
		return damaged("SQLite pages of %d bytes", t.page)
	}
	if t.usable = t.page - int64(head[20]); t.usable < 480 {
		return damaged("SQLite pages with %d bytes of use", t.usable)
	}
	t.pages = size / t.page
	t.left = 2 * t.pages
	root := int64(0)
	err := t.walk(1, 0, func(c [][]byte) error {
		if len(c) >= 4 && string(c[0]) == "table" && string(c[1]) == name && len(c[3]) == 8 {
			root = int64(binary.BigEndian.Uint64(c[3])) //nolint:gosec // checked below
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root < 1 {
		return damaged("no table %s", name)
	}
	return t.walk(root, 0, row)
}

// read returns page n.
func (t *table) read(n int64) ([]byte, error) {
	if n < 1 || n > t.pages {
		return nil, damaged("SQLite page %d of %d", n, t.pages)
	}
	if t.left--; t.left < 0 {
		return nil, damaged("SQLite pages refer to each other in circles")
	}
	b := make([]byte, t.page)
	_, err := t.r.ReadAt(b, (n-1)*t.page)
	return b, err
}

// walk visits the rows below page n of a tree.
func (t *table) walk(n int64, depth int, row func([][]byte) error) error {
	if depth > 32 {
		return damaged("SQLite tree of depth %d", depth)
	}
	b, err := t.read(n)
	if err != nil {
		return err
	}
	at := 0
	if n == 1 {
		at = 100
	}
	kind, cells := b[at], int(binary.BigEndian.Uint16(b[at+3:]))
	pointers := at + 8
	if kind == 5 {
		pointers = at + 12
	} else if kind != 13 {
		return damaged("SQLite page of kind %d", kind)
	}
	if pointers+2*cells > len(b) {
		return damaged("SQLite page with %d cells", cells)
	}
	for i := range cells {
		cell := int(binary.BigEndian.Uint16(b[pointers+2*i:]))
		if cell+4 > len(b) {
			return damaged("SQLite cell outside its page")
		}
		if kind == 5 {
			err = t.walk(int64(binary.BigEndian.Uint32(b[cell:])), depth+1, row)
		} else {
			err = t.leaf(b, cell, row)
		}
		if err != nil {
			return err
		}
	}
	if kind == 5 {
		return t.walk(int64(binary.BigEndian.Uint32(b[at+8:])), depth+1, row)
	}
	return nil
}

// leaf reads the row of a cell.
func (t *table) leaf(b []byte, cell int, row func([][]byte) error) error {
	size, n := varint(b[cell:])
	_, m := varint(b[min(cell+n, len(b)):])
	start := int64(cell + n + m)
	if n == 0 || m == 0 || size < 0 || size > maxRow {
		return damaged("SQLite row of %d bytes", size)
	}
	local := size
	if most := t.usable - 35; size > most {
		least := (t.usable-12)*32/255 - 23
		if local = least + (size-least)%(t.usable-4); local > most {
			local = least
		}
	}
	if start+local > int64(len(b)) || local < size && start+local+4 > int64(len(b)) {
		return damaged("SQLite row outside its page")
	}
	payload := b[start : start+local]
	if local < size {
		payload = append(make([]byte, 0, size), payload...)
		next := int64(binary.BigEndian.Uint32(b[start+local:]))
		for int64(len(payload)) < size {
			more, err := t.read(next)
			if err != nil {
				return err
			}
			next = int64(binary.BigEndian.Uint32(more))
			payload = append(payload, more[4:4+min(t.usable-4, size-int64(len(payload)))]...)
		}
	}
	columns, err := record(payload)
	if err != nil {
		return err
	}
	return row(columns)
}

// record splits a row into its columns.
func record(b []byte) ([][]byte, error) {
	size, n := varint(b)
	if n == 0 || size < int64(n) || size > int64(len(b)) {
		return nil, damaged("SQLite record")
	}
	head, body := b[n:size], b[size:]
	var all [][]byte
	for len(head) > 0 {
		kind, n := varint(head)
		if n == 0 || kind < 0 || len(all) > 1000 {
			return nil, damaged("SQLite record")
		}
		head = head[n:]
		length := int64(0)
		switch {
		case kind >= 12:
			length = (kind - 12) / 2
		case kind >= 1 && kind <= 7:
			length = []int64{0, 1, 2, 3, 4, 6, 8, 8}[kind]
		}
		if length > int64(len(body)) {
			return nil, damaged("SQLite record is cut off")
		}
		value := body[:length]
		body = body[length:]
		switch {
		case kind >= 12:
			all = append(all, value)
		case kind >= 1 && kind <= 6:
			wide := make([]byte, 8)
			copy(wide[8-length:], value)
			all = append(all, wide)
		case kind == 8 || kind == 9:
			all = append(all, []byte{0, 0, 0, 0, 0, 0, 0, byte(kind - 8)})
		default:
			all = append(all, nil)
		}
	}
	return all, nil
}

// varint reads a number of SQLite's: up to nine bytes, the high ones first. n is 0 if
// b ends before it does.
func varint(b []byte) (v int64, n int) {
	for i, c := range b {
		if i == 8 {
			return v<<8 | int64(c), 9
		}
		v = v<<7 | int64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
