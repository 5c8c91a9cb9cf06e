package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

func TestP70ParseRange(t *testing.T) {
	tests := []struct {
		header string
		size   int64
		want   string // offset+length of each part
		err    error
	}{
		{"", 10, "", nil},
		{"bytes=0-9", 10, "0+10", nil},
		{"bytes=0-0", 10, "0+1", nil},
		{"bytes=9-", 10, "9+1", nil},
		{"bytes= 3-4 ", 10, "3+2", nil},
		{"bytes=3-99", 10, "3+7", nil},
		{"bytes=-3", 10, "7+3", nil},
		{"bytes=-99", 10, "0+10", nil},
		{"bytes=-99999999999999999999", 10, "0+10", nil},
		{"bytes=10-", 10, "", registry.ErrRangeInvalid},
		{"bytes=99999999999999999999-", 10, "", registry.ErrRangeInvalid},
		{"bytes=5-4", 10, "", registry.ErrRangeInvalid},
		{"bytes=-0", 10, "", registry.ErrRangeInvalid},
		{"bytes=-1", 0, "", registry.ErrRangeInvalid},
		{"bytes=0-", 0, "", registry.ErrRangeInvalid},
		{"bytes=10-,12-13,-0", 10, "", registry.ErrRangeInvalid},
		{"bytes=-", 10, "", nil},
		{"bytes=", 10, "", nil},
		{"bytes=, ,", 10, "", nil},
		{"bytes=+1-2", 10, "", nil},
		{"bytes=1-2x", 10, "", nil},
		{"bytes=1-2,x", 10, "", nil},
		{"bytes 0-1", 10, "", nil},
		{"Bytes=0-1", 10, "", nil},

		{"bytes=0-1,3-4", 10, "0+2 3+2", nil},
		{"bytes=0-1, ,\t3-4,", 10, "0+2 3+2", nil},
		{"bytes=7-8,0-1,3-4", 10, "7+2 0+2 3+2", nil}, // the order asked for
		{"bytes=0-1,2-4", 10, "0+2 2+3", nil},         // containers/image counts parts
		{"bytes=0-4,4-6", 10, "0+7", nil},
		{"bytes=8-9,0-4,2-6,20-", 10, "8+2 0+7", nil},
		{"bytes=5-6,0-1,1-5", 10, "0+7", nil},
		{"bytes=0-,0-,0-", 10, "0+10", nil},
		{"bytes=0-5,1-2,8-9", 10, "0+6 8+2", nil},
		{"bytes=-2,0-0", 10, "8+2 0+1", nil},
		{"bytes=" + strings.Repeat("0-,", maxRanges), 10, "0+10", nil},
		{"bytes=" + strings.Repeat("0-,", maxRanges+1), 10, "", registry.ErrTooManyRanges},
	}
	for _, test := range tests {
		got, err := parseRange(test.header, test.size)
		var texts []string
		for _, p := range got {
			texts = append(texts, fmt.Sprintf("%d+%d", p.Offset, p.Length))
		}
		if strings.Join(texts, " ") != test.want || !errors.Is(err, test.err) {
			t.Errorf("%.60q of %d: got %v, %v; want %q, %v", test.header, test.size, got, err, test.want, test.err)
		}
	}
}

func TestP05ParseContentRange(t *testing.T) {
	type result struct {
		offset, length int64
		ok             bool
	}
	tests := map[string]result{
		"0-99":                    {0, 100, true},
		"100-100":                 {100, 1, true},
		"bytes 0-99/100":          {0, 100, true},
		"bytes 0-99/*":            {0, 100, true},
		"bytes 5-9":               {5, 5, true},
		"bytes=0-99":              {0, 100, true},
		"10-9":                    {10, 0, true},
		"10-8":                    {},
		"":                        {},
		"-":                       {},
		"0-":                      {},
		"-5":                      {},
		"0--1":                    {},
		"bytes":                   {},
		"bytes:0-9":               {},
		"bytes 0-9/x":             {},
		"bytes 0-9/":              {},
		"0-9/10":                  {},
		"0-9223372036854775807":   {},
		"0-99999999999999999999":  {},
		" 0-9":                    {},
		"0x1-0x2":                 {},
		"9223372036854775807-0":   {},
		"1-2,4-5":                 {},
		"bytes 0-9/99/100":        {},
		"9223372036854775806-9-9": {},
	}
	for header, want := range tests {
		offset, length, err := parseContentRange(header)
		got := result{offset, length, err == nil}
		if err != nil && !errors.Is(err, registry.ErrRangeInvalid) {
			t.Errorf("%q: got error %v", header, err)
		}
		if got != want {
			t.Errorf("%q: got %v, want %v", header, got, want)
		}
	}
}

