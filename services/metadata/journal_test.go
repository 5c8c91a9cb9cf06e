package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// journalled is a store whose journal is in blobs.
type journalled struct {
	*store
	blobs *memory.Blobs
	rand  *rand.Rand
	next  int
	ops   map[string]int // that succeeded, by kind
}

func newJournalled(t *testing.T, at place, seed uint64, o metadata.Options) *journalled {
	t.Helper()
	t.Logf("seed %d", seed)
	blobs := memory.NewBlobs()
	return &journalled{store: openStore(t, at, o, blobs), blobs: blobs, rand: rand.New(rand.NewPCG(seed, 0)), ops: map[string]int{}}
}

func (j *journalled) upload(t *testing.T, text string) registry.Stored {
	t.Helper()
	p := pushed{blobs: j.blobs}
	return p.upload(t, text)
}

func (j *journalled) repo() registry.Name {
	return registry.Name(fmt.Sprintf("r%d/x", j.rand.IntN(4)))
}
func (j *journalled) tag() registry.Tag { return registry.Tag(fmt.Sprintf("t%d", j.rand.IntN(6))) }

// operate does something at random. What can't be done is no error.
func (j *journalled) operate(t *testing.T) {
	t.Helper()
	repo, kind := j.repo(), ""
	var err error
	switch n := j.rand.IntN(20); {
	case n < 8:
		kind = "push"
		j.next++
		config, layer := j.upload(t, fmt.Sprint("config ", j.next)), j.upload(t, fmt.Sprint("layer ", j.rand.IntN(20)))
		for _, s := range []registry.Stored{config, layer} {
			if _, err := j.Link(t.Context(), alice, repo, s); err != nil {
				t.Fatal(err)
			}
		}
		m := image(config, []registry.Stored{layer}, j.tag())
		_, err = j.PutManifest(t.Context(), alice, repo, m)
		if err == nil && j.rand.IntN(3) == 0 {
			_, err = j.PutManifest(t.Context(), alice, repo, index([]registry.ManifestPut{m}, j.tag()))
		}
		if err == nil && j.rand.IntN(3) == 0 {
			_, err = j.PutManifest(t.Context(), alice, repo, referrer(config, "application/x.y", m))
		}
	case n < 11:
		kind = "delete tag"
		err = j.DeleteTag(t.Context(), alice, repo, j.tag(), registry.Condition{})
	case n < 14:
		kind = "delete manifest"
		m, e := j.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: j.tag()}})
		if err = e; err == nil {
			err = j.DeleteManifest(t.Context(), alice, repo, m.Digest)
		}
	case n < 16:
		kind = "mount"
		m, e := j.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: j.tag()}})
		if err = e; err == nil {
			_, err = j.Mount(t.Context(), alice, j.repo(), m.Digest, repo)
		}
	case n < 18:
		kind = "retag"
		m, e := j.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: j.tag()}})
		if err = e; err == nil {
			_, err = j.PutManifest(t.Context(), alice, repo, registry.ManifestPut{Digest: m.Digest, MediaType: m.MediaType, Bytes: m.Bytes, Tags: []registry.Tag{j.tag(), j.tag()}})
		}
	default:
		kind = "unlink"
		j.next++
		loose := j.upload(t, fmt.Sprint("loose ", j.next))
		if _, err = j.Link(t.Context(), alice, repo, loose); err == nil && j.rand.IntN(2) == 0 {
			err = j.Unlink(t.Context(), alice, repo, loose.Digest)
		}
	}
	if err == nil {
		j.ops[kind]++
		return
	}
	for _, expected := range []error{registry.ErrManifestUnknown, registry.ErrBlobUnknown, registry.ErrNameUnknown, registry.ErrInUse} {
		if errors.Is(err, expected) {
			return
		}
	}
	t.Fatalf("%s: %v", kind, err)
}

