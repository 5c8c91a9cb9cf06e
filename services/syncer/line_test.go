package syncer_test

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/services/syncer"
)

// TestPreemption: the bytes of scheduled copies wait while those that a client waits
// for come, and go on behind them.
func TestPreemption(t *testing.T) {
	up := newHostile(t)
	bulk, urgent := random(4<<20), random(1<<20)
	up.image(t, "bulk", "v1", bulk)
	up.image(t, "app", "v1", urgent)
	gate := map[string]chan struct{}{string(registry.SHA256.FromBytes(bulk)): make(chan struct{}), string(registry.SHA256.FromBytes(urgent)): make(chan struct{})}
	up.set(func() {
		up.answer = func(w http.ResponseWriter, r *http.Request) bool {
			for d, open := range gate {
				if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/blobs/"+d) {
					continue
				}
				b := up.blobs[registry.Digest(d)]
				w.Header().Set("Content-Length", itoa(len(b)))
				w.Write(b[:len(b)/2])
				http.NewResponseController(w).Flush()
				select {
				case <-open:
				case <-r.Context().Done():
					return true
				}
				w.Write(b[len(b)/2:])
				return true
			}
			return false
		}
	})
	r := at(t, up.URL, syncer.Content{Prefix: "bulk"}, syncer.Content{Prefix: "app"})
	r.Interval = time.Hour
	r.Content[1].Regex = nothing
	w := open(t, r)
	fill := func(b []byte, ok func(registry.Fill) bool) (is registry.Fill) {
		t.Helper()
		w.fetches(t, "the blob is as far as it should be", func(fills []registry.Fill) bool {
			i := slices.IndexFunc(fills, func(f registry.Fill) bool { return f.Digest == registry.SHA256.FromBytes(b) })
			if i >= 0 {
				is = fills[i]
			}
			return i >= 0 && ok(is)
		})
		return is
	}
	fill(bulk, func(f registry.Fill) bool {
		return f.Have == int64(len(bulk)/2) && f.Priority == registry.PrioritySchedule
	})
	c, err := w.Open(t.Context(), nobody, "app", registry.SHA256.FromBytes(urgent), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	fill(urgent, func(f registry.Fill) bool { return f.Priority == registry.PriorityClient })
	close(gate[string(registry.SHA256.FromBytes(bulk))])
	// It may be in a read that had begun before: the next one waits.
	held := fill(bulk, func(f registry.Fill) bool { return strings.HasPrefix(f.Error, "waits: ") })
	if held.Have == held.Size {
		t.Errorf("all of the schedule's bytes came before the client's: %+v", held)
	}
	close(gate[string(registry.SHA256.FromBytes(urgent))])
	if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, urgent) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	w.linked(t, "bulk", registry.SHA256.FromBytes(bulk))
}

// TestClientLifts: a scheduled fetch that a client joins is the client's.
func TestClientLifts(t *testing.T) {
	up := newHostile(t)
	layer := random(1 << 20)
	up.image(t, "a", "v1", layer)
	hold := make(chan struct{})
	up.set(func() {
		up.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+string(registry.SHA256.FromBytes(layer))) {
				select { // the config comes
				case <-hold:
				case <-r.Context().Done():
				}
			}
			return false
		}
	})
	r := at(t, up.URL, syncer.Content{Prefix: "a"})
	r.Interval = time.Hour
	w := open(t, r)
	now := func() (whose string) {
		t.Helper()
		w.fetches(t, "the layer is being fetched", func(fills []registry.Fill) bool {
			for _, f := range fills {
				if f.Digest == registry.SHA256.FromBytes(layer) {
					whose = f.Priority
				}
			}
			return whose != ""
		})
		return whose
	}
	var got []string
	got = append(got, now())
	c, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(layer), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, now())
	c.Close()
	got = append(got, now())
	close(hold)
	if diff := cmp.Diff([]string{registry.PrioritySchedule, registry.PriorityClient, registry.PrioritySchedule}, got); diff != "" {
		t.Error(diff)
	}
}

