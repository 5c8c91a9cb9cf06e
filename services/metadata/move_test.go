package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata"
)

// moveTarget is an empty database and blobstore.
type moveTarget struct {
	place place
	db    *sqldb.DB
	blobs *memory.Blobs
}

func newTarget(t *testing.T, at place) *moveTarget {
	t.Helper()
	m := &moveTarget{place: at, db: at.open(t), blobs: memory.NewBlobs()}
	t.Cleanup(func() { m.db.Close() })
	return m
}

// move is a move of p to m, blobs included.
func (m *moveTarget) move(p *pushed) *metadata.Move {
	return &metadata.Move{
		From: p.db, To: m.db, Source: "a test", Workers: 2,
		Pools: map[registry.Pool]func(context.Context, registry.Stored) (registry.Stored, error){"": m.copier(p)},
	}
}

func (m *moveTarget) copier(p *pushed) func(context.Context, registry.Stored) (registry.Stored, error) {
	return func(ctx context.Context, s registry.Stored) (registry.Stored, error) {
		content, err := p.blobs.Open(ctx, s, registry.Whole)
		if err != nil {
			return registry.Stored{}, err
		}
		defer content.Close()
		u, err := m.blobs.Start(ctx, "", s.Digest.Algorithm())
		if err != nil {
			return registry.Stored{}, err
		}
		return m.blobs.Commit(ctx, u, content, s.Digest)
	}
}

// check opens the target and compares it with the source.
func (m *moveTarget) check(t *testing.T, p *pushed) {
	t.Helper()
	c, err := metadata.Open(t.Context(), m.db, nil, metadata.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for f, err := range c.Fsck(t.Context(), m.blobs, true) {
		t.Errorf("fsck of the target: %v %v", f, err)
	}
	for _, tag := range []registry.Tag{"latest", "gone", "all"} {
		want, err := p.TagHistory(t.Context(), alice, "a/b", tag, 100)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.TagHistory(t.Context(), alice, "a/b", tag, 100)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
			t.Errorf("history of %s (-want +got):\n%s", tag, diff)
		}
	}
	want, err := p.UploadKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.UploadKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestMove(t *testing.T) { onEach(t, testMove) }

func testMove(t *testing.T, at newPlace) {
	p, target := pushKeyed(t), newTarget(t, at(t))
	if err := target.move(p).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	target.check(t, p)
	if got := p.fsck(t, true); len(got) != 0 {
		t.Errorf("the source is not as it was: %q", got)
	}
}

// pushKeyed is pushAll with a key in the catalog.
func pushKeyed(t *testing.T) *pushed {
	t.Helper()
	p := pushAll(t, onSQLite(t), metadata.Options{})
	if _, err := p.UploadKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// Only the blobs move: the catalog names the new copies once all are there.
func TestMoveOfBlobsAlone(t *testing.T) { onEach(t, testMoveOfBlobsAlone) }

func testMoveOfBlobsAlone(t *testing.T, at newPlace) {
	p, target := pushAll(t, onSQLite(t), metadata.Options{}), newTarget(t, at(t))
	m := target.move(p)
	m.To = p.db
	if err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	old := p.blobs
	p.blobs = target.blobs
	if got := p.fsck(t, true); len(got) != 0 {
		t.Errorf("at the target: %q", got)
	}
	p.blobs = old
	if got := p.fsck(t, true); len(got) == 0 {
		t.Error("the catalog still names the old copies")
	}
}

// A move that is interrupted before any of its blobs goes on, copies none twice,
// and the target serves nobody before it is complete.
func TestMoveInterrupted(t *testing.T) { onEach(t, testMoveInterrupted) }

func testMoveInterrupted(t *testing.T, at newPlace) {
	p, target := pushKeyed(t), newTarget(t, at(t))
	errCut := errors.New("cut off")
	copied := map[registry.Digest]int{}
	for n := 0; ; n++ {
		m := target.move(p)
		m.Workers = 1
		left, inner := 1, m.Pools[""]
		m.Pools[""] = func(ctx context.Context, s registry.Stored) (registry.Stored, error) {
			if left == 0 {
				return registry.Stored{}, errCut
			}
			left--
			copied[s.Digest]++
			return inner(ctx, s)
		}
		err := m.Run(t.Context())
		if err == nil {
			break
		}
		if !errors.Is(err, errCut) || n > len(p.contents) {
			t.Fatal(err)
		}
		if _, err := metadata.Open(t.Context(), target.db, nil, metadata.Options{}, slog.New(slog.DiscardHandler)); !errors.Is(err, metadata.ErrMoving) {
			t.Errorf("opening half a catalog: %v, want %v", err, metadata.ErrMoving)
		}
		if resuming, err := target.move(p).Resuming(t.Context()); err != nil || !resuming {
			t.Errorf("Resuming: %v, %v", resuming, err)
		}
		other := target.move(p)
		other.Source = "another test"
		if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "a test") {
			t.Errorf("a move from elsewhere: %v, want an error that names the one there is", err)
		}
	}
	for d, n := range copied {
		if n != 1 {
			t.Errorf("%s was copied %d times", d, n)
		}
	}
	if len(copied) != len(p.contents) {
		t.Errorf("%d blobs were copied, want %d", len(copied), len(p.contents))
	}
	target.check(t, p)
}

// What a run that is interrupted within a table has copied is compared, too.
func TestMoveOfAChangedSource(t *testing.T) { onEach(t, testMoveOfAChangedSource) }

func testMoveOfAChangedSource(t *testing.T, at newPlace) {
	p, target := pushAll(t, onSQLite(t), metadata.Options{}), newTarget(t, at(t))
	m := target.move(p)
	m.Pools[""] = func(context.Context, registry.Stored) (registry.Stored, error) {
		return registry.Stored{}, errors.New("cut off")
	}
	if err := m.Run(t.Context()); err == nil {
		t.Fatal("it ran to its end")
	}
	// As if a run had come as far as the tags, and the source were changed then.
	if _, err := metadata.AbandonMove(t.Context(), target.db, "another test", true); err == nil || !strings.Contains(err.Error(), "a test") {
		t.Errorf("giving up another move: %v, want an error that names the one there is", err)
	}
	if _, err := metadata.AbandonMove(t.Context(), target.db, "a test", true); err != nil {
		t.Fatal(err)
	}
	if err := target.move(p).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	mustExec(t, target.db, `INSERT INTO moves (id, source, started) VALUES (1, 'a test', 0)`)
	mustExec(t, target.db, `DELETE FROM tag_history`)
	mustExec(t, target.db, `DELETE FROM tags`)
	mustExec(t, p.db, `UPDATE manifests SET pushed = pushed + 1`)
	err := target.move(p).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "manifests") || !strings.Contains(err.Error(), "--abandon") {
		t.Errorf("got %v, want an error that names the table and what to do", err)
	}
}

