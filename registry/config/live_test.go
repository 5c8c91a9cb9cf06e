package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry/metrics"
)

func text(realm string, rate int, level string) string {
	return fmt.Sprintf(`{"storage":{"rootDirectory":"/x","retention":{"delay":"%ds"}},"http":{"realm":%q,"uploadsPerClient":%d},"log":{"level":%q}}`, rate, realm, rate, level)
}

func parsed(t testing.TB, s string) *Config {
	t.Helper()
	c, _, err := Parse("c.json", []byte(s), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChanged(t *testing.T) {
	const base = `{"storage":{"rootDirectory":"/x"},"http":{"auth":{"htpasswd":{"path":"a"}},"tls":{"cert":"c","key":"k"}}}`
	for to, want := range map[string][]string{
		base: nil,
		`{"storage":{"rootDirectory":"/y","gcDelay":"2h"},"http":{"auth":{"htpasswd":{"path":"a"}},"tls":{"cert":"c","key":"k"}}}`:                           {"storage.gcDelay", "storage.rootDirectory"},
		`{"storage":{"rootDirectory":"/x"},"http":{"auth":{"htpasswd":{"path":"b"}},"tls":{"cert":"c","key":"k"}}}`:                                          {"http.auth.htpasswd.path"},
		`{"storage":{"rootDirectory":"/x"},"http":{"tls":{"cert":"c","key":"k"},"ratelimit":{"rate":1}}}`:                                                    {"http.auth", "http.ratelimit"},
		`{"storage":{"rootDirectory":"/x","subPaths":{"/a":{"rootDirectory":"/z"}}},"http":{"auth":{"htpasswd":{"path":"a"}},"tls":{"cert":"c","key":"k"}}}`: {"storage.subPaths./a"},
		`{"storage":{"rootDirectory":"/x"},"http":{"auth":{"htpasswd":{"path":"a"}},"tls":{"cert":"c","key":"k"}},"extensions":{"lint":{"enable":true}}}`:    {"extensions.lint"},
	} {
		if got := Changed(parsed(t, base), parsed(t, to)); !cmp.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", to, got, want)
		}
	}
}

// TestS151Reloads reads 10,000 configurations, half of them invalid in the file or
// refused by a subscriber, while requests go on: none sees a part of one that was
// refused, nor parts of two.
func TestS151Reloads(t *testing.T) {
	const n = 10_000
	var file atomic.Pointer[string]
	set := func(s string) { file.Store(&s) }
	set(text("0", 1, "info"))
	m := metrics.New()
	l := NewLive(parsed(t, *file.Load()), func() (*Config, []Warning, error) {
		return Parse("c.json", []byte(*file.Load()), os.LookupEnv)
	}, slog.New(slog.DiscardHandler), m)

	type pair struct{ realm, twin string }
	var seen atomic.Pointer[pair]
	seen.Store(&pair{"0", "0"})
	refuse := errors.New("refused by a part")
	first, second := "0", "0" // of two subscribers
	l.Subscribe(func(_ context.Context, next *Config) (func(), error) {
		return func() {
			first = next.HTTP.Realm
			seen.Store(&pair{next.HTTP.Realm, fmt.Sprint(next.HTTP.UploadsPerClient - 1)})
		}, nil
	}, "http.realm", "http.uploadsPerClient")
	l.Subscribe(func(_ context.Context, next *Config) (func(), error) {
		if next.Log.Level == "panic" {
			return nil, refuse
		}
		return func() { second = next.HTTP.Realm }, nil
	}, "http.realm", "log.level")

	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	var mixed, requests atomic.Int64
	for range 1 {
		readers.Go(func() {
			for ctx.Err() == nil {
				p, c := seen.Load(), l.Current()
				if p.realm != p.twin || c.HTTP.Realm != fmt.Sprint(c.HTTP.UploadsPerClient-1) {
					mixed.Add(1)
				}
				requests.Add(1)
			}
		})
	}
	good := "0"
	for i := 1; i <= n; i++ {
		bad := true
		switch i % 4 {
		case 0:
			set(text(fmt.Sprint(i), i+1, "info")[:30+i%40]) // half written
		case 1:
			set(text(fmt.Sprint(i), i+1, "panic")) // a part says no
		default:
			set(text(fmt.Sprint(i), i+1, "info"))
			good, bad = fmt.Sprint(i), false
		}
		if err := l.Reload(ctx); (err != nil) != bad {
			t.Fatalf("reload %d: %v", i, err)
		}
		if first != good || second != good || l.Current().HTTP.Realm != good {
			t.Fatalf("after %d: %s, %s, %s; want %s", i, first, second, l.Current().HTTP.Realm, good)
		}
	}
	stop()
	readers.Wait()
	if mixed.Load() > 0 || requests.Load() == 0 {
		t.Errorf("%d of %d requests saw a mix", mixed.Load(), requests.Load())
	}
	if l.applied.Value() != n/2 || l.refused.Value() != n/2 {
		t.Errorf("counted %d applied and %d refused", l.applied.Value(), l.refused.Value())
	}
}

// TestRestartIsNamed: what nobody applies is named once, until it is as before.
func TestRestartIsNamed(t *testing.T) {
	var out strings.Builder
	next := text("a", 1, "info")
	l := NewLive(parsed(t, next), func() (*Config, []Warning, error) {
		return Parse("c.json", []byte(next), os.LookupEnv)
	}, slog.New(slog.NewTextHandler(&out, nil)), nil)
	l.Subscribe(func(context.Context, *Config) (func(), error) { return nil, nil }, "log.level", "storage")
	for _, step := range []struct {
		text    string
		named   string
		pending int64
	}{
		{text("b", 1, "warn"), "[http.realm]", 1},
		{text("b", 1, "info"), "", 1},
		{text("b", 2, "info"), "[http.realm http.uploadsPerClient]", 2},
		{text("a", 1, "info"), "", 0},
		{text("b", 1, "warn"), "[http.realm]", 1},
	} {
		out.Reset()
		next = step.text
		if err := l.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "needs a restart"); got != (step.named != "") || !strings.Contains(out.String(), step.named) || l.pending.Value() != step.pending {
			t.Errorf("%s: %d pending, logged %s", step.text, l.pending.Value(), out.String())
		}
	}
	if !l.Applies("storage.retention.delay") || !l.Applies("log") || l.Applies("http.realm") || l.Applies("logs") {
		t.Error("Applies is wrong")
	}
	var none *Live
	none.Subscribe(nil, "x")
	if none.Reload(t.Context()) != nil || none.Applies("x") {
		t.Error("a nil Live does something")
	}
}

