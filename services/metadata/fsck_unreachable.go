package metadata

import (
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// unreachable looks for what nothing needs and nothing will remove: whatever
// nothing needs has a review, from the transaction on that took the last reference
// away. Before its first sweep a database may be one from before there were
// reviews, or made again from a journal; that sweep queues them.
func (k *fsck) unreachable() error {
	ended, err := k.c.lastSweep(k.ctx, sweepRows)
	if err != nil || ended == 0 {
		return err
	}
	for _, content := range []struct {
		query string
		kind  int
		what  string
	}{
		{sqlSweepManifests, reviewManifest, "no tag, index or subject needs the manifest"},
		{sqlSweepLinks, reviewLink, "no manifest of the repository needs the blob"},
	} {
		last := due{packed: noDigest}
		err := k.unqueued(content.query, func() []any { return []any{last.repoID, last.packed, fsckPage} },
			func(rows *sqldb.Rows, s *swept) error {
				s.kind = content.kind
				err := rows.Scan(&s.repoID, &s.packed, &s.repo, &s.missing)
				last = s.due
				return err
			}, content.what)
		if err != nil {
			return err
		}
	}
	last := due{packed: noDigest}
	err = k.unqueued(sqlSweepBlobs, func() []any { return []any{string(last.pool), last.packed, fsckPage} },
		func(rows *sqldb.Rows, s *swept) error {
			err := rows.Scan(&s.pool, &s.packed, &s.missing)
			last = s.due
			return err
		}, "no repository has the blob")
	if err != nil {
		return err
	}
	last = due{}
	return k.unqueued(sqlSweepRepos, func() []any { return []any{string(last.repo), fsckPage, noDigest} },
		func(rows *sqldb.Rows, s *swept) error {
			err := rows.Scan(&s.repo, &s.repoID, &s.missing)
			last = s.due
			return err
		}, "the repository has nothing in it")
}

// unqueued reports the rows of a sweep's query that lack a review.
func (k *fsck) unqueued(query string, args func() []any, scan func(*sqldb.Rows, *swept) error, what string) error {
	for {
		n, err := each(k, query, args(), scan, func(s swept) error {
			if !s.missing {
				return nil
			}
			var d registry.Digest
			if len(s.packed) > 0 {
				var err error
				if d, err = unpack(s.packed); err != nil {
					return nil // other checks report that
				}
			}
			return k.report("I7", s.repo, d, "%s, and it is not queued to be looked at: it would stay until a sweep finds it", what)
		})
		if err != nil || n < fsckPage {
			return err
		}
	}
}
