package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlReplaceCopy = `UPDATE blobs SET locator = $4, size = $5, verified_at = 0 WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlLinkedFrom  = `SELECT r.name FROM links l JOIN repositories r ON r.id = l.repo_id WHERE l.digest = $1 AND l.pool = $2`
)

// rescue takes the copy d out of the queue and into use if the copy in use is
// not there any more, because somebody removed a file or put back an older
// backup: removing d, too, would lose what a client has just pushed again. It
// reports whether that was so. Nobody else removes copies, so d can't go
// meanwhile.
func (c *Catalog) rescue(ctx context.Context, d discarded) (bool, error) {
	used := registry.Stored{Digest: d.Digest, Pool: d.Pool}
	damaged := false
	err := c.db.QueryRow(ctx, sqlCopy, string(d.Pool), d.packed).Scan(&used.Size, &used.Locator, &damaged)
	switch {
	case err == nil && used.Locator == d.Locator:
		// Which is a mistake, but not one to lose content by.
		c.log.Error("a copy that is used was in the queue of those to remove: it stays", "digest", d.Digest, "pool", d.Pool, "locator", d.Locator)
		return true, nil
	case errors.Is(err, sql.ErrNoRows) || err == nil && (damaged || used.Locator == ""):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("looking for the copy in use: %w", err)
	}
	blobs, ok := c.reaper.(registry.BlobReader)
	if !ok {
		return false, nil
	}
	if there, err := isThere(ctx, blobs, used); there || err != nil {
		return false, err
	}
	if there, err := isThere(ctx, blobs, d.Stored); !there || err != nil {
		return false, err
	}
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error { return c.replaceCopy(tx, used, d) })
	if err != nil {
		return false, fmt.Errorf("replacing a copy that is missing: %w", err)
	}
	c.log.Error("the copy of a blob was missing: another one that was pushed takes its place",
		"digest", d.Digest, "pool", d.Pool, "missing", used.Locator)
	return true, nil
}

// isThere reports whether s can be opened.
func isThere(ctx context.Context, blobs registry.BlobReader, s registry.Stored) (bool, error) {
	content, err := blobs.Open(ctx, s, registry.Range{})
	if errors.Is(err, registry.ErrBlobUnknown) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for a copy: %w", err)
	}
	return true, content.Close()
}

func (c *Catalog) replaceCopy(tx *sqldb.Tx, used registry.Stored, d discarded) error {
	if err := tx.Lock(decidesCopy(d.Pool, d.Digest)); err != nil {
		return err
	}
	n, err := tx.Exec(sqlReplaceCopy, string(d.Pool), d.packed, string(used.Locator), string(d.Locator), d.Size)
	if err != nil || n == 0 {
		return err
	}
	if _, err := tx.Exec(sqlRemoved, string(d.Pool), d.packed, string(d.Locator)); err != nil {
		return err
	}
	if err := tx.Queue(sqlAddCopyEvent, c.now(), d.packed, string(d.Pool), string(d.Locator), d.Size); err != nil {
		return err
	}
	rows, err := tx.Query(sqlLinkedFrom, d.packed, string(d.Pool))
	if err != nil {
		return err
	}
	defer rows.Close()
	ch := c.change()
	for rows.Next() {
		var repo string
		if err := rows.Scan(&repo); err != nil {
			return err
		}
		ch.blobs = append(ch.blobs, rowKey{registry.Name(repo), string(d.Digest)})
	}
	ch.attach(tx)
	return rows.Err()
}
