package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlDislike  = `DELETE FROM preferences WHERE actor = $1 AND kind = $2 AND repo_id = $3`
	sqlLike     = `INSERT INTO preferences (actor, kind, repo_id, since) VALUES ($1, $2, $3, $4) ON CONFLICT (actor, kind, repo_id) DO NOTHING`
	sqlHasLikes = `SELECT COUNT(*) FROM preferences WHERE actor = $1 AND kind = $2`
)

// TogglePreference implements [registry.Search].
func (c *Catalog) TogglePreference(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Preference) (on bool, err error) {
	if p != registry.Starred && p != registry.Bookmarked {
		return false, registry.ErrParameterInvalid.With("there is no preference %d", p)
	}
	if a.ID == "" {
		return false, registry.ErrUnauthorized
	}
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return false, err
	}
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		on = false
		if err := tx.Lock(); err != nil { // the row is lock enough
			return err
		}
		id, err := repoID(tx, repo)
		if err != nil {
			return err
		}
		n, err := tx.Exec(sqlDislike, a.ID, int64(p), id)
		if err != nil || n > 0 {
			return err
		}
		if err := tx.QueryRow(sqlHasLikes, a.ID, int64(p)).Scan(&n); err != nil {
			return err
		}
		if n >= registry.MaxPreferences {
			return registry.ErrTooLarge.With("a user can have at most %d repositories of a kind", registry.MaxPreferences)
		}
		on = true
		return tx.Queue(sqlLike, a.ID, int64(p), id, c.now())
	})
	if err != nil {
		return false, fmt.Errorf("noting a preference: %w", err)
	}
	return on, nil
}
