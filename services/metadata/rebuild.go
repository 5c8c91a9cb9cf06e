package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// RebuildBlobs is the part of the blobstore that [Rebuild] needs.
type RebuildBlobs interface {
	registry.BlobReader
	registry.Reaper
	registry.Journal
}

// Rebuilt says what a [Rebuild] has made.
type Rebuilt struct {
	Line      string
	Snapshot  time.Time // when the snapshot was taken that it began with
	Last      time.Time // of the last change that is known
	Events    int       // that were replayed behind the snapshot
	Relocated int       // blobs of which another copy than the known one is used
	Unknown   int       // copies that nothing refers to
	Problems  int       // how many Found was told of
}

// ErrNoJournal says that there is nothing to rebuild from.
var ErrNoJournal = errors.New("there is no complete snapshot of the catalog in the store")

// Rebuild fills db, a database of this process with nothing in it, from the journal
// in blobs and the copies that are there. found is told of what could not be made
// again, and is not called at the same time.
//
// What happened after the last segment of the journal was written is lost: at most
// the last ten seconds or 1,000 changes before a crash, unless the journal could
// not be written.
func Rebuild(ctx context.Context, db *sqldb.DB, blobs RebuildBlobs, found func(registry.Finding)) (*Rebuilt, error) {
	r := &rebuild{ctx: ctx, db: db, blobs: blobs, found: found}
	for _, step := range []func() error{r.list, r.snapshot, r.segments, r.settle, r.locate, r.unknown} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("rebuilding the catalog: %w", err)
		}
	}
	return &r.Rebuilt, nil
}

// rebuild is one run of [Rebuild].
type rebuild struct {
	Rebuilt
	ctx       context.Context // bounds the run
	db        *sqldb.DB
	blobs     RebuildBlobs
	found     func(registry.Finding)
	snapshots []objectName // complete ones, by their last objects, the newest first
	events    []objectName // segments, in their order
	at        Position     // what has been applied
	skipped   map[EventKind]int
}

func (r *rebuild) report(invariant string, repo registry.Name, d registry.Digest, problem string, args ...any) {
	r.Problems++
	r.found(registry.Finding{Invariant: invariant, Repo: repo, Digest: d, Problem: fmt.Sprintf(problem, args...)})
}

