package metadata

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// A segment is a part, as an export is made of: a segmentHeader, and a line with a
// record for each event behind From up to the position in the object's name.
type segmentHeader struct {
	Format int      `json:"format"` // exportFormat
	From   Position `json:"from"`
	Events int      `json:"events"`
}

// record is an event with what it is about, as far as that could still be found. If
// not, a later event says that it is gone.
type record struct {
	At       Position  `json:"p"`
	Kind     EventKind `json:"kind"`
	Time     int64     `json:"at"`
	Actor    string    `json:"actor,omitempty"`
	RepoID   int64     `json:"id,omitempty"`
	Repo     string    `json:"repo,omitempty"`
	Name     string    `json:"name,omitempty"`
	Digest   string    `json:"digest,omitempty"`
	Number   int64     `json:"number,omitempty"`
	Pool     string    `json:"pool,omitempty"`
	Locator  string    `json:"locator,omitempty"`
	Size     int64     `json:"size,omitempty"`
	Type     string    `json:"type,omitempty"`    // media type of a manifest
	Pushed   int64     `json:"pushed,omitempty"`  // time of a manifest
	Content  []byte    `json:"content,omitempty"` // of a manifest, mounted or not; of a key
	Complete bool      `json:"complete"`          // Content was found, or is not needed
}

const (
	sqlRecordManifest = `SELECT media_type, pushed, payload FROM manifests WHERE repo_id = $1 AND digest = $2`
	sqlRecordInline   = `SELECT inline FROM blobs WHERE pool = $1 AND digest = $2`
	sqlRecordKey      = `SELECT secret, created FROM upload_keys WHERE id = $1`
)

// record looks up what an event is about.
func (c *Catalog) record(ctx context.Context, e Event) (record, error) {
	r := record{
		At: e.Position, Kind: e.Kind, Time: e.At, Actor: e.Actor, RepoID: e.RepoID, Repo: string(e.Repo), Name: e.Name,
		Digest: string(e.Digest), Number: e.Number, Pool: string(e.Pool), Locator: string(e.Locator), Size: e.Size, Complete: true,
	}
	var row sqldb.Row
	var dest []any
	switch {
	case e.Kind == ManifestStored:
		row, dest = c.db.QueryRow(ctx, sqlRecordManifest, e.RepoID, packKnown(e.Digest)), []any{&r.Type, &r.Pushed, &r.Content}
	case e.Kind == BlobLinked && e.Locator == "":
		row, dest = c.db.QueryRow(ctx, sqlRecordInline, r.Pool, packKnown(e.Digest)), []any{&r.Content}
	case e.Kind == KeyMade:
		row, dest = c.db.QueryRow(ctx, sqlRecordKey, e.Name), []any{&r.Content, &r.Time}
	default:
		return r, nil
	}
	err := row.Scan(dest...)
	if err != nil && !isNoRows(err) {
		return record{}, fmt.Errorf("looking up what an event is about: %w", err)
	}
	r.Complete = r.Content != nil
	return r, nil
}

// packKnown is pack for digests that came out of the database.
func packKnown(d registry.Digest) []byte {
	b, _ := pack(d)
	return b
}

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// segments writes all events behind at, and returns where the last one is.
func (j *journal) segments(ctx context.Context, at Position) (Position, error) {
	for {
		events, err := j.c.Events(ctx, at, feedBatch)
		if err != nil {
			return at, err
		}
		if len(events) == 0 {
			j.behind.Store(0)
			return at, nil
		}
		j.behind.Store(events[0].At)
		if at, err = j.batch(ctx, at, events); err != nil {
			return at, err
		}
		j.wrote = time.Now()
		if len(events) < feedBatch {
			j.behind.Store(0)
			return at, nil
		}
	}
}