// TestWatch changes a file in the ways there are.
func TestWatch(t *testing.T) {
	for name, link := range map[string]bool{"file": false, "behind symlinks": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				path := filepath.Join(dir, "config.json")
				write := func(file, s string) {
					t.Helper()
					if err := os.WriteFile(file, []byte(s), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				version := 0
				swap := func(s string) { // as Kubernetes does
					version++
					data := filepath.Join(dir, fmt.Sprint(version))
					tmp := filepath.Join(dir, "..tmp")
					if err := errors.Join(os.Mkdir(data, 0o700), os.Symlink(data, tmp), os.Rename(tmp, filepath.Join(dir, "..data"))); err != nil {
						t.Fatal(err)
					}
					write(filepath.Join(data, "config.json"), s)
				}
				put := func(s string) { write(path, s) }
				if link {
					put = swap
					if err := os.Symlink("..data/config.json", path); err != nil {
						t.Fatal(err)
					}
				}
				put(text("one", 1, "info"))
				first, _, err := Load(path)
				if err != nil {
					t.Fatal(err)
				}
				l := NewLive(first, func() (*Config, []Warning, error) { return Load(path) }, slog.New(slog.DiscardHandler), nil)
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go l.Watch(ctx, path)
				synctest.Wait() // it has looked at the file
				realm := func(want string) {
					t.Helper()
					time.Sleep(3 * watchEvery) // fake: this is a bubble
					synctest.Wait()
					if got := l.Current().HTTP.Realm; got != want {
						t.Errorf("got %s, want %s", got, want)
					}
				}
				realm("one")
				put(text("two", 2, "info"))
				realm("two")
				put("{")
				realm("two")
				put(text("three", 3, "info"))
				realm("three")
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
				realm("three")
				write(path, text("four", 4, "info"))
				realm("four")

				// While it is written it is not read.
				reads := l.unchanged.Value() + l.applied.Value()
				for i := range 5 {
					write(path, text("five", 4, "info")+strings.Repeat(" ", i))
					time.Sleep(watchEvery)
					synctest.Wait()
				}
				if l.Current().HTTP.Realm != "four" || reads != l.unchanged.Value()+l.applied.Value() {
					t.Error("a file was read that changed with every look")
				}
				realm("five")
			})
		})
	}
}
