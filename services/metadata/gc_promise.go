package metadata

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlIsTagged = `SELECT 1 FROM tags WHERE repo_id = $1 AND digest = $2 LIMIT 1`
	sqlPromise  = `
		UPDATE reviews SET lease = $4, due = CASE WHEN due > $4 THEN due ELSE $4 END
		WHERE repo_id = $1 AND digest = $2 AND kind = $3 AND lease < $4`
	sqlNoReview = `DELETE FROM reviews WHERE repo_id = $1 AND digest = $2 AND kind = $3 AND due <= $4`
)

// keep makes good what an answer says: that content is there and can be used for
// a lease. Content without a review is needed, and has a lease once it is not any
// more. Of the rest, lease says until when it was promised already: this is the
// one thing for which a read has to write, at most once in a lease. It returns
// until when the answer may be given again without asking, 0 if always, and false
// if the content has gone meanwhile.
func (c *Catalog) keep(ctx context.Context, repo registry.Name, digest []byte, kind int, lease *int64) (until int64, there bool) {
	p := c.poolOf(repo)
	if lease == nil || c.policy(p).Off {
		return 0, true
	}
	ahead := c.ahead(p).Microseconds()
	if *lease >= c.renewal(p) {
		return *lease - ahead, true
	}
	promised := c.promise(p)
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error { return c.renew(tx, repo, digest, kind, promised) })
	switch {
	case errors.Is(err, errGone):
		return 0, false
	case err != nil:
		// Who only reads must not suffer from a full disk; who pushes will hear of it.
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "promising content that is about to go", "repository", repo, "error", err)
		}
		return 1, true
	}
	return promised - ahead, true
}

// errGone says that there is nothing left to promise.
var errGone = errors.New("gone")

// renew promises content that has a review until a moment.
func (c *Catalog) renew(tx *sqldb.Tx, repo registry.Name, digest []byte, kind int, promised int64) error {
	// Alone, so that what is needed now is not let go of before the review is out
	// of the queue.
	if err := tx.Lock(removesFrom(repo)); err != nil {
		return err
	}
	id, err := repoID(tx, repo)
	if errors.Is(err, registry.ErrNameUnknown) {
		return errGone
	}
	if err != nil {
		return err
	}
	type need struct {
		query string
		until int64 // a review that is due later stays
	}
	// A manifest that goes, which refers to this one, does not give it all of the undo
	// window anew; a tag that goes does.
	is, needs := sqlHasLink, []need{{sqlIsReferenced, promised}}
	if kind == reviewManifest {
		is, needs = sqlHasManifest, []need{{sqlIsTagged, math.MaxInt64}, {sqlIsReferenced, promised}}
	}
	if there, err := exists(tx.QueryRow(is, id, digest)); err != nil {
		return err
	} else if !there {
		return errGone
	}
	for _, q := range needs {
		needed, err := exists(tx.QueryRow(q.query, id, digest))
		if err != nil {
			return err
		}
		if needed {
			if err := tx.Queue(sqlNoReview, id, digest, kind, q.until); err != nil {
				return err
			}
			break
		}
	}
	if err := tx.Queue(sqlPromise, id, digest, kind, promised); err != nil {
		return fmt.Errorf("promising content: %w", err)
	}
	return nil
}
