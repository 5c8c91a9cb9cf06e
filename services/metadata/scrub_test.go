package metadata_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata"
)

// gone is a Reaper whose storage is not mounted.
type gone struct{ looked atomic.Int64 }

func (g *gone) Remove(context.Context, registry.Stored) error { return nil }
func (g *gone) Verify(context.Context, registry.Stored, int64) error {
	g.looked.Add(1)
	return registry.ErrBlobUnknown
}
func (g *gone) Copies(context.Context, registry.Pool, *registry.Stored, int) ([]registry.Stored, error) {
	return nil, nil
}

// within waits until done is so.
func within(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

// A manifest whose bytes have changed in the database is found by who reads it and
// by scrub, does not count as stored from then on, and is healed by a push.
func TestG9DamagedManifests(t *testing.T) { onEach(t, testDamagedManifests) }

func testDamagedManifests(t *testing.T, at newPlace) {
	where := at(t)
	s := openStore(t, where, metadata.Options{}, &gone{})
	read := pushImage(t, s, "a", "x", "read")
	unread := pushImage(t, s, "a", "y", "unread")
	fine := pushImage(t, s, "a", "z", "fine")
	err := s.db.Write(t.Context(), func(tx *sqldb.Tx) error {
		if err := tx.LockAll(); err != nil {
			return err
		}
		for _, m := range []registry.ManifestPut{read, unread} {
			bad := append([]byte(nil), m.Bytes...)
			bad[10] ^= 1
			if _, err := tx.Exec(`UPDATE manifests SET payload = $1 WHERE payload = $2`, bad, m.Bytes); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func(m registry.ManifestPut, noBytes bool) error {
		_, err := s.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Digest: m.Digest}, NoBytes: noBytes})
		return err
	}
	wantErr(t, "GET of a damaged manifest", get(read, false), registry.ErrManifestUnknown)
	wantErr(t, "HEAD afterwards", get(read, true), registry.ErrManifestUnknown)
	_, err = s.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "read"}, NoBytes: true})
	wantErr(t, "HEAD by tag afterwards", err, registry.ErrManifestUnknown)

	if err := s.StartScrub(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	within(t, "scrub has found the other", func() bool { return errors.Is(get(unread, true), registry.ErrManifestUnknown) })
	if err := get(fine, false); err != nil {
		t.Errorf("a manifest that is whole: %v", err)
	}
	for _, m := range []registry.ManifestPut{read, unread} {
		if _, err := s.PutManifest(t.Context(), alice, "a", m); err != nil {
			t.Fatal(err)
		}
		if err := get(m, false); err != nil {
			t.Errorf("after it was pushed again: %v", err)
		}
	}
	list, err := s.Damages(t.Context(), alice, nil, 1000)
	for _, d := range list {
		if d.Repo != "" {
			t.Errorf("still damaged: %+v", d)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// Storage that is not there must not make every blob of the store count as lost.
func TestScrubOfMissingStorage(t *testing.T) {
	g := &gone{}
	s := openStore(t, onSQLite(t), metadata.Options{}, g)
	const blobs = 300
	for i := range blobs {
		link(t, s, "a", blob(string(rune('a'+i%26))+time.Duration(i).String()))
	}
	if err := s.StartScrub(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	within(t, "scrub gives up", func() bool { return g.looked.Load() > 100 })
	list, err := s.Damages(t.Context(), alice, nil, 1000)
	if err != nil || len(list) > 101 {
		t.Errorf("%d of %d blobs count as damaged, %v", len(list), blobs, err)
	}
}

// A copy is to be verified once the last look is older than the interval, and not
// any more after a read that was; with AlwaysVerify it always is.
func TestUnverifiedAfterTheInterval(t *testing.T) { onEach(t, testUnverified) }

func testUnverified(t *testing.T, at newPlace) {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	o := metadata.Options{Now: now, Scrub: metadata.Scrub{Interval: 2 * time.Hour}, GC: metadata.GC{Off: true}}
	s := openStore(t, at(t), o, nil)
	b := blob("x")
	b.Locator = registry.Locator(registry.NewUploadID(time.Now()))
	foreign := blob("somebody else's file")
	link(t, s, "a", b)
	link(t, s, "a", foreign)
	check := func(when string, s registry.Stored, c registry.Catalog, want bool) {
		t.Helper()
		for range 2 { // from the database, and perhaps from memory
			got, err := c.Blob(t.Context(), alice, "a", s.Digest)
			if err != nil || got.Unverified != want {
				t.Errorf("%s: unverified is %t, %v; want %t", when, got.Unverified, err, want)
			}
		}
	}
	check("just pushed", b, s, false)
	check("never looked at", foreign, s, true)
	ahead.Store(int64(119 * time.Minute))
	check("within the interval", b, s, false)
	ahead.Store(int64(121 * time.Minute))
	check("after the interval", b, s, true)
	if err := s.ReportReads(t.Context(), []registry.ReadReport{{Stored: b}, {Stored: foreign}}); err != nil {
		t.Fatal(err)
	}
	check("after a read that was verified", b, s, false)
	check("after its first read that was verified", foreign, s, false)

	o.Scrub.AlwaysVerify = true
	always := openStore(t, at(t), o, nil)
	link(t, always, "a", b)
	check("always", b, always, true)
}
