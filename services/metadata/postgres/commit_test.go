package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata"
)

// once gives the next flight with a COMMIT a fate.
func once(p *pgtest.Proxy, fate pgtest.Fate) (met func() bool) {
	var done atomic.Bool
	p.Decide(func(f pgtest.Flight) pgtest.Fate {
		if f.Has("COMMIT") && done.CompareAndSwap(false, true) {
			return fate
		}
		return pgtest.Deliver
	})
	return done.Load
}

// However a connection breaks around COMMIT, the operation has happened exactly
// once and is said to have succeeded.
func TestG11ConnectionCutAroundCommit(t *testing.T) {
	server := pgtest.Shared(t)
	proxy := pgtest.NewProxy(t, server.Port)
	db := server.Database(t)
	c := openCatalog(t, pgtest.DSN(proxy.Port, db), metadata.Options{})
	other := openCatalog(t, server.DSN(db), metadata.Options{})
	config := blob("config")
	link(t, c, "a", config)
	for name, fate := range map[string]pgtest.Fate{"before": pgtest.Drop, "inside": pgtest.Half, "after": pgtest.Swallow, "late": pgtest.Linger} {
		t.Run(name, func(t *testing.T) {
			tag := registry.Tag(name)
			one, two := manifest(config, name+" one", tag), manifest(config, name+" two", tag)
			for _, step := range []struct {
				what string
				do   func() error
				want registry.Digest
			}{
				{"a new tag", func() error { _, err := c.PutManifest(t.Context(), alice, "a", one); return err }, one.Digest},
				{"a moved tag", func() error { _, err := c.PutManifest(t.Context(), alice, "a", two); return err }, two.Digest},
				{"a removed tag", func() error { return c.DeleteTag(t.Context(), alice, "a", tag, registry.Condition{}) }, ""},
				{"a removed manifest", func() error { return c.DeleteManifest(t.Context(), alice, "a", one.Digest) }, ""},
			} {
				met := once(proxy, fate)
				if err := step.do(); err != nil {
					t.Errorf("%s: %v", step.what, err)
				}
				if !met() {
					t.Errorf("%s: void: no COMMIT was met", step.what)
				}
				if got := tagged(t, other, "a", tag); got != step.want {
					t.Errorf("%s: the tag is %q, want %q", step.what, got, step.want)
				}
			}
			proxy.Release() // what lingered arrives now, and must not happen again
			h, err := other.TagHistory(t.Context(), alice, "a", tag, 100)
			if err != nil || len(h) != 3 {
				t.Errorf("the tag has %d entries of history (%v), want 3", len(h), err)
			}
		})
	}
}

// About 200 connections break around the COMMITs of eight writers: each tag has as
// many changes as were acknowledged, in their order.
func TestG11ManyConnectionsCut(t *testing.T) {
	server := pgtest.Shared(t)
	proxy := pgtest.NewProxy(t, server.Port)
	c := openCatalog(t, pgtest.DSN(proxy.Port, server.Database(t)), metadata.Options{})
	config := blob("config")
	link(t, c, "a", config)
	var n, cuts atomic.Int64
	proxy.Decide(func(f pgtest.Flight) pgtest.Fate {
		if !f.Has("COMMIT") || n.Add(1)%3 != 0 { // so that ten in a row don't meet one writer
			return pgtest.Deliver
		}
		return []pgtest.Fate{pgtest.Drop, pgtest.Half, pgtest.Swallow}[cuts.Add(1)%3]
	})
	const writers, moves = 8, 50
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			tag := registry.Tag(fmt.Sprint("t", w))
			var want []registry.Digest
			for i := range moves {
				m := manifest(config, fmt.Sprint(w, " ", i), tag)
				if _, err := c.PutManifest(context.Background(), alice, "a", m); err != nil {
					t.Errorf("writer %d, move %d: %v", w, i, err)
					return
				}
				want = append(want, m.Digest)
			}
			h, err := c.TagHistory(context.Background(), alice, "a", tag, 100)
			if err != nil || len(h) != moves {
				t.Errorf("writer %d: %d entries of history (%v), want %d", w, len(h), err, moves)
				return
			}
			for i, ch := range h {
				if ch.Digest != want[moves-1-i] {
					t.Errorf("writer %d: entry %d is %s, want %s", w, i, ch.Digest, want[moves-1-i])
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d connections were cut", cuts.Load())
	if cuts.Load() < writers*moves/4 {
		t.Error("void: too few connections were cut")
	}
}

// The server dies with the COMMIT in its hands.
func TestG11ServerKilledInCommit(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{})
	proxy := pgtest.NewProxy(t, server.Port)
	db := server.Database(t)
	c := openCatalog(t, pgtest.DSN(proxy.Port, db), metadata.Options{})
	config := blob("config")
	link(t, c, "a", config)
	const kills = 10
	for i := range kills {
		killed := make(chan error, 1)
		var met atomic.Bool
		proxy.Decide(func(f pgtest.Flight) pgtest.Fate {
			if f.Has("COMMIT") && met.CompareAndSwap(false, true) {
				go func() {
					err := server.Stop([]syscall.Signal{syscall.SIGKILL, syscall.SIGQUIT}[i%2])
					killed <- errors.Join(err, server.Start())
				}()
			}
			return pgtest.Deliver
		})
		m := manifest(config, fmt.Sprint(i), "latest")
		_, err := c.PutManifest(t.Context(), alice, "a", m)
		if failed := <-killed; failed != nil {
			t.Fatal(failed)
		}
		// The server may be away when the operation is tried again.
		if err != nil && !errors.Is(err, registry.ErrUnavailable) {
			t.Errorf("kill %d: %v", i, err)
		}
		proxy.Decide(nil)
		got := tagged(t, c, "a", "latest")
		if err == nil && got != m.Digest {
			t.Errorf("kill %d: an acknowledged tag is %s, want %s", i, got, m.Digest)
		}
		if err != nil && got == m.Digest {
			t.Errorf("kill %d: the operation failed (%v), but it has happened", i, err)
		}
	}
}
