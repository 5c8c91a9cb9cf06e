package gateway

import (
	"errors"
	"strconv"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func TestParseRange(t *testing.T) {
	tests := []struct {
		header string
		size   int64
		want   registry.Range
		part   bool
		err    error
	}{
		{"", 10, registry.Whole, false, nil},
		{"bytes=0-9", 10, registry.Range{Offset: 0, Length: 10}, true, nil},
		{"bytes=0-0", 10, registry.Range{Offset: 0, Length: 1}, true, nil},
		{"bytes=9-", 10, registry.Range{Offset: 9, Length: 1}, true, nil},
		{"bytes= 3-4 ", 10, registry.Range{Offset: 3, Length: 2}, true, nil},
		{"bytes=3-99", 10, registry.Range{Offset: 3, Length: 7}, true, nil},
		{"bytes=-3", 10, registry.Range{Offset: 7, Length: 3}, true, nil},
		{"bytes=-99", 10, registry.Range{Offset: 0, Length: 10}, true, nil},
		{"bytes=-99999999999999999999", 10, registry.Range{Offset: 0, Length: 10}, true, nil},
		{"bytes=10-", 10, registry.Range{}, false, registry.ErrRangeInvalid},
		{"bytes=99999999999999999999-", 10, registry.Range{}, false, registry.ErrRangeInvalid},
		{"bytes=5-4", 10, registry.Range{}, false, registry.ErrRangeInvalid},
		{"bytes=-0", 10, registry.Range{}, false, registry.ErrRangeInvalid},
		{"bytes=-1", 0, registry.Range{}, false, registry.ErrRangeInvalid},
		{"bytes=0-", 0, registry.Range{}, false, registry.ErrRangeInvalid},
		{"bytes=0-1,3-4", 10, registry.Whole, false, nil},
		{"bytes=-", 10, registry.Whole, false, nil},
		{"bytes=", 10, registry.Whole, false, nil},
		{"bytes=+1-2", 10, registry.Whole, false, nil},
		{"bytes=1-2x", 10, registry.Whole, false, nil},
		{"bytes 0-1", 10, registry.Whole, false, nil},
		{"Bytes=0-1", 10, registry.Whole, false, nil},
	}
	for _, test := range tests {
		got, part, err := parseRange(test.header, test.size)
		if got != test.want || part != test.part || !errors.Is(err, test.err) {
			t.Errorf("%q of %d: got %v, %v, %v; want %v, %v, %v", test.header, test.size, got, part, err, test.want, test.part, test.err)
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

func FuzzRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1", "bytes=5-", "bytes=-5", "bytes=5-0", "bytes=0-1,2-3", "bytes=99999999999999999999-", "x=1-2"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		r, part, err := parseRange(header, size)
		if err != nil {
			if !errors.Is(err, registry.ErrRangeInvalid) {
				t.Fatal(err)
			}
			return
		}
		offset, length, err := r.Resolve(size)
		if err != nil {
			t.Fatalf("%q of %d: %v lies outside", header, size, r)
		}
		if part && length == 0 || !part && (offset != 0 || length != size) {
			t.Fatalf("%q of %d: %v, part %v", header, size, r, part)
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
