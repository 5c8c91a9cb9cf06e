package syncer

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// goneRow is a tag that was not listed any more.
type goneRow struct {
	digest registry.Digest
	since  time.Time
}

const sqlGone = `SELECT tag, digest, since FROM gone WHERE rule = $1 AND repo = $2`

// gone returns the tags of a repository that a rule has found to be gone.
func (s store) gone(ctx context.Context, rule string, repo registry.Name) (map[registry.Tag]goneRow, error) {
	rows, err := s.db.Query(ctx, sqlGone, rule, string(repo))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	return scanGone(rows)
}

func scanGone(rows *sqldb.Rows) (map[registry.Tag]goneRow, error) {
	all := make(map[registry.Tag]goneRow)
	for rows.Next() {
		var tag, digest string
		var since int64
		if err := rows.Scan(&tag, &digest, &since); err != nil {
			return nil, err
		}
		all[registry.Tag(tag)] = goneRow{registry.Digest(digest), time.UnixMicro(since)}
	}
	return all, rows.Err()
}

// noteGone remembers which tags of a repository are missing now, and nothing else, and
// returns since when each is.
func (s store) noteGone(ctx context.Context, rule string, repo registry.Name, missing map[registry.Tag]registry.Digest, now time.Time) (map[registry.Tag]time.Time, error) {
	was, err := s.gone(ctx, rule, repo) // one process at a time runs a rule's copies
	if err != nil {
		return nil, err
	}
	since := make(map[registry.Tag]time.Time, len(missing))
	var fresh []registry.Tag
	for tag, d := range missing {
		since[tag] = now
		if w, ok := was[tag]; ok && w.digest == d {
			since[tag] = w.since
		} else {
			fresh = append(fresh, tag)
		}
	}
	var back []registry.Tag
	for tag := range was {
		if _, ok := missing[tag]; !ok {
			back = append(back, tag)
		}
	}
	if len(fresh) == 0 && len(back) == 0 {
		return since, nil
	}
	return since, s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "gone " + rule}); err != nil {
			return err
		}
		for _, tag := range back {
			if _, err := tx.Exec(`DELETE FROM gone WHERE rule = $1 AND repo = $2 AND tag = $3`, rule, string(repo), string(tag)); err != nil {
				return err
			}
		}
		for _, tag := range fresh {
			_, err := tx.Exec(`INSERT INTO gone (rule, repo, tag, digest, since) VALUES ($1, $2, $3, $4, $5)
				ON CONFLICT (rule, repo, tag) DO UPDATE SET digest = excluded.digest, since = excluded.since`,
				rule, string(repo), string(tag), string(missing[tag]), now.UnixMicro())
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// noteGoneTag remembers that a tag is gone, and returns since when that is known.
func (s store) noteGoneTag(ctx context.Context, rule string, repo registry.Name, tag registry.Tag, d registry.Digest, now time.Time) (since time.Time, err error) {
	var micros int64
	err = s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "gone " + rule}); err != nil {
			return err
		}
		_, err := tx.Exec(`INSERT INTO gone (rule, repo, tag, digest, since) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (rule, repo, tag) DO UPDATE SET digest = excluded.digest, since = CASE WHEN gone.digest = excluded.digest THEN gone.since ELSE excluded.since END`,
			rule, string(repo), string(tag), string(d), now.UnixMicro())
		if err != nil {
			return err
		}
		return tx.QueryRow(`SELECT since FROM gone WHERE rule = $1 AND repo = $2 AND tag = $3`, rule, string(repo), string(tag)).Scan(&micros)
	})
	return time.UnixMicro(micros), err
}

// dropGone forgets that a tag is gone.
func (s store) dropGone(ctx context.Context, rule string, repo registry.Name, tag registry.Tag) error {
	return s.exec(ctx, "gone "+rule, `DELETE FROM gone WHERE rule = $1 AND repo = $2 AND tag = $3`, rule, string(repo), string(tag))
}

// dropGoneOf forgets what a rule has found to be gone: it does not look any more.
func (s store) dropGoneOf(ctx context.Context, rule string) error {
	return s.exec(ctx, "gone "+rule, `DELETE FROM gone WHERE rule = $1`, rule)
}
