package syncer

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// notice is a tag of an upstream that is to be copied, or removed, because it was told
// of.
type notice struct {
	rule     string
	remote   string // repository upstream
	tag      registry.Tag
	number   int64
	attempts int64
	removed  bool // it was removed there
}

// maxNotices is how many tags may wait to be looked at soon, of all rules together.
const maxNotices = 100_000

func noticeLock() sqldb.Lock { return sqldb.Lock{Name: "notices"} }

// addNotices notes tags that are to be looked at now. What waits already waits no longer.
func (s store) addNotices(ctx context.Context, all []notice, now time.Time) error {
	return s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(noticeLock()); err != nil {
			return err
		}
		var waiting int64
		// Removed ones in their grace are no more than there are tags here.
		if err := tx.QueryRow(`SELECT COUNT(*) FROM notices WHERE due <= $1`, now.Add(noticeAgainLast).UnixMicro()).Scan(&waiting); err != nil {
			return err
		}
		if waiting+int64(len(all)) > maxNotices {
			return registry.ErrUnavailable.With("%d tags wait to be looked at: no more are taken", waiting)
		}
		for _, n := range all {
			_, err := tx.Exec(`INSERT INTO notices (rule, remote, tag, number, since, due, attempts, removed) VALUES ($1, $2, $3, 1, $4, $4, 0, $5)
				ON CONFLICT (rule, remote, tag) DO UPDATE SET number = notices.number + 1, due = excluded.due, attempts = 0, removed = excluded.removed`,
				n.rule, n.remote, string(n.tag), now.UnixMicro(), number(n.removed))
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// notices returns some tags of a rule that are due, those that wait longest first.
func (s store) notices(ctx context.Context, rule string, now time.Time) ([]notice, error) {
	rows, err := s.db.Query(ctx, `SELECT remote, tag, number, attempts, removed FROM notices WHERE rule = $1 AND due <= $2 ORDER BY since, remote, tag LIMIT 100`, rule, now.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []notice
	for rows.Next() {
		n := notice{rule: rule}
		var tag string
		var removed int64
		if err := rows.Scan(&n.remote, &tag, &n.number, &n.attempts, &removed); err != nil {
			return nil, err
		}
		n.tag, n.removed = registry.Tag(tag), removed != 0
		all = append(all, n)
	}
	return all, rows.Err()
}

// nextNotice returns when the next tag of a rule is due, the zero time if none waits.
func (s store) nextNotice(ctx context.Context, rule string) (time.Time, error) {
	var due sql.NullInt64
	err := s.db.QueryRow(ctx, `SELECT MIN(due) FROM notices WHERE rule = $1`, rule).Scan(&due)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !due.Valid {
		return time.Time{}, nil
	}
	return time.UnixMicro(due.Int64), err
}

// endNotice forgets a tag, unless it was told of again since n was read.
func (s store) endNotice(ctx context.Context, n notice) error {
	return s.exec(ctx, noticeLock().Name, `DELETE FROM notices WHERE rule = $1 AND remote = $2 AND tag = $3 AND number = $4`, n.rule, n.remote, string(n.tag), n.number)
}

// putOff has a tag tried again later, unless it was told of again since n was read.
func (s store) putOff(ctx context.Context, n notice, due time.Time) error {
	return s.exec(ctx, noticeLock().Name, `UPDATE notices SET due = $5, attempts = attempts + 1 WHERE rule = $1 AND remote = $2 AND tag = $3 AND number = $4`,
		n.rule, n.remote, string(n.tag), n.number, due.UnixMicro())
}

// dropNotices forgets what was due before a time.
func (s store) dropNotices(ctx context.Context, before time.Time) error {
	return s.exec(ctx, noticeLock().Name, `DELETE FROM notices WHERE due < $1`, before.UnixMicro())
}