// contents are the rows of a catalog that a rebuilt one must have, too.
func contents(t *testing.T, s *store) []string {
	t.Helper()
	var all []string
	for _, q := range []string{
		`SELECT 'repository ' || name || ' ' || id FROM repositories ORDER BY 1`,
		`SELECT 'manifest ' || r.name || ' ' || m.size || ' ' || m.media_type || ' ' || m.artifact_type || ' ' || COALESCE(m.annotations, '') || ' ' || m.pushed
			FROM manifests m JOIN repositories r ON r.id = m.repo_id ORDER BY r.name, m.digest`,
		`SELECT 'reference ' || repo_id || ' ' || CASE WHEN is_manifest THEN 'm' ELSE 'b' END || CASE WHEN required THEN 'r' ELSE 'o' END FROM manifest_references ORDER BY repo_id, manifest, digest`,
		`SELECT 'history ' || r.name || ' ' || h.name || ' ' || h.number || ' ' || h.at || ' ' || h.actor || CASE WHEN h.digest IS NULL THEN ' removed' ELSE '' END
			FROM tag_history h JOIN repositories r ON r.id = h.repo_id ORDER BY r.name, h.name, h.number`,
		`SELECT 'link ' || l.repo_id || ' ' || l.pool || ' ' || b.size || ' ' || b.locator || CASE WHEN b.inline IS NULL THEN '' ELSE ' inline' END
			FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest ORDER BY l.repo_id, l.digest`,
		`SELECT 'key ' || id || ' ' || created FROM upload_keys ORDER BY id`,
	} {
		rows, err := s.db.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			var line string
			if err := rows.Scan(&line); err != nil {
				t.Fatal(err)
			}
			all = append(all, line)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			t.Fatal(err)
		}
	}
	// Every tag, by what it answers.
	for n := range 4 {
		repo := registry.Name(fmt.Sprintf("r%d/x", n))
		list, err := s.Tags(t.Context(), alice, repo, registry.Page[registry.Tag]{Limit: 1000})
		if err != nil && !errors.Is(err, registry.ErrNameUnknown) {
			t.Fatal(err)
		}
		for _, tag := range list.Items {
			m, err := s.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("tag %s:%s is %s %s", repo, tag, m.Digest, m.Bytes))
		}
	}
	return all
}

// settled writes the journal, and returns the contents that are in it: the
// collector may do something at any time.
func (j *journalled) settled(t *testing.T) []string {
	t.Helper()
	for {
		metadata.WriteJournal(t, j.Catalog)
		_, before := events(t, j.store, metadata.Position{})
		all := contents(t, j.store)
		if _, after := events(t, j.store, before); after == before {
			return all
		}
	}
}

// rebuild opens the catalog that is rebuilt from blobs.
func rebuild(t *testing.T, blobs *memory.Blobs) (*store, *metadata.Rebuilt, []registry.Finding) {
	t.Helper()
	at := onSQLite(t)
	db := at.open(t)
	var findings []registry.Finding
	r, err := metadata.Rebuild(t.Context(), db, blobs, func(f registry.Finding) { findings = append(findings, f) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return openStore(t, at, metadata.Options{}, nil), r, findings
}

// A catalog that is rebuilt after operations at random has everything it had.
func TestRebuild(t *testing.T) { onEach(t, testRebuild) }

func testRebuild(t *testing.T, at newPlace) {
	now := newClock()
	j := newJournalled(t, at(t), rand.Uint64(), metadata.Options{Now: now.now})
	if _, err := j.UploadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		j.operate(t)
		now.move(time.Second)
		switch {
		case i == 100 || i == 150 || i == 200: // with snapshots
			now.move(24 * time.Hour)
			metadata.WriteJournal(t, j.Catalog)
		case j.rand.IntN(10) == 0:
			metadata.WriteJournal(t, j.Catalog)
		}
	}
	want := j.settled(t)
	for _, kind := range []string{"push", "delete tag", "delete manifest", "mount", "retag", "unlink"} {
		if j.ops[kind] == 0 {
			t.Errorf("no operation of kind %q has succeeded: the test proves nothing about it", kind)
		}
	}
	got, r, findings := rebuild(t, j.blobs)
	if len(findings) > 0 {
		t.Errorf("findings %v", findings)
	}
	if r.Events == 0 || r.Relocated != 0 {
		t.Errorf("got %+v, want some events and no other copies", r)
	}
	if diff := cmp.Diff(want, contents(t, got)); diff != "" {
		t.Errorf("the rebuilt catalog (-want +got):\n%s", diff)
	}
	for f, err := range got.Fsck(t.Context(), j.blobs, true) {
		t.Errorf("fsck: %v %v", f, err)
	}
}

// What the journal does not have is lost, and everything else is not.
func TestRebuildIsBehind(t *testing.T) { onEach(t, testRebuildIsBehind) }

func testRebuildIsBehind(t *testing.T, at newPlace) {
	j := newJournalled(t, at(t), 1, metadata.Options{})
	for range 40 {
		j.operate(t)
	}
	metadata.WriteJournal(t, j.Catalog)
	want := contents(t, j.store)
	for range 5 {
		j.operate(t)
	}
	got, _, findings := rebuild(t, j.blobs)
	if diff := cmp.Diff(want, contents(t, got)); diff != "" || len(findings) > 0 {
		t.Errorf("the rebuilt catalog (-want +got), findings %v:\n%s", findings, diff)
	}
}

// Damage is named, and costs no more than what was damaged.
func TestRebuildFromADamagedJournal(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(name string) bool
		want   string
	}{
		{"a segment", func(name string) bool { return strings.Contains(name, ".e.") }, "gap before segment"},
		{"the last snapshot", func(name string) bool { return strings.HasSuffix(name, ".000000") }, "damaged, an older one is used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := newClock()
			j := newJournalled(t, onSQLite(t), 2, metadata.Options{Now: now.now})
			for n := range 4 {
				for range 10 {
					j.operate(t)
				}
				if n == 1 {
					now.move(25 * time.Hour)
				}
				metadata.WriteJournal(t, j.Catalog)
			}
			names, err := j.blobs.ListJournal(t.Context(), "", 1000)
			if err != nil {
				t.Fatal(err)
			}
			damaged := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !c.damage(n) })
			victim := damaged[len(damaged)-1]
			if c.name == "a segment" {
				victim = damaged[len(damaged)-2] // one that others come behind
			}
			if err := j.blobs.RemoveJournal(t.Context(), victim); err != nil {
				t.Fatal(err)
			}
			got, r, findings := rebuild(t, j.blobs)
			if len(findings) == 0 || !strings.Contains(findings[0].Problem, c.want) || r.Problems != len(findings) {
				t.Errorf("without %s: got findings %v, want one of %q; all: %q", victim, findings, c.want, names)
			}
			if c.name == "the last snapshot" { // the one before and the segments behind it have it all
				if diff := cmp.Diff(contents(t, j.store), contents(t, got)); diff != "" {
					t.Errorf("the rebuilt catalog (-want +got):\n%s", diff)
				}
			}
		})
	}
	_, err := metadata.Rebuild(t.Context(), onSQLite(t).open(t), memory.NewBlobs(), func(registry.Finding) {})
	if !errors.Is(err, metadata.ErrNoJournal) {
		t.Errorf("from an empty store: got error %v, want ErrNoJournal", err)
	}
}