// list finds what there is.
func (r *rebuild) list() error {
	err := listJournal(r.ctx, r.blobs, "", func(n objectName) error {
		switch {
		case n.end:
			r.snapshots = append(r.snapshots, n)
		case !n.snapshot:
			r.events = append(r.events, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(r.snapshots) == 0 {
		return ErrNoJournal
	}
	slices.SortStableFunc(r.snapshots, func(a, b objectName) int {
		return cmp.Or(cmp.Compare(b.line, a.line), comparePositions(b.at, a.at))
	})
	return nil
}

func comparePositions(a, b Position) int {
	return cmp.Or(cmp.Compare(a.Tx, b.Tx), cmp.Compare(a.Seq, b.Seq))
}

// snapshot loads the newest snapshot that is whole.
func (r *rebuild) snapshot() error {
	for _, n := range r.snapshots {
		end, err := r.whole(n)
		if errors.Is(err, registry.ErrDigestInvalid) || errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, errExport) {
			r.report("I12", "", "", "snapshot %s of the catalog is damaged, an older one is used if there is one: %v", n, err)
			continue
		}
		if err != nil {
			return err
		}
		part := n
		part.end = false
		_, err = importParts(r.ctx, r.db, func() ([]byte, error) {
			if part.number == end.Parts {
				return nil, io.EOF
			}
			b, err := r.blobs.ReadJournal(r.ctx, part.String())
			part.number++
			return b, err
		})
		if err != nil {
			return err
		}
		r.Line, r.at, r.Snapshot = n.line, n.at, time.UnixMicro(end.Taken)
		r.Last = r.Snapshot
		return nil
	}
	return ErrNoJournal
}

// whole reads a snapshot and returns its end if nothing of it is missing.
func (r *rebuild) whole(n objectName) (end snapshotEnd, err error) {
	b, err := r.blobs.ReadJournal(r.ctx, n.String())
	if err == nil {
		err = json.Unmarshal(b, &end)
	}
	n.end = false
	for ; err == nil && n.number < end.Parts; n.number++ {
		_, err = r.blobs.ReadJournal(r.ctx, n.String())
	}
	return end, err
}

// segments replays what happened after the snapshot.
func (r *rebuild) segments() error {
	for _, n := range r.events {
		switch {
		case n.line > r.Line:
			r.report("I12", "", "", "segment %s belongs to a later journal without a complete snapshot", n)
			continue
		case n.line != r.Line || !r.at.Before(n.at):
			continue
		}
		b, err := r.blobs.ReadJournal(r.ctx, n.String())
		if errors.Is(err, registry.ErrDigestInvalid) || errors.Is(err, registry.ErrBlobUnknown) {
			r.report("I12", "", "", "a segment of the journal is damaged, its changes are lost: %v", err)
			continue
		}
		if err != nil {
			return err
		}
		if err := r.replay(n, b); err != nil {
			return fmt.Errorf("segment %s: %w", n, err)
		}
	}
	for kind, n := range r.skipped {
		r.report("I12", "", "", "%d changes of kind %q are not known to this program and were not replayed", n, kind)
	}
	return nil
}

// What belongs to the life of the database that is gone: the collector finds out
// anew what nothing needs, and which copies nobody knows. A blob that was about to
// be removed may be referred to by what was replayed.
var forgotten = []string{
	`DELETE FROM garbage`, `DELETE FROM reviews`, `DELETE FROM strays`, `DELETE FROM sweeps`,
	// Whoever opens the catalog counts anew.
	`DELETE FROM quota_content`, `DELETE FROM quota_repositories`, `DELETE FROM quotas`,
	// The journal does not say what of it somebody has pushed since.
	`DELETE FROM cached_manifests`, `UPDATE blobs SET cached = 0 WHERE cached <> 0`,
	`UPDATE blobs SET state = 0, epoch = epoch + 1`,
}

func (r *rebuild) settle() error {
	if err := r.lostTags(); err != nil {
		return err
	}
	return r.db.Write(r.ctx, func(tx *sqldb.Tx) error {
		for _, s := range forgotten {
			if _, err := tx.Exec(s); err != nil {
				return err
			}
		}
		return nil
	})
}

// lostTags ends the histories of tags whose manifest is not in the journal.
func (r *rebuild) lostTags() error {
	type lost struct {
		tagRow
		number int64
	}
	page, err := readPage(r.ctx, r.db, `
		SELECT h.repo_id, h.name, h.digest, r.name, h.number FROM tag_history h JOIN repositories r ON r.id = h.repo_id
		WHERE h.digest IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM tag_history n WHERE n.repo_id = h.repo_id AND n.name = h.name AND n.number > h.number)
		AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repo_id = h.repo_id AND t.name = h.name)`, nil,
		func(rows *sqldb.Rows, t *lost) error {
			return rows.Scan(&t.repoID, &t.name, &t.digest, &t.repo, &t.number)
		})
	if err != nil {
		return err
	}
	for _, t := range page {
		d, err := unpack(t.digest)
		if err != nil {
			return err
		}
		r.report("I1", registry.Name(t.repo.String), d, "the journal does not have the manifest that tag %s points to", t.name)
		err = r.db.Write(r.ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(`INSERT INTO tag_history (repo_id, name, number, at, actor, digest) SELECT $1, $2, $3 + 1, at, '', NULL FROM tag_history WHERE repo_id = $1 AND name = $2 AND number = $3`,
				t.repoID, t.name, t.number)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// locate looks for the copy of each blob, and for another one if it is not there.
func (r *rebuild) locate() error {
	last := blobRow{packed: []byte{}}
	for {
		page, err := readPage(r.ctx, r.db, sqlFsckBlobs, []any{string(last.Pool), last.packed, fsckPage}, func(rows *sqldb.Rows, b *blobRow) error {
			return rows.Scan(&b.Pool, &b.packed, &b.Size, &b.Locator, &b.inline)
		})
		if err != nil {
			return err
		}
		for _, b := range page {
			last = b
			if b.inline != nil {
				continue
			}
			if err := r.locateBlob(b); err != nil {
				return err
			}
		}
		if len(page) < fsckPage {
			return nil
		}
	}
}

func (r *rebuild) locateBlob(b blobRow) (err error) {
	if b.Digest, err = unpack(b.packed); err != nil {
		return err
	}
	if there, err := isThere(r.ctx, r.blobs, b.Stored); there || err != nil {
		return err
	}
	copies, err := r.blobs.Copies(r.ctx, b.Pool, &registry.Stored{Digest: b.Digest}, 10)
	if err != nil {
		return err
	}
	for _, s := range copies {
		if s.Digest != b.Digest || s.Size != b.Size {
			continue
		}
		s.Pool = b.Pool
		if there, err := isThere(r.ctx, r.blobs, s); !there || err != nil {
			continue
		}
		r.Relocated++
		return r.db.Write(r.ctx, func(tx *sqldb.Tx) error {
			_, err := tx.Exec(`UPDATE blobs SET locator = $3, verified_at = 0, damaged = NULL, problem = NULL WHERE pool = $1 AND digest = $2`, string(b.Pool), b.packed, string(s.Locator))
			return err
		})
	}
	var linked bool
	if err := r.db.QueryRow(r.ctx, `SELECT EXISTS (SELECT 1 FROM links WHERE digest = $1 AND pool = $2)`, b.packed, string(b.Pool)).Scan(&linked); err != nil {
		return err
	}
	if linked {
		r.report("I12", "", b.Digest, "pool %q has no copy of this blob", b.Pool)
		return nil
	}
	return r.db.Write(r.ctx, func(tx *sqldb.Tx) error { // it was collected
		_, err := tx.Exec(`DELETE FROM blobs WHERE pool = $1 AND digest = $2`, string(b.Pool), b.packed)
		return err
	})
}

// unknown counts the copies in the default pool that no blob has: what was pushed
// last, or was to be removed.
func (r *rebuild) unknown() error {
	var last *registry.Stored
	for {
		page, err := r.blobs.Copies(r.ctx, "", last, fsckPage)
		if err != nil {
			return err
		}
		for _, s := range page {
			rows, err := readPage(r.ctx, r.db, sqlFsckCopy, []any{"", packKnown(s.Digest), string(s.Locator)},
				func(rows *sqldb.Rows, one *int) error { return rows.Scan(one) })
			if err != nil {
				return err
			}
			if len(rows) == 0 {
				r.Unknown++
			}
		}
		if len(page) < fsckPage {
			return nil
		}
		last = &page[len(page)-1]
	}
}
