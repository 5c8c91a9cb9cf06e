package contents_test

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/services/scanner/contents"
)

// modules is what Go's linker puts into a program (debug/buildinfo).
func modules() []byte {
	const mod = "0123456789abcdef" + "path\texample.com/app\nmod\texample.com/app\tv1.2.3\t\ndep\texample.com/lib\tv0.9.0\t\n" + "0123456789abcdef"
	b := append([]byte("\xff Go buildinf:\x08\x02"), make([]byte, 16)...)
	for _, s := range []string{"go1.30.1", mod} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

// crates is what cargo-auditable puts into a program.
func crates() []byte {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	z.Write([]byte(`{"packages":[{"name":"serde","version":"1.0.0"}]}`))
	z.Close()
	return b.Bytes()
}

// machO is a program for macOS with sections of content; more are load commands before
// those, and behind is what follows at offset 64 KiB.
func machO(order binary.ByteOrder, more []byte, relocations uint32, content map[string][]byte, behind []byte) string {
	const at, addr = 32 << 10, 0x100000000
	var sections, data bytes.Buffer
	put := func(b *bytes.Buffer, all ...any) {
		for _, v := range all {
			binary.Write(b, order, v)
		}
	}
	name := func(s string) (b [16]byte) { copy(b[:], s); return b }
	for _, k := range []string{"__go_buildinfo", ".dep-v0"} {
		c, ok := content[k]
		if !ok {
			continue
		}
		put(&sections, name(k), name("__DATA"), uint64(addr+data.Len()), uint64(len(c)), uint32(at+data.Len()), uint32(0), uint32(64<<10), relocations, uint32(0), [3]uint32{})
		data.Write(append(c, make([]byte, 64-len(c)%64)...))
	}
	var b bytes.Buffer
	size := 72 + sections.Len()
	put(&b, uint32(0xfeedfacf), uint32(0x01000007), uint32(3), uint32(2), uint32(commands(order, more)+1), uint32(len(more)+size), uint32(0), uint32(0))
	b.Write(more)
	put(&b, uint32(0x19), uint32(size), name("__DATA"), uint64(addr), uint64(at), uint64(at), uint64(at), uint32(3), uint32(3), uint32(sections.Len()/80), uint32(0))
	b.Write(sections.Bytes())
	b.Write(make([]byte, at-b.Len()))
	b.Write(data.Bytes())
	b.Write(make([]byte, 64<<10-b.Len()))
	b.Write(behind)
	b.Write(make([]byte, max(0, 256<<10-b.Len())))
	return b.String()
}

func commands(order binary.ByteOrder, b []byte) (n int) {
	for ; len(b) > 0; n++ {
		b = b[order.Uint32(b[4:]):]
	}
	return n
}

// symtab is a load command that has n symbols and strings at offset 64 KiB.
func symtab(order binary.ByteOrder, n, strings uint32) []byte {
	b := make([]byte, 24)
	for i, v := range []uint32{2, 24, 64 << 10, n, 64 << 10, strings} {
		order.PutUint32(b[4*i:], v)
	}
	return b
}

// portable is a program for Windows with one section; symbols and relocations are at
// offset 64 KiB.
func portable(symbols uint32, relocations uint16, sections int, name string, content, behind []byte) string {
	const at = 32 << 10
	le := binary.LittleEndian
	b := make([]byte, at)
	copy(b, "MZ")
	le.PutUint32(b[0x3c:], 128)
	copy(b[128:], "PE\x00\x00")
	h := b[132:]
	le.PutUint16(h, 0x8664)
	le.PutUint16(h[2:], uint16(sections))
	if symbols > 0 {
		le.PutUint32(h[8:], 64<<10)
		le.PutUint32(h[12:], symbols)
	}
	le.PutUint16(h[16:], 112) // an optional header without directories
	le.PutUint16(h[20:], 0x20b)
	for i := range sections {
		s := b[132+20+112+40*i:]
		copy(s, name)
		le.PutUint32(s[8:], 4096)
		le.PutUint32(s[12:], 0x1000)
		le.PutUint32(s[16:], uint32(len(content)))
		le.PutUint32(s[20:], at)
		le.PutUint32(s[24:], 64<<10)
		le.PutUint16(s[32:], relocations)
		le.PutUint32(s[36:], 0xc0000040)
	}
	b = append(b, content...)
	b = append(b, make([]byte, 64<<10-len(b))...)
	b = append(b, behind...)
	return string(append(b, make([]byte, max(0, 256<<10-len(b)))...))
}

// TestProgramsOfOthers: programs for macOS and Windows are read as they are, whatever
// symbols, relocations and long names of sections they have.
func TestProgramsOfOthers(t *testing.T) {
	goWant := []contents.Package{{Name: "stdlib", Version: "v1.30.1"}, {Name: "example.com/app", Version: "v1.2.3"}, {Name: "example.com/lib", Version: "v0.9.0"}}
	rustWant := []contents.Package{{Name: "serde", Version: "1.0.0"}}
	little, big := binary.LittleEndian, binary.BigEndian
	for name, c := range map[string]struct {
		program string
		want    []contents.Package
	}{
		"macOS, Go":                {machO(little, nil, 0, map[string][]byte{"__go_buildinfo": modules()}, nil), goWant},
		"macOS, Go, big endian":    {machO(big, symtab(big, 10, 100), 10, map[string][]byte{"__go_buildinfo": modules()}, nil), goWant},
		"macOS, Go with symbols":   {machO(little, symtab(little, 10, 100), 10, map[string][]byte{"__go_buildinfo": modules()}, nil), goWant},
		"macOS, Rust":              {machO(little, symtab(little, 10, 100), 10, map[string][]byte{".dep-v0": crates()}, nil), rustWant},
		"Windows, Go":              {portable(0, 0, 1, ".data", modules(), nil), goWant},
		"Windows, Go with symbols": {portable(100, 100, 3, ".data", modules(), nil), goWant},
		"Windows, long names":      {portable(1, 0, 2, "/19", modules(), nil), goWant},
		"Windows, Rust":            {portable(1, 1, 2, ".dep-v0", crates(), nil), rustWant},
	} {
		l, err := (&contents.Reader{Dir: t.TempDir()}).Read(t.Context(), archive(t, "bin/app", c.program))
		if err != nil || len(l.Found) != 1 {
			t.Errorf("%s: %+v, %v", name, l, err)
			continue
		}
		if diff := cmp.Diff(c.want, l.Found[0].Packages); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// TestS114TablesOfPrograms reads programs for macOS and Windows whose tables are a
// multiple of the file: all symbols have what follows as their names, sections share
// relocations, tables are there many times. None is in memory.
func TestS114TablesOfPrograms(t *testing.T) {
	const size = 7 << 20
	names := append(bytes.Repeat([]byte{0, 0x40, 0, 0}, 4<<10), bytes.Repeat([]byte("x"), size)...) // symbols whose names are all of this
	little := binary.LittleEndian
	huge := machO(little, nil, 0, nil, nil)
	huge = huge[:16] + "\xff\xff\xff\xff\xff\xff\xff\x7f" + huge[24:]
	lying := machO(little, nil, 0, nil, nil)
	lying = lying[:16] + "\xff\xff\xff\x7f" + lying[20:]
	for name, program := range map[string]string{
		"macOS, names":       machO(little, symtab(little, 20, size), 0, nil, names),
		"macOS, many tables": machO(little, bytes.Repeat(symtab(little, 2, size), 20), 0, nil, names),
		"macOS, relocations": machO(little, nil, 500_000, map[string][]byte{"__go_buildinfo": {1}, ".dep-v0": {1}}, names),
		"macOS, commands":    huge,
		"macOS, a number":    lying,
		"Windows, names":     portable(1000, 0, 1, ".data", []byte{1}, names),
		"Windows, sections":  portable(0, 65535, 700, ".data", []byte{1}, names),
		"Windows, too many":  portable(0, 65535, 0, ".data", []byte{1}, names)[:134] + "\xff\xff" + portable(0, 0, 0, ".data", []byte{1}, names)[136:],
	} {
		t.Run(name, func(t *testing.T) {
			in := archive(t, "bin/app", program)
			var err error
			var l *contents.Layer
			n := allocated(func() { l, err = (&contents.Reader{Dir: t.TempDir()}).Read(t.Context(), in) })
			if err != nil || len(l.Found) != 0 && len(l.Found[0].Packages) != 0 {
				t.Errorf("%+v, %v", l, err)
			}
			if n > 3<<20 {
				t.Errorf("%d bytes were allocated for a program of %d", n, len(program))
			}
		})
	}
	if !strings.HasPrefix(huge, "\xcf\xfa\xed\xfe") {
		t.Error("void: it is no program")
	}
}
