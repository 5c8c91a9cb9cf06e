package vulndb_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"log/slog"
	mrand "math/rand/v2"
	"os"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner/contents"
	"github.com/berth-registry/berth/services/scanner/vulndb"
	"github.com/berth-registry/berth/services/scanner/vulndb/vulndbtest"
)

func open(t testing.TB, sources ...string) *vulndb.DB {
	t.Helper()
	if len(sources) == 0 {
		sources = []string{"auto"}
	}
	db, err := vulndb.Open(vulndb.Options{Dir: t.TempDir(), Sources: sources, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// large returns a database with trees of several pages, and buckets in their own pages.
func large(t testing.TB) []byte {
	t.Helper()
	var all []vulndbtest.Advisory
	details := map[string]vulndbtest.Details{}
	for i := range 400 {
		id := "CVE-2099-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		all = append(all, vulndbtest.Advisory{Bucket: "debian 12", Package: "openssl", ID: id, Value: vulndbtest.Fixed{FixedVersion: "9"}})
		details[id] = vulndbtest.Details{Title: "t", Severity: "LOW", VendorSeverity: map[string]int{"nvd": 4, "debian": 2}}
	}
	b, err := os.ReadFile(vulndbtest.Write(t, all, details))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var openssl = &contents.Image{
	OS:       contents.OS{Family: "debian", Version: "12"},
	Packages: []contents.Package{{Name: "openssl", Version: "3", SourceName: "openssl", SourceVersion: "3"}},
}

// TestHostileDatabases loads databases whose pages refer to themselves, to each other, or
// to what is not there: they are refused, and the one in use stays.
func TestHostileDatabases(t *testing.T) {
	whole := large(t)
	page := int(binary.NativeEndian.Uint32(whole[24:]))
	root := func(b []byte) int { // of the newer head
		at := 16
		if binary.NativeEndian.Uint64(b[page+16+48:]) > binary.NativeEndian.Uint64(b[16+48:]) {
			at += page
		}
		return int(binary.NativeEndian.Uint64(b[at+16:]))
	}
	find := func(b []byte, flags uint16, least int) int { // a page of that kind
		for n := 2; n < len(b)/page; n++ {
			if binary.NativeEndian.Uint16(b[n*page+8:]) == flags && int(binary.NativeEndian.Uint16(b[n*page+10:])) >= least {
				return n
			}
		}
		t.Fatalf("no page of kind %d", flags)
		return 0
	}
	db := open(t)
	if _, err := db.Load(bytes.NewReader(whole), "test"); err != nil {
		t.Fatal(err)
	}
	version := db.Current().Version
	for name, spoil := range map[string]func(b []byte){
		"a branch that refers to itself": func(b []byte) {
			n := find(b, 1, 1)
			binary.NativeEndian.PutUint64(b[n*page+16+8:], uint64(n))
		},
		"a branch that refers twice to a page": func(b []byte) {
			n := find(b, 1, 2)
			copy(b[n*page+16+16+8:n*page+16+32], b[n*page+16+8:n*page+16+16])
		},
		"a page that is not there": func(b []byte) {
			n := find(b, 1, 1)
			binary.NativeEndian.PutUint64(b[n*page+16+8:], 1<<40)
		},
		"a page that is another":        func(b []byte) { binary.NativeEndian.PutUint64(b[root(b)*page:], 77) },
		"a page that goes on for ever":  func(b []byte) { binary.NativeEndian.PutUint32(b[root(b)*page+12:], 1<<31) },
		"more elements than a page has": func(b []byte) { binary.NativeEndian.PutUint16(b[root(b)*page+10:], 1<<15) },
		"a page of no kind":             func(b []byte) { binary.NativeEndian.PutUint16(b[root(b)*page+8:], 99) },
		"a value outside its page": func(b []byte) {
			n := find(b, 2, 1)
			binary.NativeEndian.PutUint32(b[n*page+16+12:], 1<<31)
		},
		"a value in another one": func(b []byte) {
			n := find(b, 2, 2)
			binary.NativeEndian.PutUint32(b[n*page+32+4:], binary.NativeEndian.Uint32(b[n*page+16+4:])-16)
		},
		"a root that is not there": func(b []byte) {
			for _, at := range []int{16, page + 16} {
				binary.NativeEndian.PutUint64(b[at+16:], 1<<40)
				h := fnv.New64a()
				_, _ = h.Write(b[at : at+56])
				binary.NativeEndian.PutUint64(b[at+56:], h.Sum64())
			}
		},
		"no head": func(b []byte) { b[16+20]++; b[page+16+20]++ },
	} {
		b := bytes.Clone(whole)
		spoil(b)
		if _, err := db.Load(bytes.NewReader(b), "test"); !errors.Is(err, registry.ErrParameterInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if found, by, err := db.Lookup(t.Context(), openssl); err != nil || by != version || len(found) != 400 {
		t.Errorf("afterwards: %d found by %q, want %q: %v", len(found), by, version, err)
	}
}

// TestHeadsDisagree: bbolt takes the size of pages from the first head, so the second can't
// have other pages checked.
func TestHeadsDisagree(t *testing.T) {
	b := large(t)
	page := int(binary.NativeEndian.Uint32(b[24:]))
	heads := [][]byte{b[16:80], b[page+16 : page+80]}
	at := func(head []byte, field int) uint64 { return binary.NativeEndian.Uint64(head[field:]) }
	newest := heads[0]
	if at(heads[1], 48) > at(heads[0], 48) {
		newest = heads[1]
	}
	n := len(b) / page
	b = append(b, make([]byte, (n+2)*page)...)
	root := b[n*page : (n+1)*page] // where bbolt looks for it
	copy(root, b[int(at(newest, 16))*page:])
	binary.NativeEndian.PutUint64(root, uint64(n))
	other := b[2*n*page:] // where it is, were pages twice as large: without elements
	binary.NativeEndian.PutUint64(other, uint64(n))
	binary.NativeEndian.PutUint16(other[8:], 2)
	second := b[page+16 : page+80]
	copy(second, bytes.Clone(newest))
	load := func(size int) error {
		binary.NativeEndian.PutUint32(second[8:], uint32(size))
		binary.NativeEndian.PutUint64(second[16:], uint64(n))
		binary.NativeEndian.PutUint64(second[48:], 1<<20)
		h := fnv.New64a()
		_, _ = h.Write(second[:56])
		binary.NativeEndian.PutUint64(second[56:], h.Sum64())
		_, err := open(t).Load(bytes.NewReader(b), "test")
		return err
	}
	if err := load(page); err != nil {
		t.Fatal(err)
	}
	if err := load(2 * page); !errors.Is(err, registry.ErrParameterInvalid) {
		t.Errorf("with pages of two sizes: %v", err)
	}
}

// TestRandomDamage changes single bytes of databases: each is refused, or it is read and
// looked up without an end of the process.
func TestRandomDamage(t *testing.T) {
	whole := large(t)
	rnd := mrand.New(mrand.NewPCG(1, 2))
	db := open(t)
	taken := 0
	for range 150 {
		b := bytes.Clone(whole)
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(len(b))] ^= byte(1 + rnd.IntN(255))
		}
		if _, err := db.Load(bytes.NewReader(b), "test"); err != nil {
			if !errors.Is(err, registry.ErrParameterInvalid) {
				t.Fatal(err)
			}
			continue
		}
		taken++
		_, _, _ = db.Lookup(t.Context(), openssl) // an error, or less
	}
	t.Logf("%d of 150 were taken: what was changed is text, or free", taken)
}

// TestHostileValues: what is in a database may be anything; a look-up ends with an error, or
// without what is not understood.
func TestHostileValues(t *testing.T) {
	for name, value := range map[string]any{
		"no object": "x", "wrong kinds": map[string]any{"FixedVersion": []int{1}}, "no version": vulndbtest.Fixed{FixedVersion: "\xff:;;"},
		"no status": vulndbtest.Fixed{Status: -1, Severity: 99},
	} {
		b, err := os.ReadFile(vulndbtest.Write(t, []vulndbtest.Advisory{{Bucket: "debian 12", Package: "openssl", ID: "CVE-1", Value: value}}, nil))
		if err != nil {
			t.Fatal(err)
		}
		db := open(t)
		if _, err := db.Load(bytes.NewReader(b), "test"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, _, _ = db.Lookup(context.Background(), openssl)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestLargeValue: a value that would take much memory to decode is no advisory.
func TestLargeValue(t *testing.T) {
	file := t.TempDir() + "/trivy.db"
	db, err := bolt.Open(file, 0o600, nil)
	if err == nil {
		err = db.Update(func(tx *bolt.Tx) error {
			b, err := tx.CreateBucket([]byte("vulnerability"))
			if err == nil {
				err = b.Put([]byte("CVE-1"), make([]byte, 5<<20))
			}
			return err
		})
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t).Load(bytes.NewReader(b), "test"); !errors.Is(err, registry.ErrParameterInvalid) {
		t.Error(err)
	}
}

// TestSeveritySources: the sources that are named decide how severe a vulnerability is, in
// their order; what none of them knows is as severe as the database says.
func TestSeveritySources(t *testing.T) {
	whole := large(t)
	for _, test := range []struct {
		sources []string
		want    registry.Severity
	}{
		{[]string{"nvd", "debian"}, registry.SeverityCritical},
		{[]string{"debian", "nvd"}, registry.SeverityMedium},
		{[]string{"redhat", "debian"}, registry.SeverityMedium},
		{[]string{"redhat"}, registry.SeverityUnknown},
	} {
		db := open(t, test.sources...)
		if _, err := db.Load(bytes.NewReader(whole), "test"); err != nil {
			t.Fatal(err)
		}
		found, _, err := db.Lookup(t.Context(), openssl)
		if err != nil || len(found) != 400 || found[0].Severity != test.want {
			t.Errorf("%v: %d found, the first %+v, %v, want severity %v", test.sources, len(found), found[:min(1, len(found))], err, test.want)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
