package contents

import (
	"encoding/binary"
	"io"
)

// The standard library reads all tables of a program for macOS or Windows when it opens
// one: symbols, each with a copy of its name, and relocations. Of a file that lies, whose
// names begin before each other or whose sections share one table, that is a multiple of
// its size. Nothing here needs those tables, so a program is read as if it had none.

const (
	// maxCommands is how many bytes the load commands of a program for macOS have.
	maxCommands = 256 << 10
	// maxSections is how many sections a program for Windows has.
	maxSections = 1000
)

// withoutTables returns a program as if it had neither symbols nor relocations.
func withoutTables(r io.ReaderAt, head string) (io.ReaderAt, error) {
	switch {
	case head[:2] == "MZ":
		return plainPE(r)
	case head == "\xfe\xed\xfa\xce", head == "\xfe\xed\xfa\xcf":
		return plainMachO(r, binary.BigEndian, head[3] == 0xcf)
	case head == "\xce\xfa\xed\xfe", head == "\xcf\xfa\xed\xfe":
		return plainMachO(r, binary.LittleEndian, head[0] == 0xcf)
	}
	return r, nil
}

// overlay is a file of which some bytes are others.
type overlay struct {
	io.ReaderAt
	at int64
	b  []byte
}

func (o *overlay) ReadAt(p []byte, at int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(p, at)
	if from, to := max(at, o.at), min(at+int64(n), o.at+int64(len(o.b))); from < to {
		copy(p[from-at:to-at], o.b[from-o.at:])
	}
	return n, err
}

// readUp reads as much of n bytes as there is.
func readUp(r io.ReaderAt, at, n int64) ([]byte, error) {
	b := make([]byte, n)
	got, err := r.ReadAt(b, at)
	if err == io.EOF {
		err = nil
	}
	return b[:got], err
}

// plainPE is withoutTables for Windows (PE Format, "COFF File Header" and "Section
// Table").
func plainPE(r io.ReaderAt) (io.ReaderAt, error) {
	dos, err := readUp(r, 0, 64)
	if err != nil || len(dos) < 64 {
		return r, err
	}
	le := binary.LittleEndian
	at := int64(le.Uint32(dos[0x3c:]))
	head, err := readUp(r, at, 24)
	if err != nil || len(head) < 24 || string(head[:4]) != "PE\x00\x00" {
		return r, err // nobody reads on
	}
	sections, optional := int64(le.Uint16(head[6:])), int64(le.Uint16(head[20:]))
	if sections > maxSections {
		return nil, damaged("it has too many sections")
	}
	b, err := readUp(r, at, 24+optional+40*sections)
	if err != nil {
		return nil, err
	}
	clear(b[12:20]) // PointerToSymbolTable, NumberOfSymbols
	for s := 24 + optional; s+40 <= int64(len(b)); s += 40 {
		if b[s] == '/' { // a long name, which is among the symbols
			b[s] = ' '
		}
		clear(b[s+32 : s+34]) // NumberOfRelocations
	}
	return &overlay{r, at, b}, nil
}

// Load commands of a program for macOS (mach-o/loader.h), and where they have what.
const (
	cmdSegment, cmdSymtab, cmdDysymtab, cmdSegment64 = 0x1, 0x2, 0xb, 0x19

	segmentSize, sectionSize, relocations       = 56, 68, 52
	segment64Size, section64Size, relocations64 = 72, 80, 60
)

// plainMachO is withoutTables for macOS.
func plainMachO(r io.ReaderAt, order binary.ByteOrder, wide bool) (io.ReaderAt, error) {
	at := int64(28)
	if wide {
		at = 32
	}
	head, err := readUp(r, 0, at)
	if err != nil || int64(len(head)) < at {
		return r, err
	}
	n, size := order.Uint32(head[16:]), order.Uint32(head[20:])
	if size > maxCommands || n > size/8 {
		return nil, damaged("it has too many load commands")
	}
	b, err := readUp(r, at, int64(size))
	if err != nil {
		return nil, err
	}
	for rest := b; n > 0 && len(rest) >= 8; n-- {
		length := order.Uint32(rest[4:])
		if length < 8 || int64(length) > int64(len(rest)) {
			break // nobody reads on
		}
		command := rest[:length]
		rest = rest[length:]
		switch order.Uint32(command) {
		case cmdSymtab, cmdDysymtab:
			clear(command[:4]) // a command that nobody knows
		case cmdSegment:
			clearEach(command, segmentSize, sectionSize, relocations)
		case cmdSegment64:
			clearEach(command, segment64Size, section64Size, relocations64)
		}
	}
	return &overlay{r, at, b}, nil
}

// clearEach clears four bytes in each section of a segment.
func clearEach(command []byte, first, size, at int) {
	for s := first; s+size <= len(command); s += size {
		clear(command[s+at : s+at+4])
	}
}