// A copy that was replaced after the snapshot is the one that is used, and what was
// known of the one before is forgotten; a copy that is gone is found elsewhere.
func TestRebuildOfReplacedCopies(t *testing.T) {
	j := newJournalled(t, onSQLite(t), 7, metadata.Options{})
	var copies []registry.Stored
	for i := range 2 {
		s := j.upload(t, fmt.Sprint("blob ", i))
		if _, err := j.Link(t.Context(), alice, "a", s); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, s)
	}
	j.mustExec(t, `UPDATE blobs SET damaged = 1, problem = 'x'`)
	metadata.WriteJournal(t, j.Catalog)
	second := []registry.Stored{j.upload(t, "blob 0"), j.upload(t, "blob 1")}
	j.mustExec(t, `INSERT INTO events (kind, at, actor, digest, pool, locator, size)
		SELECT 'copy', 1, '', digest, pool, '`+string(second[0].Locator)+`', size FROM blobs WHERE locator = '`+string(copies[0].Locator)+`'`)
	metadata.WriteJournal(t, j.Catalog)
	for _, s := range copies {
		if err := j.blobs.Remove(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	got, r, findings := rebuild(t, j.blobs)
	if len(findings) > 0 || r.Relocated != 1 {
		t.Errorf("got %+v and findings %v, want one copy found elsewhere", r, findings)
	}
	for _, s := range second {
		b, err := got.Blob(t.Context(), alice, "a", s.Digest)
		if err != nil || b.Locator != s.Locator {
			t.Errorf("got %+v, %v, want the copy %s", b, err, s.Locator)
		}
	}
}

// A database that was put back from a backup begins a journal of its own: the old
// one goes on without it.
func TestJournalOfARestoredDatabase(t *testing.T) {
	at := onSQLite(t)
	j := newJournalled(t, at, 3, metadata.Options{})
	for range 10 {
		j.operate(t)
	}
	metadata.WriteJournal(t, j.Catalog)
	old := at.crash(t, j.db) // the backup
	for range 10 {
		j.operate(t)
	}
	metadata.WriteJournal(t, j.Catalog)
	j.close(t)
	j.store = openStore(t, old, metadata.Options{}, j.blobs)
	for range 3 {
		j.operate(t)
		metadata.WriteJournal(t, j.Catalog)
	}
	got, _, findings := rebuild(t, j.blobs)
	if diff := cmp.Diff(contents(t, j.store), contents(t, got)); diff != "" || len(findings) > 0 {
		t.Errorf("the rebuilt catalog (-want +got), findings %v:\n%s", findings, diff)
	}
}

// The journal does not grow for ever.
func TestJournalIsPurged(t *testing.T) {
	now := newClock()
	j := newJournalled(t, onSQLite(t), 4, metadata.Options{Now: now.now})
	most := 0
	for range 10 {
		for range 5 {
			j.operate(t)
			metadata.WriteJournal(t, j.Catalog)
		}
		now.move(25 * time.Hour)
		metadata.WriteJournal(t, j.Catalog)
		names, err := j.blobs.ListJournal(t.Context(), "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(names))
	}
	if most > 25 { // two snapshots of two objects, and at most three days of segments
		t.Errorf("the journal had %d objects", most)
	}
	if left, _ := events(t, j.store, metadata.Position{}); len(left) > 1 {
		t.Errorf("the feed has %d events that are in the journal", len(left))
	}
}

// full is a blobstore that can't take any more.
type full struct {
	*memory.Blobs
	on bool
}

func (f *full) AppendJournal(ctx context.Context, name string, content []byte) error {
	if f.on {
		return registry.ErrStorageFull
	}
	return f.Blobs.AppendJournal(ctx, name, content)
}

// A journal that can't be written stops nobody, and catches up.
func TestJournalOnAFullDisk(t *testing.T) {
	blobs := &full{Blobs: memory.NewBlobs(), on: true}
	s := openStore(t, onSQLite(t), metadata.Options{}, blobs)
	j := &journalled{store: s, blobs: blobs.Blobs, rand: rand.New(rand.NewPCG(5, 0)), ops: map[string]int{}}
	for range 20 {
		j.operate(t)
		if err := metadata.TryJournal(t.Context(), j.Catalog); !errors.Is(err, registry.ErrStorageFull) {
			t.Fatalf("got error %v, want ErrStorageFull", err)
		}
	}
	blobs.on = false
	metadata.WriteJournal(t, j.Catalog)
	got, _, findings := rebuild(t, blobs.Blobs)
	if diff := cmp.Diff(contents(t, j.store), contents(t, got)); diff != "" || len(findings) > 0 {
		t.Errorf("the rebuilt catalog (-want +got), findings %v:\n%s", findings, diff)
	}
}

// Of many rows an export has many parts; all of them arrive, in another kind of
// database, too.
func TestExport(t *testing.T) { onEach(t, testExport) }

func testExport(t *testing.T, at newPlace) {
	j := newJournalled(t, at(t), 6, metadata.Options{})
	for range 30 {
		j.operate(t)
	}
	big := registry.ManifestPut{MediaType: registry.TypeManifest}
	for i := range 4 {
		config := j.upload(t, fmt.Sprint("c", i))
		if _, err := j.Link(t.Context(), alice, "big", config); err != nil {
			t.Fatal(err)
		}
		big = imageWith(config, nil, strings.Repeat(fmt.Sprint(i), 600_000))
		big.Tags = nil
		put(t, j, "big", big)
	}
	var parts [][]byte
	if err := j.Export(t.Context(), func(p []byte) error { parts = append(parts, slices.Clone(p)); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(parts) < 3 {
		t.Errorf("got %d parts, want some", len(parts))
	}
	to := onSQLite(t)
	db := to.open(t)
	n := 0
	err := metadata.Import(t.Context(), db, func() ([]byte, error) {
		if n == len(parts) {
			return nil, io.EOF
		}
		n++
		return parts[n-1], nil
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	got := openStore(t, to, metadata.Options{}, nil)
	if diff := cmp.Diff(contents(t, j.store), contents(t, got)); diff != "" {
		t.Errorf("the imported catalog (-want +got):\n%s", diff)
	}
	// Cut off anywhere it is refused.
	for cut := range len(parts) {
		n = 0
		err := metadata.Import(t.Context(), onSQLite(t).open(t), func() ([]byte, error) {
			if n == cut {
				return nil, io.EOF
			}
			n++
			return parts[n-1], nil
		})
		if err == nil {
			t.Errorf("%d of %d parts were taken for all", cut, len(parts))
		}
	}
}
