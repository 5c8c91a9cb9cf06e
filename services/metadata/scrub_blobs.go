package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	// Everything below a moment, the oldest first.
	sqlScrubDue = `
		SELECT verified_at, pool, digest, size, locator, inline, damaged IS NOT NULL FROM blobs
		WHERE (verified_at, pool, digest) > ($1, $2, $3) AND verified_at < $4
		ORDER BY verified_at, pool, digest LIMIT $5`
	sqlVerified = `UPDATE blobs SET verified_at = $4 WHERE pool = $1 AND digest = $2 AND locator = $3 AND damaged IS NULL`
	sqlWhole    = `UPDATE blobs SET verified_at = $4, damaged = NULL, problem = NULL WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlDamaged  = `
		UPDATE blobs SET verified_at = $4, damaged = COALESCE(damaged, $4), problem = $5 WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlScrubbed = `UPDATE scrub SET blobs = blobs + $1, bytes = bytes + $2 WHERE one = 1`
)

const (
	scrubPage = 100
	// scrubFlush is how long a good result may wait to be recorded with others.
	scrubFlush = 5 * time.Second
	// scrubMissing is how many copies in a row may be missing. If it is more, it is
	// the storage that is: a disk that is not mounted must not make every blob of the
	// store count as lost.
	scrubMissing = 100
	// scrubFailures is how many copies in a row may fail to be read for now.
	scrubFailures = 10
)

// scrubRun is one pass of scrubbing.
type scrubRun struct {
	c   *Catalog
	ctx context.Context

	good    []scrubRow // found whole and not recorded
	since   time.Time  // when the first of them was
	missing int        // copies in a row
	failing int        // copies in a row
	sum     scrubSum
	told    scrubSum // the part of sum that is recorded
}

// scrubSum counts what a pass looked at.
type scrubSum struct{ blobs, bytes, manifests, damaged, failed int64 }

// scrubRow is a blob to look at.
type scrubRow struct {
	registry.Stored
	verified int64
	packed   []byte // the digest
	inline   []byte
	damaged  bool // it was, the last time
}

// blobs looks at all blobs that are due.
func (s *scrubRun) blobs() error {
	begin := scrubRow{verified: -1 << 62, packed: []byte{}}
	for last := begin; ; {
		state, err := s.c.readScrub(s.ctx)
		if err != nil {
			return err
		}
		page, err := s.page(last, max(s.c.scrubBefore(state), 0))
		if err != nil {
			return err
		}
		for _, row := range page {
			last = row
			if err := s.look(row); err != nil {
				return err
			}
			select {
			case <-s.c.scrubWake: // what is asked for comes first
				last = begin
			default:
				continue
			}
			break
		}
		if len(page) == 0 {
			return nil
		}
	}
}

