package registry_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func TestParseDigest(t *testing.T) {
	hex64, hex128 := strings.Repeat("0123456789abcdef", 4), strings.Repeat("0123456789abcdef", 8)
	for _, s := range []string{"sha256:" + hex64, "sha512:" + hex128} {
		got, err := registry.ParseDigest(s)
		if err != nil || got.String() != s {
			t.Errorf("ParseDigest(%q): got %q, error %v", s, got, err)
		}
		if !got.Algorithm().Available() {
			t.Errorf("ParseDigest(%q): nothing can compute %s", s, got.Algorithm())
		}
	}
	for _, s := range []string{
		"", ":", "sha256", "sha256:", hex64, ":" + hex64, "sha256:" + hex64[1:], "sha256:" + hex64 + "0", "sha256:" + hex128,
		"sha512:" + hex64, "sha384:" + hex128[:96], "md5:" + hex64[:32], "SHA256:" + hex64, "sha256:" + strings.ToUpper(hex64),
		"sha256:" + hex64[1:] + "g", "sha256:" + hex64[:30] + "/../" + hex64[:30], "sha256::" + hex64[1:], "sha256:" + hex64[1:] + "\n",
		" sha256:" + hex64, "sha256+b64:" + hex64, "sha256:" + hex64[2:] + "ä",
	} {
		got, err := registry.ParseDigest(s)
		if !errors.Is(err, registry.ErrDigestInvalid) || got != "" {
			t.Errorf("ParseDigest(%q): got %q, error %v, want ErrDigestInvalid", s, got, err)
		}
	}
}

func TestParseAlgorithm(t *testing.T) {
	for _, s := range []string{"sha256", "sha512"} {
		got, err := registry.ParseAlgorithm(s)
		if err != nil || string(got) != s {
			t.Errorf("ParseAlgorithm(%q): got %q, error %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sha384", "md5", "SHA256", "sha256 ", "blake3"} {
		got, err := registry.ParseAlgorithm(s)
		if !errors.Is(err, registry.ErrDigestInvalid) || got != "" {
			t.Errorf("ParseAlgorithm(%q): got %q, error %v, want ErrDigestInvalid", s, got, err)
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	d := registry.SHA256.FromString("x")
	for _, s := range []string{"", ":", "sha256:", "sha256:xyz", d.String(), registry.SHA512.FromString("x").String(), d.String() + "0", "SHA256:" + d.Encoded(), "sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		f.Add(s)
	}
	spec := regexp.MustCompile(`^(sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128})$`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := registry.ParseDigest(s)
		if (err == nil) != spec.MatchString(s) {
			t.Fatalf("ParseDigest(%q): error %v", s, err)
		}
		if err != nil {
			if !errors.Is(err, registry.ErrDigestInvalid) || got != "" {
				t.Errorf("ParseDigest(%q): got %q, error %v", s, got, err)
			}
			return
		}
		// Paths and URLs are made of it.
		if got.String() != s || got.Validate() != nil || strings.ContainsAny(got.Encoded(), "./%\\") {
			t.Errorf("ParseDigest(%q) returns %q", s, got)
		}
	})
}
