package registry_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// The grammars as the distribution-spec has them, "Pulling manifests".
var (
	specName = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	specTag  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
)

// longName returns a name of n bytes.
func longName(n int) string {
	return strings.Repeat("a/", n/2-1) + strings.Repeat("b", 2+n%2)
}

func TestParseName(t *testing.T) {
	for _, s := range []string{
		"a", "0", "library/alpine", "a.b", "a_b", "a__b", "a-b", "a--b", "a-----b", "a.b_c__d-e--f",
		"blobs", "uploads", "manifests/tags", "v2/v2", "a/b/c/d/e/f/g", longName(255),
	} {
		got, err := registry.ParseName(s)
		if err != nil || string(got) != s {
			t.Errorf("ParseName(%q): got %q, error %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "/", "a/", "/a", "a//b", "A", "aB", "a/B", ".", "..", "a/..", "a/../b", ".a", "a.", "_a", "a_", "-a", "a-",
		"a..b", "a___b", "a._b", "a-_b", "a_-b", "a.-b", "a b", "a\n", "\na", "a\x00", "ä", "a:b", "a@b", "a%2fb", "a\\b",
		"_catalog", ".berth", "a/.berth", longName(256),
	} {
		got, err := registry.ParseName(s)
		if !errors.Is(err, registry.ErrNameInvalid) || got != "" {
			t.Errorf("ParseName(%q): got %q, error %v, want ErrNameInvalid", s, got, err)
		}
	}
}

func TestParseTag(t *testing.T) {
	for _, s := range []string{"a", "A", "0", "_", "latest", "v1.0-rc_1", "__", "a..b", "a-", "a.", strings.Repeat("x", 128)} {
		got, err := registry.ParseTag(s)
		if err != nil || string(got) != s {
			t.Errorf("ParseTag(%q): got %q, error %v", s, got, err)
		}
	}
	for _, s := range []string{"", ".", "-", "-a", ".a", "..", "a b", "a/b", "a:b", "a@b", "a\n", "ä", "a\x00", strings.Repeat("x", 129)} {
		got, err := registry.ParseTag(s)
		if !errors.Is(err, registry.ErrTagInvalid) || got != "" {
			t.Errorf("ParseTag(%q): got %q, error %v, want ErrTagInvalid", s, got, err)
		}
	}
}

func TestParseReference(t *testing.T) {
	d := registry.SHA256.FromString("x")
	for s, want := range map[string]registry.Reference{
		"latest":            {Tag: "latest"},
		"sha256":            {Tag: "sha256"},
		"sha256-" + d.Hex(): {Tag: registry.Tag("sha256-" + d.Hex())}, // the old place of referrers
		d.String():          {Digest: d},
	} {
		got, err := registry.ParseReference(s)
		if err != nil || got != want {
			t.Errorf("ParseReference(%q): got %+v, error %v, want %+v", s, got, err, want)
		}
		if got.String() != s {
			t.Errorf("ParseReference(%q).String() is %q", s, got)
		}
	}
	for s, want := range map[string]error{
		"":                     registry.ErrTagInvalid,
		"a/b":                  registry.ErrTagInvalid,
		"sha256:xyz":           registry.ErrDigestInvalid, // not a tag that was not found
		":":                    registry.ErrDigestInvalid,
		"a:b":                  registry.ErrDigestInvalid,
		"md5:" + d.Hex()[:32]:  registry.ErrDigestInvalid,
		"latest@" + d.String(): registry.ErrDigestInvalid,
	} {
		if got, err := registry.ParseReference(s); !errors.Is(err, want) || got != (registry.Reference{}) {
			t.Errorf("ParseReference(%q): got %+v, error %v, want %v", s, got, err, want)
		}
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"a", "library/alpine", "a__b/c--d.e_f", "a..b", "A", "a/", longName(255), longName(256)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := registry.ParseName(s)
		if want := len(s) <= registry.MaxName && specName.MatchString(s); want != (err == nil) {
			t.Errorf("ParseName(%q): error %v, and the specification allows it: %t", s, err, want)
		}
		if err == nil && string(got) != s {
			t.Errorf("ParseName(%q) returns %q", s, got)
		}
		if err != nil && !errors.Is(err, registry.ErrNameInvalid) {
			t.Errorf("ParseName(%q): error %v", s, err)
		}
	})
}

func FuzzParseReference(f *testing.F) {
	d := registry.SHA256.FromString("x")
	for _, s := range []string{"latest", "_", ".a", "sha256:xyz", d.String(), registry.SHA512.FromString("x").String(), d.String() + "0", "SHA256:" + d.Hex()} {
		f.Add(s)
	}
	specDigest := regexp.MustCompile(`^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := registry.ParseReference(s)
		isTag, isDigest := specTag.MatchString(s), specDigest.MatchString(s)
		if (err == nil) != (isTag || isDigest) {
			t.Errorf("ParseReference(%q): error %v, and it is a tag: %t, a digest: %t", s, err, isTag, isDigest)
		}
		if err != nil {
			if !errors.Is(err, registry.ErrTagInvalid) && !errors.Is(err, registry.ErrDigestInvalid) {
				t.Errorf("ParseReference(%q): error %v", s, err)
			}
			return
		}
		if got.String() != s || (got.Tag != "") != isTag || (got.Digest != "") != isDigest {
			t.Errorf("ParseReference(%q) returns %+v", s, got)
		}
	})
}
