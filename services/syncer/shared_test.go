package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/syncer"
)

// TestTwoSyncers: of two syncers on one schema of PostgreSQL one fetches a blob, and
// the clients of both get it; a push that one has seen counts for the other, a pause
// too, and scheduled copies are made by one.
func TestTwoSyncers(t *testing.T) {
	dsn := config.Secret(serverDSN(t))
	open := func(ctx context.Context) (*sqldb.DB, error) {
		return postgres.OpenSyncer(ctx, config.Storage{Pool: config.Pool{Commit: new(bool)}, Metadata: config.Metadata{Driver: "postgres", DSN: dsn}}, func(err error) { t.Error(err) }, slog.New(slog.DiscardHandler))
	}
	up := newHostile(t)
	layer := random(1 << 20)
	up.image(t, "a", "v1", layer)
	up.image(t, "copied", "v1", random(1000))
	blobs, catalog := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{})
	skew.Store(0)
	ctx := t.Context()
	var both [2]*syncer.Service
	for i := range both {
		db, err := open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		r := at(t, up.URL, syncer.Content{Prefix: "copied"}, syncer.Content{Prefix: "a", Regex: nothing}, syncer.Content{Prefix: "own", Regex: nothing})
		r.Interval = time.Hour
		root := filepath.Join(t.TempDir(), "staging")
		both[i], err = syncer.New(ctx, db, blobs, catalog, syncer.Options{
			Rules: []*syncer.Rule{r}, Staging: root, Holder: syncer.HolderHere(root), Shared: true, Log: slog.New(slog.DiscardHandler), Now: clock,
		})
		if err != nil {
			t.Fatal(errors.Join(err, db.Close()))
		}
		t.Cleanup(func() {
			if err := errors.Join(both[i].Close(), db.Close()); err != nil {
				t.Error(err)
			}
		})
	}

	up.set(func() { up.hold = make(chan struct{}) })
	blob := registry.SHA256.FromBytes(layer)
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			c, err := both[i%2].Open(ctx, nobody, "a", blob, registry.Whole)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := drainBody(t, c); err != nil || !bytes.Equal(got, layer) {
				t.Errorf("client %d of syncer %d: %d bytes, %v", i, i%2, len(got), err)
			}
		})
	}
	waitFor(t, "one has the right, the other says so", func() (waits bool) {
		for _, s := range both {
			fills, err := s.Fills(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range fills {
				waits = waits || f.Digest == blob && strings.HasPrefix(f.Error, "waits for syncer ")
			}
		}
		return waits
	})
	up.set(func() { close(up.hold); up.hold = nil })
	clients.Wait()
	if n := up.asked("GET /v2/a/blobs/" + string(blob)); n != 1 {
		t.Errorf("%d requests upstream for one blob", n)
	}

	if err := both[0].Claim(ctx, nobody, "own"); err != nil {
		t.Fatal(err)
	}
	if c, err := both[1].Covers(ctx, "own"); err != nil || !c.Claimed {
		t.Errorf("a push that the other has seen: %+v, %v", c, err)
	}
	if _, err := both[1].Resolve(ctx, nobody, "own", tag("v1"), ""); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("a pull of what the other has seen pushed: %v", err)
	}
	if err := both[0].Pause(ctx, both[0].Names()[0], true); err != nil {
		t.Fatal(err)
	}
	if err := both[1].Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	rules, err := both[1].MirrorRules(ctx)
	if err != nil || !rules[0].Paused {
		t.Errorf("a pause of the other: %+v, %v", rules, err)
	}
	waitFor(t, "the copy is here", func() bool {
		_, err := catalog.Manifest(ctx, nobody, "copied", registry.ManifestQuery{Ref: tag("v1")})
		return err == nil
	})
	if n := up.asked("GET /v2/copied/tags/list"); n != 1 {
		t.Errorf("%d lists of tags: both have copied", n)
	}
}

// serverDSN returns the data source name of a new database.
func serverDSN(t *testing.T) string {
	t.Helper()
	server := pgtest.Shared(t)
	return pgtest.DSN(server.Port, server.Database(t))
}
