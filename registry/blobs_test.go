package registry_test

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

func TestRangeResolve(t *testing.T) {
	for _, r := range []struct{ offset, length, size, wantOffset, wantLength int64 }{
		{0, -1, 10, 0, 10}, {0, 10, 10, 0, 10}, {0, 0, 10, 0, 0}, {3, 4, 10, 3, 4}, {9, 1, 10, 9, 1}, {9, -1, 10, 9, 1},
		{10, 0, 10, 10, 0}, {10, -1, 10, 10, 0}, {0, 0, 0, 0, 0}, {0, -1, 0, 0, 0},
		{0, math.MaxInt64, math.MaxInt64, 0, math.MaxInt64}, {math.MaxInt64, -1, math.MaxInt64, math.MaxInt64, 0},
	} {
		offset, length, err := registry.Range{Offset: r.offset, Length: r.length}.Resolve(r.size)
		if err != nil || offset != r.wantOffset || length != r.wantLength {
			t.Errorf("{%d %d} of %d: got %d, %d, error %v, want %d, %d", r.offset, r.length, r.size, offset, length, err, r.wantOffset, r.wantLength)
		}
	}
	for _, r := range []struct{ offset, length, size int64 }{
		{11, 0, 10}, {11, -1, 10}, {10, 1, 10}, {0, 11, 10}, {5, 6, 10}, {-1, 1, 10}, {-1, -1, 10}, {1, 0, 0}, {0, 1, 0},
		{1, math.MaxInt64, 10}, {math.MaxInt64, 1, 10}, {math.MaxInt64, -1, 10}, {math.MaxInt64, math.MaxInt64, math.MaxInt64},
		{math.MinInt64, -1, 10}, {math.MinInt64, -1, math.MaxInt64}, {math.MinInt64, math.MaxInt64, 10},
	} {
		if _, _, err := (registry.Range{Offset: r.offset, Length: r.length}).Resolve(r.size); !errors.Is(err, registry.ErrRangeInvalid) {
			t.Errorf("{%d %d} of %d: got error %v, want ErrRangeInvalid", r.offset, r.length, r.size, err)
		}
	}
}

func FuzzRangeResolve(f *testing.F) {
	f.Add(int64(3), int64(-1), int64(10))
	f.Add(int64(math.MinInt64), int64(math.MaxInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, offset, length, size int64) {
		if size < 0 {
			return
		}
		from, n, err := registry.Range{Offset: offset, Length: length}.Resolve(size)
		if err == nil && (from != offset || n < 0 || from < 0 || from > size-n || length >= 0 && n != length || length < 0 && n != size-from) {
			t.Errorf("{%d %d} of %d: got %d, %d", offset, length, size, from, n)
		}
	})
}

func TestPoolOf(t *testing.T) {
	pools := []registry.Pool{"", "/a", "/infra", "/a-b"}
	for repo, want := range map[registry.Name]registry.Pool{
		"a": "/a", "a/x": "/a", "a/infra": "/a", "infra/a/b": "/infra", "a-b/c": "/a-b", "a-c": "", "ab": "", "x/a": "", "inf": "",
	} {
		if got := registry.PoolOf(repo, pools); got != want {
			t.Errorf("PoolOf(%s): got %q, want %q", repo, got, want)
		}
		if got := registry.PoolOf(repo, nil); got != "" {
			t.Errorf("PoolOf(%s) without pools: got %q", repo, got)
		}
	}
}

func TestActorAnonymous(t *testing.T) {
	if !(registry.Actor{Groups: []string{"g"}}).Anonymous() || (registry.Actor{ID: "x"}).Anonymous() {
		t.Error("an actor is anonymous if it has no ID")
	}
}

func TestLocatorBorn(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	id := string(registry.NewUploadID(at))
	for locator, want := range map[string]time.Time{
		id:                                  at,
		"n." + id + ".8c54493245cb492e":     at,
		"a." + id:                           at,
		"":                                  {},
		"a/b/blobs/sha256/ab":               {}, // adopted
		"n." + id[1:] + ".8c54493245cb492e": {},
	} {
		if got := registry.Locator(locator).Born(); !got.Equal(want) {
			t.Errorf("%q: got %v, want %v", locator, got, want)
		}
	}
}
