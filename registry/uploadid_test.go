package registry_test

import (
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

func TestNewUploadID(t *testing.T) {
	// RFC 9562 §5.7: 48 bits of time, version 7, variant 10.
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := make(map[registry.UploadID]bool)
	var last registry.UploadID
	for _, born := range []time.Time{
		time.UnixMilli(0), time.UnixMilli(1), time.UnixMilli(1 << 16), time.UnixMilli(1<<32 + 5),
		time.Date(2026, 11, 23, 20, 0, 0, 123_000_000, time.UTC), time.UnixMilli(1<<48 - 1),
	} {
		for range 20 {
			id := registry.NewUploadID(born.Add(999 * time.Microsecond))
			if !form.MatchString(string(id)) || seen[id] {
				t.Errorf("NewUploadID: %q is no UUID of version 7, or not new", id)
			}
			seen[id] = true
			if got := id.Time(); !got.Equal(born) {
				t.Errorf("%s.Time(): got %v, want %v", id, got, born)
			}
			if parsed, err := registry.ParseUploadID(string(id)); err != nil || parsed != id {
				t.Errorf("ParseUploadID(%q): got %q, error %v", id, parsed, err)
			}
		}
		id := registry.NewUploadID(born)
		if id <= last {
			t.Errorf("%s is younger than %s, and does not follow it", id, last)
		}
		last = id
	}
}

func TestParseUploadID(t *testing.T) {
	const good = "0193aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee"
	if got, err := registry.ParseUploadID(good); err != nil || got != good {
		t.Errorf("ParseUploadID(%q): got %q, error %v", good, got, err)
	}
	for _, s := range []string{
		"", "x", good[1:], good + "0", "0193AAAA-bbbb-7ccc-8ddd-eeeeeeeeeeee", "0193aaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
		"0193aaaa-bbbb-7ccc-0ddd-eeeeeeeeeeee", "0193aaaa-bbbb-7ccc-cddd-eeeeeeeeeeee", "0193aaaa-bbbb-7ccc-Addd-eeeeeeeeeeee",
		"0193aaaabbbbb-7ccc-8ddd-eeeeeeeeeeee", "0193aaaa-bbbb-7ccc-8ddd-eeeeeeeeeee/", "0193aaaa-bbbb-7ccc-8ddd-../eeeeeeeee",
		"0193aaaa-bbbb-7ccc-8ddd-eeeeeeeeeee\x00", "{193aaaa-bbbb-7ccc-8ddd-eeeeeeeeeee}",
	} {
		got, err := registry.ParseUploadID(s)
		if !errors.Is(err, registry.ErrUploadUnknown) || got != "" {
			t.Errorf("ParseUploadID(%q): got %q, error %v, want ErrUploadUnknown", s, got, err)
		}
		if born := registry.UploadID(s).Time(); !born.IsZero() {
			t.Errorf("Time of %q: got %v, want the zero time", s, born)
		}
	}
}

func FuzzParseUploadID(f *testing.F) {
	f.Add("0193aaaa-bbbb-7ccc-8ddd-eeeeeeeeeeee")
	f.Add("../../../../etc/passwd--------------")
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	f.Fuzz(func(t *testing.T, s string) {
		got, err := registry.ParseUploadID(s)
		if (err == nil) != form.MatchString(s) || err == nil && string(got) != s {
			t.Errorf("ParseUploadID(%q): got %q, error %v", s, got, err)
		}
		if ms := registry.UploadID(s).Time().UnixMilli(); err == nil && (ms < 0 || ms >= 1<<48) {
			t.Errorf("Time of %q is %d ms", s, ms)
		}
	})
}
