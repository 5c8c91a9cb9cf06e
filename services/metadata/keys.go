package metadata

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlUploadKeys   = `SELECT id, secret FROM upload_keys ORDER BY created DESC, id`
	sqlAddUploadKey = `INSERT INTO upload_keys (id, secret, created) VALUES ($1, $2, $3)`
)

// UploadKeys returns the keys of upload tokens; the first call makes one.
func (c *Catalog) UploadKeys(ctx context.Context) ([]registry.Key, error) {
	rows, err := c.db.Query(ctx, sqlUploadKeys)
	if err != nil {
		return nil, fmt.Errorf("reading upload keys: %w", err)
	}
	keys, err := scanKeys(rows)
	if err != nil || len(keys) > 0 {
		return keys, err
	}
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		rows, err := tx.Query(sqlUploadKeys)
		if err != nil {
			return err
		}
		if keys, err = scanKeys(rows); err != nil || len(keys) > 0 {
			return err // another caller was faster
		}
		k := registry.Key{ID: rand.Text()[:8], Secret: make([]byte, 32)}
		rand.Read(k.Secret) // never fails, see crypto/rand
		keys = []registry.Key{k}
		if _, err = tx.Exec(sqlAddUploadKey, k.ID, k.Secret, c.now()); err != nil {
			return err
		}
		return tx.Queue(sqlAddKeyEvent, c.now(), k.ID)
	})
	if err != nil {
		return nil, fmt.Errorf("making an upload key: %w", err)
	}
	return keys, nil
}

func scanKeys(rows *sqldb.Rows) ([]registry.Key, error) {
	defer rows.Close()
	var keys []registry.Key
	for rows.Next() {
		var k registry.Key
		if err := rows.Scan(&k.ID, &k.Secret); err != nil {
			return nil, fmt.Errorf("reading upload keys: %w", err)
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}
