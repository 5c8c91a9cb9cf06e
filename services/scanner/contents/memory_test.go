package contents_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/berth-registry/berth/services/scanner/contents"
)

// many repeats a text, with %d as the number of each, until it has a size.
func many(size int, head, each, tail string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < size; i++ {
		b.WriteString(strings.ReplaceAll(each, "%d", fmt.Sprint(i)))
	}
	return strings.TrimSuffix(b.String(), ",") + tail
}

// weighed is a reader that finds out how much memory is in use while it is read.
type weighed struct {
	r    io.Reader
	next int
	most uint64
}

func (w *weighed) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.next -= n; w.next < 0 {
		w.next = 1 << 20
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.most = max(w.most, m.HeapAlloc)
	}
	return n, err
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestS114DocumentsOfPackages reads documents of as many packages as fit in: the scan ends
// at the limit of packages, before the others are in memory.
func TestS114DocumentsOfPackages(t *testing.T) {
	const size = 4<<20 - 64
	for name, text := range map[string]string{
		"srv/package-lock.json":                    many(size, `{"packages":{`, `"node_modules/%d":{"version":"1"},`, `}}`),
		"old/package-lock.json":                    many(size, `{"dependencies":{`, `"%d":{"version":"1"},`, `}}`),
		"srv/installed.json":                       many(size, `{"packages":[`, `{"name":"%d","version":"1"},`, `]}`),
		"app/x.deps.json":                          many(size, `{"libraries":{`, `"%d/1":{"type":"package"},`, `}}`),
		"app/packages.lock.json":                   many(size, `{"dependencies":{"n":{`, `"%d":{"resolved":"1"},`, `}}}`),
		"app/packages.config":                      many(size, `<packages>`, `<package id="%d" version="1"/>`, `</packages>`),
		"app/x.packages.props":                     many(size, `<Project><ItemGroup>`, `<PackageVersion Include="%d" Version="1"/>`, `</ItemGroup></Project>`),
		"app/Cargo.lock":                           many(size, "", "[[package]]\nname = \"%d\"\nversion = \"1\"\n", ""),
		"lib/apk/db/installed":                     many(size, "", "P:%d\nV:1\n\n", ""),
		"var/lib/dpkg/status":                      many(size, "", "Package: %d\nVersion: 1\n\n", ""),
		"var/lib/rpmmanifest/container-manifest-2": many(size, "", "%d\t1-1\t1\t1\tm\tn\t1\ta\t0\ts\n", ""),
	} {
		t.Run(name, func(t *testing.T) {
			in := archive(t, name, text)
			var err error
			n := allocated(func() {
				_, err = (&contents.Reader{Dir: t.TempDir(), Limits: contents.Limits{Packages: 1000}}).Read(t.Context(), in)
			})
			if !errors.Is(err, contents.ErrLimit) || !strings.Contains(err.Error(), "packages") || n > size {
				t.Errorf("%v; %d bytes were allocated", err, n)
			}
		})
	}
}

// TestS114DocumentsOfValues reads documents of small values that are no packages: none is
// in memory as a whole, not even as text.
func TestS114DocumentsOfValues(t *testing.T) {
	const size = 8 << 20
	for name, text := range map[string]string{
		"srv/package.json":      many(size, `{"license":[`, `[],`, `]}`),
		"a/package.json":        many(size, `{"name":{`, `"%d":0,`, `}}`),
		"deep/package.json":     strings.Repeat(`[`, size),
		"deeper/package.json":   `{"x":` + strings.Repeat(`{"a":`, size/5),
		"srv/package-lock.json": many(size, `{"packages":{`, `"%d":{},`, `}}`),
		"srv/installed.json":    many(size, `{"packages":[`, `{},`, `]}`),
		"e/conda-meta/x.json":   many(size, `{`, `"%d":0,`, `}`),
		"var/lib/dpkg/status":   many(size, "", "%d:\n", ""),
		"lib/apk/db/installed":  many(size, "", "A:%d\n", ""),
		"app/Cargo.lock":        many(size, "", "[[package]]\nname = \"%d\"\n", ""),
	} {
		t.Run(name, func(t *testing.T) {
			b := archive(t, name, text)
			var before runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			in := &weighed{r: b}
			l, err := (&contents.Reader{Dir: t.TempDir()}).Read(t.Context(), in)
			if err != nil || len(l.Found) != 1 || len(l.Found[0].Packages) != 0 {
				t.Errorf("%v, %+v", err, l)
			}
			if in.most == 0 || in.most > before.HeapAlloc+2<<20 {
				t.Errorf("%d bytes were in use beside the document", in.most-before.HeapAlloc)
			}
			runtime.KeepAlive(text)
		})
	}
}