// batch writes events into as many segments as their size makes necessary.
func (j *journal) batch(ctx context.Context, at Position, events []Event) (Position, error) {
	var lines []record
	size := 0
	write := func() error {
		if len(lines) == 0 {
			return nil
		}
		to := lines[len(lines)-1].At
		if err := j.segment(ctx, at, to, lines); err != nil {
			return err
		}
		at, lines, size = to, nil, 0
		return j.c.advance(ctx, journalReader, at, j.text())
	}
	for _, e := range events {
		r, err := j.c.record(ctx, e)
		if err != nil {
			return at, err
		}
		if size += len(r.Content)*4/3 + 400; size > partSize {
			if err := write(); err != nil {
				return at, err
			}
			size = len(r.Content)*4/3 + 400
		}
		lines = append(lines, r)
	}
	return at, write()
}

// segment stores one object.
func (j *journal) segment(ctx context.Context, from, to Position, lines []record) error {
	w := newPartWriter(func(part []byte) error {
		return j.add(ctx, objectName{line: j.state.Line, at: to}.String(), part)
	})
	w.whole = true
	err := w.line(segmentHeader{Format: exportFormat, From: from, Events: len(lines)})
	for _, r := range lines {
		err = errors.Join(err, w.line(r))
	}
	if err != nil {
		return err
	}
	return w.flush()
}

// snapshotEnd is the object that completes a snapshot.
type snapshotEnd struct {
	Parts  int    `json:"parts"`
	SHA256 string `json:"sha256"` // of the hashes of the parts
	Taken  int64  `json:"taken"`
}

// snapshot writes all of the catalog; at is the end of the last segment. Segments
// are written meanwhile, too.
func (j *journal) snapshot(ctx context.Context, at Position) error {
	began := j.c.now()
	name := objectName{line: j.state.Line, snapshot: true, try: randomWord()}
	hash := sha256.New()
	j.wrote = time.Now()
	known := false
	_, err := j.c.export(ctx, func(part []byte) error {
		if !known { // the first part says what the snapshot is of
			h, err := readHeader(part)
			if err != nil {
				return err
			}
			name.at, known = h.Feed, true
		}
		sum := sha256.Sum256(part)
		hash.Write(sum[:])
		if err := j.add(ctx, name.String(), part); err != nil {
			return err
		}
		name.number++
		if time.Since(j.wrote) < journalEvery {
			return nil
		}
		var err error
		at, err = j.segments(ctx, at)
		return err
	})
	if err != nil {
		return err
	}
	content, err := json.Marshal(snapshotEnd{Parts: name.number, SHA256: hex.EncodeToString(hash.Sum(nil)), Taken: began})
	if err != nil {
		return err
	}
	name.end = true
	if err := j.add(ctx, name.String(), content); err != nil {
		return err
	}
	j.state.Previous, j.state.Snapshot, j.state.Taken = j.state.Snapshot, &name.at, began
	if err := j.c.advance(ctx, journalReader, at, j.text()); err != nil {
		return err
	}
	return j.purge(ctx, name.try)
}

// purge removes what is not needed any more: segments behind the snapshot before
// the last, older snapshots, those that were never completed, and, when this line
// has two snapshots, other lines. A snapshot that was just written is the try.
func (j *journal) purge(ctx context.Context, try string) error {
	complete := map[string]bool{} // by try
	err := listJournal(ctx, j.objects, "", func(n objectName) error {
		complete[n.try] = complete[n.try] || n.end
		return nil
	})
	if err != nil {
		return err
	}
	return listJournal(ctx, j.objects, "", func(n objectName) error {
		if j.keeps(n, complete) || n.snapshot && n.try == try {
			return nil
		}
		if err := j.objects.RemoveJournal(ctx, n.String()); err != nil {
			return fmt.Errorf("removing %s from the journal: %w", n, err)
		}
		return nil
	})
}

// keeps reports whether an object is still needed.
func (j *journal) keeps(n objectName, complete map[string]bool) bool {
	oldest := j.state.Previous
	switch {
	case n.line != j.state.Line:
		return oldest == nil && (!n.snapshot || complete[n.try])
	case n.snapshot && !complete[n.try]:
		return false
	case oldest == nil:
		return true
	case n.snapshot:
		return !n.at.Before(*oldest)
	}
	return oldest.Before(n.at)
}