func mustExec(t *testing.T, db *sqldb.DB, statement string) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(statement)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Two stores are never mixed.
func TestMoveIntoACatalogWithContent(t *testing.T) { onEach(t, testMoveIntoACatalogWithContent) }

func testMoveIntoACatalogWithContent(t *testing.T, at newPlace) {
	p, other := pushAll(t, onSQLite(t), metadata.Options{}), pushAll(t, onSQLite(t), metadata.Options{})
	m := newTarget(t, at(t)).move(p)
	m.To = other.db
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v, want an error that the target is not empty", err)
	}
	if got := other.fsck(t, true); len(got) != 0 {
		t.Errorf("the target was changed: %q", got)
	}
}

// All blobs that can't be copied are named in one run, and move by name only if
// that is asked for.
func TestMoveOfDamagedBlobs(t *testing.T) { onEach(t, testMoveOfDamagedBlobs) }

func testMoveOfDamagedBlobs(t *testing.T, at newPlace) {
	p, target := pushAll(t, onSQLite(t), metadata.Options{}), newTarget(t, at(t))
	for _, s := range p.contents[:2] {
		if err := p.blobs.Remove(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var found []string
	m := target.move(p)
	m.Found = func(f registry.Finding) {
		mu.Lock()
		defer mu.Unlock()
		found = append(found, f.Digest.String())
	}
	if err := m.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--keep-damaged") {
		t.Fatalf("got %v, want an error that says what to do", err)
	}
	want := []string{p.contents[0].Digest.String(), p.contents[1].Digest.String()}
	slices.Sort(want)
	slices.Sort(found)
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	m = target.move(p)
	m.KeepDamaged = true
	if err := m.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, err := metadata.Open(t.Context(), target.db, nil, metadata.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n := 0
	for f, err := range c.Fsck(t.Context(), target.blobs, true) {
		if err != nil || f.Invariant != "I12" {
			t.Errorf("fsck of the target: %v %v", f, err)
		}
		n++
	}
	if n != 2 {
		t.Errorf("fsck has %d findings, want 2", n)
	}
}

// A column that a migration adds must move, too.
func TestMoveKnowsEveryColumn(t *testing.T) {
	p := pushAll(t, onSQLite(t), metadata.Options{})
	rows, err := p.db.Query(t.Context(), `
		SELECT m.name || '.' || c.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	known := metadata.MovedColumns()
	n := 0
	for rows.Next() {
		var column string
		if err := rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		table, _, _ := strings.Cut(column, ".")
		if slices.Contains(metadata.StaysBehind, table) {
			continue
		}
		n++
		if !slices.Contains(known, column) {
			t.Errorf("%s does not move", column)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if n != len(known) {
		t.Errorf("the schema has %d columns that move, %d are listed", n, len(known))
	}
}

// Rows that do not fit in one batch, nor in a number of full ones.
func TestMoveOfManyRows(t *testing.T) { onEach(t, testMoveOfManyRows) }

func testMoveOfManyRows(t *testing.T, at newPlace) {
	p, target := pushAll(t, onSQLite(t), metadata.Options{}), newTarget(t, at(t))
	for i := range 600 {
		mustExec(t, p.db, fmt.Sprintf(`INSERT INTO tag_history (repo_id, name, number, at, actor, digest) VALUES (1, 'many', %d, %d, '', NULL)`, i+1, i))
	}
	if err := target.move(p).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	var n int
	if err := target.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM tag_history WHERE name = 'many' AND digest IS NULL`).Scan(&n); err != nil || n != 600 {
		t.Errorf("%d rows arrived, want 600 (%v)", n, err)
	}
}