// page reads the rows behind last that were looked at before a moment.
func (s *scrubRun) page(last scrubRow, before int64) ([]scrubRow, error) {
	rows, err := s.c.db.Query(s.ctx, sqlScrubDue, last.verified, string(last.Pool), last.packed, before, scrubPage)
	if err != nil {
		return nil, fmt.Errorf("reading what to scrub: %w", err)
	}
	defer rows.Close()
	var page []scrubRow
	for rows.Next() {
		var r scrubRow
		if err := rows.Scan(&r.verified, &r.Pool, &r.packed, &r.Size, &r.Locator, &r.inline, &r.damaged); err != nil {
			return nil, fmt.Errorf("reading what to scrub: %w", err)
		}
		if r.Digest, err = unpack(r.packed); err != nil {
			return nil, err
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

// look looks at one blob.
func (s *scrubRun) look(row scrubRow) error {
	c := s.c
	err := s.verify(row)
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	switch {
	case err == nil:
		s.missing, s.failing = 0, 0
		c.meters.scrubbed.good.Inc()
		c.log.Debug("blobs/manifest ok", "digest", row.Digest, "pool", row.Pool)
		if row.damaged {
			s.sum.blobs++
			s.sum.bytes += row.Size
			return s.record(func(tx *sqldb.Tx) error { return c.changeHealth(tx, row, sqlWhole) })
		}
		if len(s.good) == 0 {
			s.since = time.Now()
		}
		s.good = append(s.good, row)
		if len(s.good) == scrubPage || time.Since(s.since) > scrubFlush {
			return s.flush()
		}
		return nil
	case errors.Is(err, registry.ErrDigestInvalid), errors.Is(err, registry.ErrBlobUnknown):
		s.failing = 0
		if errors.Is(err, registry.ErrDigestInvalid) {
			s.missing = 0
		} else if s.missing++; s.missing > scrubMissing {
			return fmt.Errorf("%d copies in a row are missing: is the storage of pool %q there?", s.missing, row.Pool)
		}
		return s.affected(row, err)
	}
	s.sum.failed++
	c.meters.scrubbed.failed.Inc()
	c.log.Warn("a blob could not be scrubbed", "digest", row.Digest, "pool", row.Pool, "error", err)
	if s.failing++; s.failing > scrubFailures {
		return fmt.Errorf("%d copies in a row could not be read: %w", s.failing, err)
	}
	return nil
}

func (s *scrubRun) verify(row scrubRow) error {
	if row.inline == nil {
		return s.c.reaper.Verify(s.ctx, row.Stored, s.c.policies.Load().scrub.Rate)
	}
	if row.Digest.Algorithm().FromBytes(row.inline) != row.Digest {
		return registry.ErrDigestInvalid.With("the bytes of the mounted manifest do not hash to its digest")
	}
	return nil
}

// affected records that a blob is damaged, unless another copy has taken its
// place meanwhile, and tries to heal it.
func (s *scrubRun) affected(row scrubRow, why error) error {
	c := s.c
	problem := "its bytes do not hash to its digest"
	if errors.Is(why, registry.ErrBlobUnknown) {
		problem = "its copy is missing, or is larger or smaller than it was"
	}
	var repos []registry.Name
	found := false
	s.sum.blobs++
	s.sum.bytes += row.Size
	err := s.record(func(tx *sqldb.Tx) (err error) {
		repos, found, err = c.markDamaged(tx, row, problem)
		return err
	})
	if err != nil || !found {
		return err
	}
	s.sum.damaged++
	c.meters.scrubbed.damaged.Inc()
	shown := repos[:min(len(repos), 10)]
	for _, repo := range shown {
		c.log.Error("blobs/manifest affected", "image", repo, "affectedBlob", row.Digest, "error", problem)
	}
	c.log.Error("blob is damaged and not served: push it again", "digest", row.Digest, "pool", row.Pool, "locator", row.Locator,
		"repositories", len(repos), "error", why)
	if h := c.opt.Scrub.Healer; h != nil {
		damage := registry.Damage{Digest: row.Digest, Pool: row.Pool, Size: row.Size, Found: c.now(), Reason: problem}
		if err := h.Heal(s.ctx, damage, repos); err != nil && s.ctx.Err() == nil {
			c.log.Warn("a damaged blob could not be fetched again", "digest", row.Digest, "error", err)
		}
	}
	return nil
}

// flush records the blobs that were found whole.
func (s *scrubRun) flush() error {
	good := s.good
	s.good = nil
	for _, row := range good {
		s.sum.blobs++
		s.sum.bytes += row.Size
	}
	return s.record(func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // a row that names another copy now is not changed
			return err
		}
		for _, row := range good {
			if err := tx.Queue(sqlVerified, string(row.Pool), row.packed, string(row.Locator), s.c.now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// record runs a transaction that tells of the blobs that were looked at, too.
func (s *scrubRun) record(f func(tx *sqldb.Tx) error) error {
	blobs, bytes := s.sum.blobs-s.told.blobs, s.sum.bytes-s.told.bytes
	if blobs == 0 {
		return nil
	}
	err := s.c.db.WriteLow(s.ctx, func(tx *sqldb.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		if err := tx.Queue(sqlAddScrub, []byte{}); err != nil {
			return err
		}
		return tx.Queue(sqlScrubbed, blobs, bytes)
	})
	if err != nil {
		return fmt.Errorf("recording what was scrubbed: %w", err)
	}
	s.told = s.sum
	s.c.meters.scrubbedBytes.Add(bytes)
	return nil
}
