package scanner_test

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/binary"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/services/scanner/contents"
)

// rpmHeader returns a header as RPM keeps it, with padding bytes of a tag that nobody
// reads.
func rpmHeader(name, version, release, source string, epoch uint32, padding int) []byte {
	var index, data bytes.Buffer
	put := func(tag, kind uint32, value []byte) {
		for _, x := range []uint32{tag, kind, uint32(data.Len()), 1} {
			_ = binary.Write(&index, binary.BigEndian, x)
		}
		data.Write(value)
	}
	put(1003, 4, binary.BigEndian.AppendUint32(nil, epoch))
	for tag, s := range map[uint32]string{1000: name, 1001: version, 1002: release, 1022: "x86_64", 1044: source} {
		put(tag, 6, append([]byte(s), 0))
	}
	put(5000, 7, make([]byte, padding))
	out := binary.BigEndian.AppendUint32(nil, uint32(index.Len()/16))
	out = binary.BigEndian.AppendUint32(out, uint32(data.Len()))
	return append(append(out, index.Bytes()...), data.Bytes()...)
}

// TestRPM reads a database of RPM that SQLite has written, with rows on many pages.
func TestRPM(t *testing.T) {
	name := filepath.Join(t.TempDir(), "rpmdb.sqlite")
	db, err := sql.Open("sqlite", name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	const packages = 300
	for i := range packages {
		h := rpmHeader(fmt.Sprintf("lib%d", i), "5.1.8", "6.el9", fmt.Sprintf("source-%d-5.1.8-6.el9.src.rpm", i), uint32(i), i*150)
		if _, err := db.Exec(`INSERT INTO Packages (blob) VALUES ($1)`, h); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r := contents.Reader{Dir: t.TempDir()}
	l, err := r.Read(t.Context(), bytes.NewReader(layer(t, file("var/lib/rpm/rpmdb.sqlite", readFile(t, name)))))
	if err != nil || len(l.Found) != 1 || len(l.Found[0].Packages) != packages {
		t.Fatalf("%v, %+v", err, l)
	}
	want := contents.Package{
		Name: "lib299", Version: "5.1.8", Release: "6.el9", Epoch: 299, Arch: "x86_64", Foreign: true,
		SourceName: "source-299", SourceVersion: "5.1.8", SourceRelease: "6.el9", SourceEpoch: 299,
	}
	if got := l.Found[0].Packages[packages-1]; got != want {
		t.Errorf("the last package: %+v, want %+v", got, want)
	}
}

// lib is what the databases below tell of a package.
func lib(i int) contents.Package {
	p := contents.Package{
		Name: fmt.Sprintf("lib%d", i), Version: "5.1.8", Release: "6.el7", Epoch: i, Arch: "x86_64",
		SourceName: fmt.Sprintf("source-%d", i), SourceVersion: "5.1.8", SourceRelease: "6.el7", SourceEpoch: i, Foreign: i%10 == 0,
	}
	if i == 3 {
		p.Module = "m:1"
	}
	return p
}

// readRPM returns what is found in a layer with a database of RPM and other files.
func readRPM(t testing.TB, name, database string, more ...entry) map[string]contents.Found {
	t.Helper()
	r := contents.Reader{Dir: t.TempDir()}
	l, err := r.Read(t.Context(), bytes.NewReader(layer(t, append([]entry{file(name, database)}, more...)...)))
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]contents.Found)
	for _, f := range l.Found {
		all[f.Path] = f
	}
	return all
}

func sameLibs(t testing.TB, got []contents.Package, n int) {
	t.Helper()
	want := make([]contents.Package, n)
	for i := range want {
		want[i] = lib(i)
	}
	byEpoch := func(a, b contents.Package) int { return a.Epoch - b.Epoch }
	slices.SortFunc(got, byEpoch)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("packages (-want +got):\n%s", diff)
	}
}