// TestS114Directory reads an archive whose directory has more than may be in memory, of
// entries that are as small as can be, and one in another.
func TestS114Directory(t *testing.T) {
	z := zipped(t, "", "")
	at := strings.Index(z, "PK\x01\x02")
	end := strings.Index(z, "PK\x05\x06")
	large := strings.Repeat(z[at:end], 8<<20/(end-at))
	tail := []byte(z[end:])
	binary.LittleEndian.PutUint32(tail[12:], uint32(len(large)))
	bomb := z[:at] + large + string(tail)
	var stored bytes.Buffer
	w := zip.NewWriter(&stored)
	e, err := w.CreateHeader(&zip.FileHeader{Name: "a.jar"})
	if err == nil {
		_, err = e.Write([]byte(bomb))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"x.jar": bomb, "x.egg": bomb, "outer.jar": stored.String()} {
		in := archive(t, name, text)
		var err error
		n := allocated(func() {
			_, err = (&contents.Reader{Dir: t.TempDir(), Limits: contents.Limits{Directory: 1 << 20}}).Read(t.Context(), in)
		})
		if !errors.Is(err, contents.ErrLimit) || !strings.Contains(err.Error(), "directories") || n > 24<<20 {
			t.Errorf("%s: %v; %d bytes were allocated", name, err, n)
		}
	}
}

// TestS114Sections reads a program each of whose sections has all that follows as its name.
func TestS114Sections(t *testing.T) {
	const sections, names = 400, 1 << 20
	b := make([]byte, 64+sections*64)
	copy(b, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(b[16:], 2)        // a program
	le.PutUint16(b[18:], 62)       // x86-64
	le.PutUint32(b[20:], 1)        // version
	le.PutUint64(b[40:], 64)       // where sections are told
	le.PutUint16(b[52:], 64)       // size of this header
	le.PutUint16(b[58:], 64)       // size of each
	le.PutUint16(b[60:], sections) // how many
	le.PutUint16(b[62:], 1)        // which has the names
	le.PutUint32(b[128+4:], 3)
	le.PutUint64(b[128+24:], uint64(len(b)))
	le.PutUint64(b[128+32:], names)
	in := archive(t, "usr/bin/x", string(b)+strings.Repeat("n", names-1)+"\x00")
	n := allocated(func() {
		if _, err := (&contents.Reader{Dir: t.TempDir()}).Read(t.Context(), in); err != nil {
			t.Error(err)
		}
	})
	if n > 16<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// TestS114Names: what is remembered of names has a limit of bytes, and so have names of
// packages.
func TestS114Names(t *testing.T) {
	var files []string
	for i := range 100 {
		files = append(files, fmt.Sprint(strings.Repeat("x", 200), i), "")
	}
	_, err := (&contents.Reader{Dir: t.TempDir(), Limits: contents.Limits{Kept: 10_000}}).Read(t.Context(), archive(t, files...))
	if !errors.Is(err, contents.ErrLimit) || !strings.Contains(err.Error(), "bytes") {
		t.Error(err)
	}
	long := strings.Repeat("n", 10<<10)
	if got := told(t, "package.json", `{"name":"`+long+`","version":"1"}`, "a/package.json", `{"name":"a","version":"1"}`); len(got) != 1 {
		t.Errorf("%d files tell of packages", len(got))
	}
}
