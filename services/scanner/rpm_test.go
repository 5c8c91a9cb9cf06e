package scanner_test

import (
	"bytes"
	"database/sql"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"testing"

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
		Name: "lib299", Version: "5.1.8", Release: "6.el9", Epoch: 299, Arch: "x86_64",
		SourceName: "source-299", SourceVersion: "5.1.8", SourceRelease: "6.el9", SourceEpoch: 299,
	}
	if got := l.Found[0].Packages[packages-1]; got != want {
		t.Errorf("the last package: %+v, want %+v", got, want)
	}
}