// FuzzRange checks that the parts lie inside the content, overlap nowhere, and
// hold every byte that a range of its own would.
func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=5-", "bytes=-5", "bytes=5-0", "bytes=0-1,2-3", "bytes=0-5,3-8,-4, 1-", "bytes=99999999999999999999-", "x=1-2"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		parts, err := parseRange(header, size)
		if err != nil {
			if !errors.Is(err, registry.ErrRangeInvalid) && !errors.Is(err, registry.ErrTooManyRanges) {
				t.Fatal(err)
			}
			return
		}
		sum := int64(0)
		for i, p := range parts {
			if _, _, err := p.Resolve(size); err != nil || p.Length < 1 {
				t.Fatalf("%q of %d: %v lies outside", header, size, p)
			}
			sum += p.Length
			for _, q := range parts[:i] {
				if p.Offset < q.Offset+q.Length && q.Offset < p.Offset+p.Length {
					t.Fatalf("%q of %d: %v and %v overlap", header, size, p, q)
				}
			}
		}
		if sum > size {
			t.Fatalf("%q of %d: %d bytes", header, size, sum)
		}
		if parts == nil {
			return
		}
		for spec := range strings.SplitSeq(strings.TrimPrefix(header, "bytes="), ",") {
			alone, err := parseRange("bytes="+spec, size)
			if err != nil || alone == nil {
				continue // outside, or an empty element
			}
			if !slices.ContainsFunc(parts, func(p registry.Range) bool {
				return p.Offset <= alone[0].Offset && alone[0].Offset+alone[0].Length <= p.Offset+p.Length
			}) {
				t.Fatalf("%q of %d: %v lacks %v", header, size, parts, alone[0])
			}
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"0-1", "bytes 0-99/100", "bytes=0-99", "3-2", "bytes 0-1/*", "-", "9223372036854775807-9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		offset, length, err := parseContentRange(header)
		if err != nil {
			return
		}
		if offset < 0 || length < 0 || offset+length < offset {
			t.Fatalf("%q: %d, %d", header, offset, length)
		}
		again := strconv.FormatInt(offset, 10) + "-" + strconv.FormatInt(offset+length-1, 10)
		if o, l, err := parseContentRange(again); offset+length > 0 && (err != nil || o != offset || l != length) {
			t.Fatalf("%q is %q, which is %d, %d, %v", header, again, o, l, err)
		}
	})
}

// TestRangesOfMirroredBlobs: a client that asks for what is behind the end of a blob is
// told its size also where the blob is fetched for it.
func TestRangesOfMirroredBlobs(t *testing.T) {
	catalog, blobs := memory.NewCatalog(memory.CatalogOptions{}), memory.NewBlobs()
	up := newWorld()
	up.deps.Catalog, up.deps.Blobs = catalog, blobs
	d := pushBlob(t, up.serve(t), "a", "0123456789")
	w := newWorld()
	here, ok := w.deps.Catalog.(*memory.Catalog)
	bytes, ok2 := w.deps.Blobs.(*memory.Blobs)
	if !ok || !ok2 {
		t.Fatal("the world has other ports")
	}
	m, err := memory.NewMirror(memory.MirrorOptions{Blobs: bytes, Catalog: here, Upstream: catalog, UpstreamBlobs: blobs, Rule: registry.MirrorRule{Name: "up", Scope: []string{"**"}, OnDemand: true}})
	if err != nil {
		t.Fatal(err)
	}
	w.deps.Mirror = m
	url := w.serve(t) + "/v2/a/blobs/" + d.String()
	got := do(t, "GET", url, nil, "Range: bytes=10-").want(t, 416)
	if got.header.Get("Content-Range") != "bytes */10" {
		t.Errorf("behind the end: %v", got.header)
	}
	if got := do(t, "GET", url, nil, "Range: bytes=2-3").want(t, 206); got.header.Get("Content-Range") != "bytes 2-3/10" || got.body != "23" {
		t.Errorf("a part: %v %q", got.header, got.body)
	}
}
