package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlScrubManifests = `
		SELECT m.repo_id, m.digest, m.payload, m.damaged IS NOT NULL, COALESCE(r.name, '')
		FROM manifests m LEFT JOIN repositories r ON r.id = m.repo_id
		WHERE (m.repo_id, m.digest) > ($1, $2) ORDER BY m.repo_id, m.digest LIMIT $3`
	sqlManifestWhole   = `UPDATE manifests SET damaged = NULL WHERE repo_id = $1 AND digest = $2`
	sqlManifestDamaged = `UPDATE manifests SET damaged = $3 WHERE repo_id = $1 AND digest = $2 AND damaged IS NULL`
	sqlScrubAt         = `UPDATE scrub SET began = $1, at_repo = $2, at_digest = $3, manifests = manifests + $4 WHERE one = 1`
	// What is pushed again heals what is stored.
	sqlHealManifest = `
		UPDATE manifests SET payload = $3, size = $4, damaged = NULL
		WHERE repo_id = $1 AND digest = $2 AND (damaged IS NOT NULL OR payload <> $3)`
)

// manifestPage is how many manifests are hashed between two records of how far
// that is.
const manifestPage = 200

const manifestProblem = "its bytes in the database do not hash to its digest"

// errManifestDamaged is what who asks for a damaged manifest gets.
var errManifestDamaged = registry.ErrManifestUnknown.With("the stored manifest is damaged: push it again")

// scrubbedManifest is what was found out about a manifest.
type scrubbedManifest struct {
	repoID int64
	packed []byte
	repo   registry.Name
	digest registry.Digest
	whole  bool
	was    bool // damaged, the last time
}

// manifests hashes all manifests, if that is due, going on where the last pass
// ended.
func (s *scrubRun) manifests() error {
	state, err := s.c.readScrub(s.ctx)
	if err != nil {
		return err
	}
	if state.ended() {
		if state.began >= s.c.scrubBefore(state) {
			return nil
		}
		state.began = s.c.now()
	}
	at := scrubbedManifest{repoID: state.atRepo, packed: state.atDigest}
	if at.packed == nil {
		at.packed = []byte{}
	}
	for {
		n, last, changed, err := s.hashManifests(at)
		if err != nil {
			return err
		}
		at = last
		if n < manifestPage {
			at = scrubbedManifest{packed: []byte{}}
		}
		if err := s.recordManifests(state.began, at, int64(n), changed); err != nil {
			return err
		}
		if n < manifestPage {
			return nil
		}
	}
}

// hashManifests hashes a page of manifests behind one, and returns those whose
// state is another than before.
func (s *scrubRun) hashManifests(at scrubbedManifest) (n int, last scrubbedManifest, changed []scrubbedManifest, err error) {
	rows, err := s.c.db.Query(s.ctx, sqlScrubManifests, at.repoID, at.packed, manifestPage)
	if err != nil {
		return 0, at, nil, fmt.Errorf("reading manifests to scrub: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var m scrubbedManifest
		var payload []byte
		if err := rows.Scan(&m.repoID, &m.packed, &payload, &m.was, &m.repo); err != nil {
			return 0, at, nil, fmt.Errorf("reading manifests to scrub: %w", err)
		}
		if m.digest, err = unpack(m.packed); err != nil {
			return 0, at, nil, err
		}
		m.whole = m.digest.Algorithm().FromBytes(payload) == m.digest
		if m.whole == m.was {
			changed = append(changed, m)
		}
		n++
		last = m
	}
	return n, last, changed, rows.Err()
}

func (s *scrubRun) recordManifests(began int64, at scrubbedManifest, n int64, changed []scrubbedManifest) error {
	c := s.c
	err := c.db.WriteLow(s.ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // what is changed nobody else decides on
			return err
		}
		ch := c.change()
		for _, m := range changed {
			if err := c.markManifest(tx, ch, m); err != nil {
				return err
			}
		}
		ch.attach(tx)
		if err := tx.Queue(sqlAddScrub, []byte{}); err != nil {
			return err
		}
		return tx.Queue(sqlScrubAt, began, at.repoID, at.packed, n)
	})
	if err != nil {
		return fmt.Errorf("recording scrubbed manifests: %w", err)
	}
	s.sum.manifests += n
	c.meters.scrubbedManifests.Add(n)
	for _, m := range changed {
		if !m.whole {
			s.sum.damaged++
			c.logDamagedManifest(m)
		}
	}
	return nil
}

func (c *Catalog) markManifest(tx *sqldb.Tx, ch *change, m scrubbedManifest) error {
	ch.manifests = append(ch.manifests, rowKey{m.repo, string(m.digest)})
	if m.whole {
		return tx.Queue(sqlManifestWhole, m.repoID, m.packed)
	}
	return tx.Queue(sqlManifestDamaged, m.repoID, m.packed, c.now())
}

func (c *Catalog) logDamagedManifest(m scrubbedManifest) {
	c.meters.scrubbed.damaged.Inc()
	c.log.Error("blobs/manifest affected", "image", m.repo, "affectedBlob", m.digest, "error", manifestProblem)
}

// checkManifest returns an error if bytes that were read are not those of the
// manifest. It is recorded, so that the manifest does not count as stored.
func (c *Catalog) checkManifest(ctx context.Context, repo registry.Name, d registry.Digest, bytes []byte) error {
	if bytes == nil || d.Algorithm().FromBytes(bytes) == d {
		return nil
	}
	m := scrubbedManifest{repo: repo, digest: d}
	c.logDamagedManifest(m)
	var err error
	if m.packed, err = pack(d); err != nil {
		return err
	}
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // what is changed nobody else decides on
			return err
		}
		var err error
		if m.repoID, err = repoID(tx, repo); err != nil {
			return err
		}
		ch := c.change()
		if err := c.markManifest(tx, ch, m); err != nil {
			return err
		}
		ch.attach(tx)
		return nil
	})
	if err != nil {
		c.log.Warn("a damaged manifest could not be recorded", "repository", repo, "digest", d, "error", err)
	}
	return errManifestDamaged
}
