package syncer

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// forwardRow is a push that a rule passes on.
type forwardRow struct {
	seq      int64
	rule     string
	repo     registry.Name
	tag      registry.Tag // "": by its digest
	digest   registry.Digest
	actor    string
	via      string
	state    registry.ForwardState
	attempts int64
	error    string
	since    time.Time
	changed  time.Time
	progress string
	deletion bool // the tag, or the manifest, was removed
}

// identity returns what this installation is known by, which it makes if need be.
func (s store) identity(ctx context.Context) (id string, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "identity"}); err != nil {
			return err
		}
		err := tx.QueryRow(`SELECT id FROM identity LIMIT 1`).Scan(&id)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		id = rand.Text()
		_, err = tx.Exec(`INSERT INTO identity (id) VALUES ($1)`, id)
		return err
	})
	return id, err
}

// maxForwards is how many pushes may wait, of all rules together.
const maxForwards = 200_000

const sqlOpen = `state IN ('announced', 'waiting')`

// announce adds rows, numbered one after the other, and returns the first number.
func (s store) announce(ctx context.Context, rows []forwardRow) (first int64, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "forwards"}); err != nil {
			return err
		}
		var last, open int64
		if err := tx.QueryRow(`SELECT COALESCE(MAX(seq), 0) FROM forwards`).Scan(&last); err != nil {
			return err
		}
		if err := tx.QueryRow(`SELECT COUNT(*) FROM forwards WHERE ` + sqlOpen).Scan(&open); err != nil {
			return err
		}
		if open+int64(len(rows)) > maxForwards {
			return registry.ErrUnavailable.With("%d pushes wait to be passed on to other registries: no more are taken", open)
		}
		first = last + 1
		for i, r := range rows {
			_, err := tx.Exec(`INSERT INTO forwards (seq, rule, repo, tag, digest, actor, via, state, attempts, error, since, changed, progress, deletion)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '', $9, $9, '', $10)`,
				first+int64(i), r.rule, string(r.repo), string(r.tag), string(r.digest), r.actor, r.via, string(r.state), r.since.UnixMicro(), number(r.deletion))
			if err != nil {
				return err
			}
		}
		return nil
	})
	return first, err
}

// The errors of announced rows that were given up because nobody has said in time what
// became of them, and the catalog knew nothing of it.
const (
	notStored  = "the push was not stored"
	notRemoved = "it was not removed here"
)

