package metadata

import (
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Kinds of reviews.
const (
	reviewManifest   = 1
	reviewLink       = 2
	reviewBlob       = 3
	reviewRepository = 4
)

// The transaction that takes away what content was needed for queues a review of
// it. A review that is queued already stays where it is, or moves back. The rule
// is: whatever nothing needs has a review.
const (
	sqlReview = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch) VALUES ($1, $2, $3, $4, $5, $6, 0)
		ON CONFLICT (repo_id, digest, kind, pool) DO UPDATE SET
			due = CASE WHEN reviews.due > excluded.due THEN reviews.due ELSE excluded.due END,
			lease = CASE WHEN reviews.lease > excluded.lease THEN reviews.lease ELSE excluded.lease END`

	// What Link and Mount make known, unless a manifest needs it anyway.
	sqlReviewNewLink = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT r.id, l.digest, 2, $3, $4, $4, 0 FROM repositories r JOIN links l ON l.repo_id = r.id AND l.digest = $2
		WHERE r.name = $1 AND NOT EXISTS (SELECT 1 FROM manifest_references f WHERE f.repo_id = r.id AND f.digest = $2)
		ON CONFLICT (repo_id, digest, kind, pool) DO UPDATE SET
			due = CASE WHEN reviews.due > excluded.due THEN reviews.due ELSE excluded.due END,
			lease = CASE WHEN reviews.lease > excluded.lease THEN reviews.lease ELSE excluded.lease END`

	// What a manifest refers to, and what refers to it.
	sqlReviewLinksOf = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT l.repo_id, l.digest, 2, $3, $4, $5, 0
		FROM manifest_references f JOIN links l ON l.repo_id = f.repo_id AND l.digest = f.digest
		WHERE f.repo_id = $1 AND f.manifest = $2
		ON CONFLICT (repo_id, digest, kind, pool) DO UPDATE SET
			due = CASE WHEN reviews.due > excluded.due THEN reviews.due ELSE excluded.due END,
			lease = CASE WHEN reviews.lease > excluded.lease THEN reviews.lease ELSE excluded.lease END`
	sqlReviewChildrenOf = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT m.repo_id, m.digest, 1, $3, $4, $5, 0
		FROM manifest_references f JOIN manifests m ON m.repo_id = f.repo_id AND m.digest = f.digest
		WHERE f.repo_id = $1 AND f.manifest = $2
		ON CONFLICT (repo_id, digest, kind, pool) DO UPDATE SET
			due = CASE WHEN reviews.due > excluded.due THEN reviews.due ELSE excluded.due END,
			lease = CASE WHEN reviews.lease > excluded.lease THEN reviews.lease ELSE excluded.lease END`
	sqlReviewReferrersOf = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT m.repo_id, m.digest, 1, $3, $4, $5, 0 FROM manifests m WHERE m.repo_id = $1 AND m.subject = $2
		ON CONFLICT (repo_id, digest, kind, pool) DO UPDATE SET
			due = CASE WHEN reviews.due > excluded.due THEN reviews.due ELSE excluded.due END,
			lease = CASE WHEN reviews.lease > excluded.lease THEN reviews.lease ELSE excluded.lease END`
)

// review queues a look at something.
func (c *Catalog) review(tx *sqldb.Tx, id int64, digest []byte, kind int, p registry.Pool, due, lease int64) error {
	return tx.Queue(sqlReview, id, digest, kind, string(p), due, lease)
}

// noDigest is the digest of what has none.
var noDigest = []byte{}

// notNull returns what was read from a column of digests. SQLite's driver reads
// noDigest as nil, which would be NULL in a statement, and equal to nothing.
func notNull(digest []byte) []byte {
	if digest == nil {
		return noDigest
	}
	return digest
}

// reviewAround queues a look at all that a manifest refers to, and that refers
// to it, before it goes. Who was told of any of that needed no promise before, so
// it has one for a lease from now.
func (c *Catalog) reviewAround(tx *sqldb.Tx, id int64, digest []byte, p registry.Pool, due int64) error {
	for _, query := range []string{sqlReviewLinksOf, sqlReviewChildrenOf, sqlReviewReferrersOf} {
		if err := tx.Queue(query, id, digest, string(p), due, c.dropped(p)); err != nil {
			return err
		}
	}
	return nil
}

// sqlNoReviews takes what a manifest, $3, refers to out of the queue, and itself if it
// is among that. What is due later than $2, the end of a promise, stays: somebody may
// undo until then what needed it before, and the manifest may go earlier.
func sqlNoReviews(n int) string {
	return "DELETE FROM reviews WHERE repo_id = $1 AND digest IN (" + sqldb.Placeholders(4, n) + ") AND kind IN (1, 2) AND (due <= $2 OR digest = $3)"
}