// TestMonthlyBytes: scheduled copies stop before the bytes of a month are used up,
// then what is not here is refused; what is here is served, a restart counts on and
// the next month begins anew.
func TestMonthlyBytes(t *testing.T) {
	up := newHostile(t)
	first, second, third := random(100_000), random(1000), random(1001)
	up.image(t, "a", "v1", first)
	up.image(t, "a", "v2", second)
	up.image(t, "a", "v3", third)
	rule := func() *syncer.Rule {
		r := at(t, up.URL)
		r.Monthly = 100_500
		return r
	}
	w := open(t, rule())
	skew.Store(int64(time.Until(time.Date(2099, 3, 10, 12, 0, 0, 0, time.UTC))))
	get := func(b []byte) error {
		c, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(b), registry.Whole)
		if err == nil {
			_, err = drainBody(t, c)
		}
		return err
	}
	if err := get(first); err != nil {
		t.Fatal(err)
	}
	w.linked(t, "a", registry.SHA256.FromBytes(first))
	if err := get(second); err != nil { // 500 bytes were left when it began
		t.Fatal(err)
	}
	w.linked(t, "a", registry.SHA256.FromBytes(second))
	for range 2 {
		err := get(third)
		e := registry.AsError(err)
		if !errors.Is(err, registry.ErrTooManyRequests) || e.RetryAfter < 20*24*time.Hour || !strings.Contains(e.Text(), "2099-04-01") {
			t.Errorf("used up: %v, again after %v", err, e.RetryAfter)
		}
		rules, err := w.MirrorRules(t.Context())
		if err != nil || rules[0].MonthBytes != 101_000 || rules[0].MonthLimit != 100_500 {
			t.Errorf("%+v, %v", rules, err)
		}
		w.close()
		w.start(t, rule())
	}
	skew.Store(int64(time.Until(time.Date(2099, 4, 1, 0, 0, 1, 0, time.UTC))))
	if err := get(third); err != nil {
		t.Errorf("next month: %v", err)
	}
}

// TestScheduleLeavesBytes: a scheduled copy leaves a fifth of the month to clients, also
// by not beginning a blob that is larger than what is left.
func TestScheduleLeavesBytes(t *testing.T) {
	up := newHostile(t)
	one, two, three := random(79_500), random(1000), random(2000)
	up.image(t, "a", "v1", one)
	up.image(t, "a", "v2", two)
	up.image(t, "other", "v1", three)
	r := at(t, up.URL, syncer.Content{Prefix: "a"}, syncer.Content{Prefix: "other", Regex: nothing})
	r.Interval, r.Monthly = time.Hour, 100_000
	w := open(t, r)
	done := finished(t, w, 0)
	if done.Done != 1 || !strings.Contains(done.LastError, "for scheduled copies") || done.MonthBytes > 80_000 {
		t.Errorf("%+v", done)
	}
	c, err := w.Open(t.Context(), nobody, "other", registry.SHA256.FromBytes(three), registry.Whole)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, three) {
		t.Errorf("a client: %d bytes, %v", len(got), err)
	}
}

// TestScope: outside of what a rule says it may cover it covers nothing.
func TestScope(t *testing.T) {
	names := []registry.Name{"nginx", "library/nginx", "library/nginx/x", "team/app", "team", "hub/nginx", "hub", "docker.io/library/nginx", "docker.io/nginx",
		"index.docker.io/nginx", "registry.hub.docker.com/a/b", "quay.io/a/b", "x/team/app", "a/b/c", "hub/team/app", "mirror/a"}
	for _, contents := range [][]syncer.Content{
		nil,
		{{Prefix: "library/**"}},
		{{Prefix: "library/nginx"}},
		{{Prefix: "library/*", Destination: "/hub", StripPrefix: true}},
		{{Prefix: "team/app", Destination: "/x"}, {Prefix: "a/**", Destination: "/mirror", StripPrefix: true}},
		{{Prefix: "team/**", StripPrefix: true}},
		{{Prefix: "**", Destination: "/hub"}},
		{{Prefix: "nginx", Destination: "library"}},
	} {
		for _, url := range []string{"https://registry-1.docker.io", "https://quay.io"} {
			w := open(t, at(t, url, contents...))
			rules, err := w.MirrorRules(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			covered, outside := 0, 0
			for _, name := range names {
				c, err := w.Covers(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				in := slices.ContainsFunc(rules[0].Scope, func(text string) bool {
					p, err := glob.Compile(text)
					if err != nil {
						t.Fatal(err)
					}
					return p.Match(string(name))
				})
				if c.Rule != "" && !in {
					t.Errorf("%v of %s covers %s, and its scope is %v", contents, url, name, rules[0].Scope)
				}
				if c.Rule != "" {
					covered++
				}
				if !in {
					outside++
				}
			}
			if len(contents) > 0 && !contents[0].StripPrefix && outside == 0 {
				t.Errorf("void: the scope of %v is everything: %v", contents, rules[0].Scope)
			}
			w.close()
		}
	}
}

// TestS008RetryAfter: what an upstream says of when to come back is passed on, also to
// who asks while it holds.
func TestS008RetryAfter(t *testing.T) {
	for status, want := range map[int]error{429: registry.ErrTooManyRequests, 503: registry.ErrUnavailable} {
		up := newHostile(t)
		w := open(t, at(t, up.URL))
		up.set(func() {
			up.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				w.Header().Set("Retry-After", "17")
				w.WriteHeader(status)
				return true
			}
		})
		for i := range 2 {
			_, err := w.Resolve(t.Context(), nobody, "a", tag(registry.Tag("v"+itoa(i))), "")
			if after := registry.AsError(err).RetryAfter; !errors.Is(err, want) || after > 17*time.Second || after < 10*time.Second {
				t.Errorf("%d, request %d: %v, again after %v", status, i, err, after)
			}
		}
	}
}

// TestSilentUpstream: of an upstream that hangs only the first client waits the full
// time; for what is here nobody does.
func TestSilentUpstream(t *testing.T) {
	up := newHostile(t)
	layer := random(1000)
	d, _ := up.image(t, "a", "v1", layer)
	w := open(t, at(t, up.URL))
	if _, err := w.Resolve(t.Context(), nobody, "a", tag("v1"), ""); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan struct{})
	up.set(func() {
		up.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			select {
			case <-stuck:
			case <-r.Context().Done():
			}
			return true
		}
	})
	t.Cleanup(func() { close(stuck) })
	w.later.Store(int64(time.Hour))
	for i := range 3 {
		res, err := w.Resolve(t.Context(), nobody, "a", tag("v1"), d)
		if err != nil || res.Digest != d || res.Warning == "" {
			t.Errorf("%+v, %v", res, err)
		}
		w.SetConfirm(time.Hour) // who comes now would wait that long
		if i == 2 {
			break
		}
	}
	if n := up.asked("HEAD "); n != 1 {
		t.Errorf("%d requests for one tag at a time", n)
	}
}