// settle says of n announced rows from first on whether there was a push. late reports
// whether one that was given up waits again.
func (s store) settle(ctx context.Context, first, n int64, stored bool, at time.Time) (late bool, err error) {
	if !stored {
		return false, s.exec(ctx, "forwards", `DELETE FROM forwards WHERE seq >= $1 AND seq < $2 AND state = 'announced'`, first, first+n)
	}
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "forwards"}); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE forwards SET state = 'waiting', changed = $3 WHERE seq >= $1 AND seq < $2 AND state = 'announced'`, first, first+n, at.UnixMicro()); err != nil {
			return err
		}
		again, err := tx.Exec(`UPDATE forwards SET state = 'waiting', error = '', changed = $3 WHERE seq >= $1 AND seq < $2 AND state = 'dropped' AND error IN ($4, $5)
			AND NOT EXISTS (`+sqlLater+`)`, first, first+n, at.UnixMicro(), notStored, notRemoved)
		late = again > 0
		return err
	})
	return late, err
}

// sqlLater finds what came after a row of the same tag.
const sqlLater = `SELECT 1 FROM forwards f WHERE f.rule = forwards.rule AND f.repo = forwards.repo AND f.tag = forwards.tag AND f.tag <> '' AND f.seq > forwards.seq`

const sqlForward = `SELECT seq, rule, repo, tag, digest, actor, via, state, attempts, error, since, changed, progress, deletion FROM forwards `

func scanForward(row interface{ Scan(...any) error }) (r forwardRow, err error) {
	var repo, tag, digest, state string
	var since, changed, deletion int64
	err = row.Scan(&r.seq, &r.rule, &repo, &tag, &digest, &r.actor, &r.via, &state, &r.attempts, &r.error, &since, &changed, &r.progress, &deletion)
	r.repo, r.tag, r.digest, r.state = registry.Name(repo), registry.Tag(tag), registry.Digest(digest), registry.ForwardState(state)
	r.deletion = deletion != 0
	r.since, r.changed = time.UnixMicro(since), time.UnixMicro(changed)
	return r, err
}

// openForwards lists what a rule has to pass on, from the first one behind after on, but
// for those of repositories that are busy: they may have a hundred thousand.
func (s store) openForwards(ctx context.Context, rule string, after int64, busy map[registry.Name]bool, limit int) ([]forwardRow, error) {
	where, args := `WHERE rule = $1 AND seq > $2 AND `+sqlOpen, []any{rule, after, limit}
	if len(busy) > 0 {
		where += ` AND repo NOT IN (` + sqldb.Placeholders(len(args)+1, len(busy)) + `)`
		for _, repo := range slices.Sorted(maps.Keys(busy)) {
			args = append(args, string(repo))
		}
	}
	return s.forwards(ctx, where+` ORDER BY seq LIMIT $3`, args...)
}

// forwardsOf lists rows.
func (s store) forwardsOf(ctx context.Context, q registry.ForwardQuery) ([]forwardRow, error) {
	where := `WHERE seq > $1 AND ($2 = '' OR rule = $2) AND ($3 = '' OR repo = $3)`
	if q.Open {
		where += ` AND ` + sqlOpen
	}
	return s.forwards(ctx, where+` ORDER BY seq LIMIT $4`, q.After, q.Rule, string(q.Repository), q.Limit)
}

func (s store) forwards(ctx context.Context, where string, args ...any) ([]forwardRow, error) {
	rows, err := s.db.Query(ctx, sqlForward+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []forwardRow
	for rows.Next() {
		r, err := scanForward(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// owed returns the tags that have something to be passed on by a rule, with their
// number.
func (s store) owed(ctx context.Context) (map[tagKey]int, error) {
	rows, err := s.db.Query(ctx, `SELECT repo, tag, COUNT(*) FROM forwards WHERE tag <> '' AND `+sqlOpen+` GROUP BY repo, tag`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := make(map[tagKey]int)
	for rows.Next() {
		var repo, tag string
		var n int
		if err := rows.Scan(&repo, &tag, &n); err != nil {
			return nil, err
		}
		all[tagKey{repo: registry.Name(repo), ref: registry.Reference{Tag: registry.Tag(tag)}}] = n
	}
	return all, rows.Err()
}

// owes reports whether a tag has something to be passed on by a rule.
func (s store) owes(ctx context.Context, repo registry.Name, tag registry.Tag) (bool, error) {
	var one int
	err := s.db.QueryRow(ctx, `SELECT 1 FROM forwards WHERE repo = $1 AND tag = $2 AND `+sqlOpen+` LIMIT 1`, string(repo), string(tag)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

// lastForward returns the latest row of a tag, false if there is none.
func (s store) lastForward(ctx context.Context, rule string, repo registry.Name, tag registry.Tag) (forwardRow, bool, error) {
	r, err := scanForward(s.db.QueryRow(ctx, sqlForward+`WHERE rule = $1 AND repo = $2 AND tag = $3 ORDER BY seq DESC LIMIT 1`, rule, string(repo), string(tag)))
	if errors.Is(err, sql.ErrNoRows) {
		return r, false, nil
	}
	return r, err == nil, err
}

// triedForward notes an attempt that has failed.
func (s store) triedForward(ctx context.Context, r forwardRow, at time.Time) error {
	_, err := s.ofOpen(ctx, `UPDATE forwards SET attempts = $2, error = $3, changed = $4 WHERE seq = $1`, r.seq, r.attempts, r.error, at.UnixMicro())
	return err
}

// forwardProgress notes where an upload goes on. open is false if the push was given up.
func (s store) forwardProgress(ctx context.Context, seq int64, progress string) (open bool, err error) {
	return s.ofOpen(ctx, `UPDATE forwards SET progress = $2 WHERE seq = $1`, seq, progress)
}

// sendForward notes that the other registry may have a push from now on. open is false
// if the push was given up.
func (s store) sendForward(ctx context.Context, seq int64) (open bool, err error) {
	return s.ofOpen(ctx, `UPDATE forwards SET sent = 1 WHERE seq = $1`, seq)
}

// ofOpen changes a row that has no end yet, and reports whether it was there.
func (s store) ofOpen(ctx context.Context, query string, args ...any) (open bool, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "forwards"}); err != nil {
			return err
		}
		n, err := tx.Exec(query+` AND `+sqlOpen, args...)
		open = n > 0
		return err
	})
	return open, err
}

// endForward notes how a push ended, and forgets the ends of those before it of the
// same tag. Those by digest are forgotten when they were delivered: nobody looks for
// them by name. was is false if it had ended before, or was stored after it had been
// looked for.
func (s store) endForward(ctx context.Context, r forwardRow, at time.Time) (was bool, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "forwards"}); err != nil {
			return err
		}
		if _, err := tx.Exec(`DELETE FROM forwards WHERE rule = $1 AND repo = $2 AND tag = $3 AND seq < $4 AND NOT `+sqlOpen,
			r.rule, string(r.repo), string(r.tag), r.seq); err != nil {
			return err
		}
		open := sqlOpen
		if r.error == notStored || r.error == notRemoved {
			open = `state = 'announced'`
		}
		n, err := tx.Exec(`UPDATE forwards SET state = $2, attempts = $3, error = $4, changed = $5, progress = '' WHERE seq = $1 AND `+open,
			r.seq, string(r.state), r.attempts, r.error, at.UnixMicro())
		was = n > 0
		return err
	})
	return was, err
}

// retryForwards lets wait again what a rule's registry has refused or kept, if nothing
// came after it.
func (s store) retryForwards(ctx context.Context, rule string, at time.Time) error {
	return s.exec(ctx, "forwards", `UPDATE forwards SET state = 'waiting', changed = $2 WHERE rule = $1 AND state IN ('refused', 'kept')
		AND NOT EXISTS (`+sqlLater+`)`,
		rule, at.UnixMicro())
}

// What a push that was given up says.
const (
	givenUp     = "it was given up here"
	givenUpSent = "it was given up here, and may have arrived: it was on its way"
)

// dropForward ends what is to be passed on, or forgets how it ended. It is false if
// there is no such row.
func (s store) dropForward(ctx context.Context, seq int64, at time.Time) (found bool, err error) {
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "forwards"}); err != nil {
			return err
		}
		var state string
		var sent int64
		err := tx.QueryRow(`SELECT state, sent FROM forwards WHERE seq = $1`, seq).Scan(&state, &sent)
		if found = err == nil; errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		if st := registry.ForwardState(state); st != registry.ForwardAnnounced && st != registry.ForwardWaiting {
			_, err = tx.Exec(`DELETE FROM forwards WHERE seq = $1`, seq)
			return err
		}
		why := givenUp
		if sent != 0 {
			why = givenUpSent
		}
		_, err = tx.Exec(`UPDATE forwards SET state = 'dropped', error = $2, changed = $3, progress = '' WHERE seq = $1`, seq, why, at.UnixMicro())
		return err
	})
	return found, err
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
