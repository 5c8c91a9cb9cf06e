package syncer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/syncer"
)

// sharers are two syncers on one database, which reach each other.
type sharers struct {
	*hostile
	both    [2]*syncer.Service
	close   [2]func()
	blobs   *memory.Blobs
	catalog *memory.Catalog
	spoil   func(io.Reader) io.Reader // what becomes of bytes between them
}

func newSharers(t *testing.T) *sharers {
	t.Helper()
	dsn := config.Secret(serverDSN(t))
	x := &sharers{hostile: newHostile(t), blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{})}
	skew.Store(0)
	for i := range x.both {
		var db *sqldb.DB
		db, err := postgres.OpenSyncer(t.Context(), config.Storage{Pool: config.Pool{Commit: new(bool)}, Metadata: config.Metadata{Driver: "postgres", DSN: dsn}}, func(err error) { t.Error(err) }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(t.TempDir(), "staging")
		x.both[i], err = syncer.New(t.Context(), db, x.blobs, x.catalog, syncer.Options{
			Rules: []*syncer.Rule{at(t, x.URL)}, Staging: root, Holder: syncer.HolderHere(root), Shared: true, Log: slog.New(slog.DiscardHandler), Now: clock,
			Address: strconv.Itoa(i), Dial: x.dial,
		})
		if err != nil {
			t.Fatal(errors.Join(err, db.Close()))
		}
		closed := false
		x.close[i] = func() {
			if !closed {
				closed = true
				if err := errors.Join(x.both[i].Close(), db.Close()); err != nil {
					t.Error(err)
				}
			}
		}
		t.Cleanup(x.close[i])
	}
	return x
}

func (x *sharers) dial(address string) (syncer.Peer, error) {
	i, err := strconv.Atoi(address)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return &peer{x.both[i], x.spoil}, nil
}

type peer struct {
	*syncer.Service
	spoil func(io.Reader) io.Reader
}

func (p *peer) Close() error { return nil }

func (p *peer) Open(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, r registry.Range) (registry.Content, error) {
	c, err := p.Service.Open(ctx, a, repo, d, r)
	if err == nil && p.spoil != nil {
		c = &spoilt{c, p.spoil(c)}
	}
	return c, err
}

type spoilt struct {
	registry.Content
	from io.Reader
}

func (s *spoilt) Read(p []byte) (int, error) { return s.from.Read(p) }

// flipped changes one byte of what it reads.
type flipped struct {
	io.Reader
	done bool
}

func (f *flipped) Read(p []byte) (int, error) {
	n, err := f.Reader.Read(p)
	if n > 0 && !f.done {
		p[0], f.done = p[0]^1, true
	}
	return n, err
}

// begin has both open a blob, the first one before the second, and read half of it, which
// is all that the upstream sends until go.
func (x *sharers) begin(t *testing.T, layer []byte) (contents [2]registry.Content, read [2][]byte) {
	t.Helper()
	x.set(func() { x.hold = make(chan struct{}) })
	for i, s := range x.both {
		c, err := s.Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(layer), registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		contents[i], read[i] = c, make([]byte, len(layer)/2)
		if _, err := io.ReadFull(c, read[i]); err != nil {
			t.Fatalf("half of it at syncer %d: %v", i, err)
		}
	}
	return contents, read
}

func (x *sharers) goOn() { x.set(func() { close(x.hold); x.hold = nil }) }

// TestReadersElsewhere: clients of a syncer that does not fetch a blob get its bytes as
// they come to the one that does.
func TestReadersElsewhere(t *testing.T) {
	x := newSharers(t)
	layer := random(1 << 20)
	x.image(t, "a", "v1", layer)
	contents, read := x.begin(t, layer)
	x.goOn()
	for i, c := range contents {
		rest, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(append(read[i], rest...), layer) {
			t.Errorf("syncer %d: %d bytes more, %v", i, len(rest), err)
		}
	}
	if n := x.asked("GET /v2/a/blobs/"); n != 1 {
		t.Errorf("%d requests upstream", n)
	}
}

// TestReadersElsewhereGoOn: when the syncer that fetches ends, the other one fetches what
// is left for clients that have begun.
func TestReadersElsewhereGoOn(t *testing.T) {
	x := newSharers(t)
	layer := random(1 << 20)
	x.image(t, "a", "v1", layer)
	contents, read := x.begin(t, layer)
	contents[0].Close()
	x.close[0]()
	x.set(func() { x.hold = nil })
	skew.Store(int64(2 * time.Minute)) // the right of the one that ended has ended
	rest, err := io.ReadAll(contents[1])
	if err != nil || !bytes.Equal(append(read[1], rest...), layer) {
		t.Errorf("%d bytes more, %v", len(rest), err)
	}
	if n := x.asked("GET /v2/a/blobs/"); n != 2 {
		t.Errorf("%d requests upstream", n)
	}
}

// TestReadersElsewhereGetNothingWrong: bytes that another syncer spoils end no download
// cleanly, also if the blob is stored meanwhile, and are not kept.
func TestReadersElsewhereGetNothingWrong(t *testing.T) {
	x := newSharers(t)
	x.spoil = func(r io.Reader) io.Reader { return &flipped{Reader: r} }
	layer := random(1 << 20)
	x.image(t, "a", "v1", layer)
	contents, read := x.begin(t, layer)
	if bytes.Equal(read[1], layer[:len(read[1])]) {
		t.Fatal("void: nothing is spoilt")
	}
	x.goOn()
	if _, err := io.ReadAll(contents[0]); err != nil {
		t.Errorf("the syncer that fetches: %v", err)
	}
	if rest, err := io.ReadAll(contents[1]); err == nil {
		t.Errorf("wrong bytes end cleanly after %d more", len(rest))
	}
	x.set(func() { x.spoil = nil })
	waitFor(t, "a client gets it", func() bool { // one may join what is failing
		c, err := x.both[1].Open(t.Context(), nobody, "a", registry.SHA256.FromBytes(layer), registry.Whole)
		if err == nil {
			var got []byte
			if got, err = drainBody(t, c); err == nil && !bytes.Equal(got, layer) {
				t.Fatal("wrong bytes end cleanly")
			}
		}
		return err == nil
	})
}