// TestMaxBlob: a blob that is larger than the rule takes is refused before its bytes
// come, and as soon as it is seen if the upstream does not say; others come.
func TestMaxBlob(t *testing.T) {
	up := newHostile(t)
	small, large := random(1000), random(1<<20)
	up.image(t, "a", "v1", small, large)
	r := at(t, up.URL)
	r.MaxBlob = 1000
	w := open(t, r)
	get := func(b []byte) error {
		c, err := w.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(b), registry.Whole)
		if err == nil {
			_, err = drainBody(t, c)
		}
		return err
	}
	if err := get(small); err != nil {
		t.Error(err)
	}
	if err := get(large); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("too large: %v", err)
	}
	up.set(func() {
		up.answer = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
				return false
			}
			http.NewResponseController(w).Flush() // without a length
			w.Write(large)
			return true
		}
	})
	if err := get(large); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("too large, and nobody said so: %v", err)
	}
	if rules, err := w.MirrorRules(t.Context()); err != nil || rules[0].MonthBytes > 600_000 {
		t.Errorf("all of it was read: %+v, %v", rules, err)
	}
}

// TestWindows: a window that ends before it begins goes over midnight, and belongs to
// the day on which it begins.
func TestWindows(t *testing.T) {
	const monday = 5 // of January 2026
	day := syncer.Window{From: 8 * time.Hour, To: 18 * time.Hour}
	night := syncer.Window{From: 22 * time.Hour, To: 6*time.Hour + 30*time.Minute}
	always := syncer.Window{To: 24 * time.Hour}
	for _, w := range []*syncer.Window{&day, &night} {
		for d := time.Monday; d <= time.Friday; d++ {
			w.Days[d] = true
		}
	}
	for d := range always.Days {
		always.Days[d] = true
	}
	for _, c := range []struct {
		day, hour, minute int
		day1, night1      bool
	}{
		{monday, 7, 59, false, false},
		{monday, 8, 0, true, false},
		{monday, 17, 59, true, false},
		{monday, 18, 0, false, false},
		{monday, 6, 29, false, false}, // Sunday's has not begun
		{monday, 22, 0, false, true},
		{monday + 1, 6, 29, false, true},
		{monday + 1, 6, 30, false, false},
		{monday + 4, 23, 0, false, true},
		{monday + 5, 6, 0, false, true}, // Friday's goes on
		{monday + 5, 12, 0, false, false},
		{monday + 5, 23, 0, false, false},
	} {
		at := time.Date(2026, 1, c.day, c.hour, c.minute, 0, 0, time.Local)
		if d, n := day.Contains(at), night.Contains(at); d != c.day1 || n != c.night1 || !always.Contains(at) {
			t.Errorf("%v: by day %v, by night %v, always %v", at, d, n, always.Contains(at))
		}
	}
}