// TestRPMBerkeleyDB reads databases that db_load of Berkeley DB 5.3.28 has written: 40
// packages of up to 14 kB, on small and large pages, by machines of both byte orders. A
// Python package that came with one of them is the distribution's; that of a stranger's
// package is not.
func TestRPMBerkeleyDB(t *testing.T) {
	egg := func(n int) entry {
		return file(fmt.Sprintf("usr/lib/python2.7/site-packages/p%d.egg-info", n), fmt.Sprintf("Metadata-Version: 1.1\nName: p%d\nVersion: 1\n", n))
	}
	for _, name := range []string{"packages-512-le.gz", "packages-4096-be.gz"} {
		t.Run(name, func(t *testing.T) {
			z, err := gzip.NewReader(strings.NewReader(readFile(t, filepath.Join("contents", "testdata", name))))
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(z)
			if err != nil {
				t.Fatal(err)
			}
			found := readRPM(t, "var/lib/rpm/Packages", string(b), egg(1), egg(10), egg(99))
			sameLibs(t, found["var/lib/rpm/Packages"].Packages, 40)
			for n, want := range map[int]int{1: 0, 10: 1, 99: 1} {
				if got := len(found[egg(n).name].Packages); got != want {
					t.Errorf("%s tells of %d packages, want %d", egg(n).name, got, want)
				}
			}
			// An item in another one: a page could have as many as it has bytes, each as long.
			page, order := 512, binary.ByteOrder(binary.LittleEndian)
			if strings.Contains(name, "be") {
				page, order = 4096, binary.BigEndian
			}
			at := page
			for b[at+25] != 13 && b[at+25] != 2 || order.Uint16(b[at+20:]) < 4 {
				at += page
			}
			copy(b[at+26+4:at+26+8], b[at+26:])
			if found := readRPM(t, "var/lib/rpm/Packages", string(b))["var/lib/rpm/Packages"]; len(found.Packages) > 0 {
				t.Errorf("with an item in another one: %d packages", len(found.Packages))
			}
		})
	}
}

// TestRPMNDB reads a database of RPM's own kind: two pages of slots, some of them free.
func TestRPMNDB(t *testing.T) {
	const packages = 300
	out := make([]byte, 2*4096)
	copy(out, "RpmP")
	binary.LittleEndian.PutUint32(out[12:], 2)
	for i := 2; i < len(out)/16; i++ {
		copy(out[16*i:], "Slot")
	}
	for i := range packages {
		h := rpmHeader(fmt.Sprintf("lib%d", i), "5.1.8", "6.el7", fmt.Sprintf("source-%d-5.1.8-6.el7.src.rpm", i), uint32(i), i)
		slot := out[16*(2+i+i/100):]
		blocks := (len(h) + 28 + 15) / 16
		for j, x := range []int{i + 1, len(out) / 16, blocks} {
			binary.LittleEndian.PutUint32(slot[4+4*j:], uint32(x))
		}
		b := make([]byte, 16*blocks)
		copy(b, "BlbS")
		binary.LittleEndian.PutUint32(b[4:], uint32(i+1))
		binary.LittleEndian.PutUint32(b[12:], uint32(len(h)))
		copy(b[16:], h)
		copy(b[len(b)-4:], "BlbE")
		out = append(out, b...)
	}
	found := readRPM(t, "usr/lib/sysimage/rpm/Packages.db", string(out))
	got := found["usr/lib/sysimage/rpm/Packages.db"].Packages
	for i := range got { // rpmHeader names no vendor and no module
		if got[i].Foreign {
			got[i].Foreign = got[i].Epoch%10 == 0
		}
		if got[i].Epoch == 3 {
			got[i].Module = "m:1"
		}
	}
	sameLibs(t, got, packages)
}

// TestRPMManifest reads the list of packages of an image of Azure Linux that has no
// package manager.
func TestRPMManifest(t *testing.T) {
	const name = "var/lib/rpmmanifest/container-manifest-2"
	found := readRPM(t, name, "openssl-libs\t1.1.1k-5.cm2\t1\t2\tMicrosoft Corporation\t(none)\t3\tx86_64\t7\topenssl-1.1.1k-5.cm2.src.rpm\n")
	want := []contents.Package{{
		Name: "openssl-libs", Version: "1.1.1k", Release: "5.cm2", Epoch: 7, Arch: "x86_64",
		SourceName: "openssl", SourceVersion: "1.1.1k", SourceRelease: "5.cm2", SourceEpoch: 7,
	}}
	if diff := cmp.Diff(want, found[name].Packages); diff != "" {
		t.Error(diff)
	}
}
