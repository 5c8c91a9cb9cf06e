package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlNoteUpload   = `INSERT INTO open_uploads (id, owner, touched) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, touched = excluded.touched`
	sqlEndUpload    = `DELETE FROM open_uploads WHERE id = $1`
	sqlOldUploads   = `DELETE FROM open_uploads WHERE touched < $1 AND touched <= (SELECT MAX(touched) FROM (SELECT touched FROM open_uploads WHERE touched < $1 ORDER BY touched LIMIT $2) oldest)`
	sqlCountUploads = `SELECT COUNT(*) FROM open_uploads WHERE owner = $1 AND touched >= $2`
)

// notesUploads is the lock of who records upload sessions: many rows at once, which
// two that do so must not wait for each other's.
func notesUploads() sqldb.Lock { return sqldb.Lock{Name: "open uploads"} }

// NoteUploads implements [registry.OpenUploads].
func (c *Catalog) NoteUploads(ctx context.Context, notes []registry.UploadNote, owners []string) ([]int64, error) {
	if err := registry.CheckUploadNotes(notes, owners); err != nil {
		return nil, err
	}
	old := c.opt.Now().Add(-registry.UploadLife).UnixMicro()
	if len(notes) > 0 {
		err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(notesUploads()); err != nil {
				return err
			}
			for _, n := range notes {
				var err error
				if n.Owner == "" {
					err = tx.Queue(sqlEndUpload, string(n.ID))
				} else {
					err = tx.Queue(sqlNoteUpload, string(n.ID), n.Owner, c.now())
				}
				if err != nil {
					return err
				}
			}
			return tx.Queue(sqlOldUploads, old, registry.MaxUploadNotes)
		})
		if err != nil {
			return nil, fmt.Errorf("recording uploads: %w", err)
		}
	}
	counts := make([]int64, len(owners))
	for i, o := range owners {
		if err := c.db.QueryRow(ctx, sqlCountUploads, o, old).Scan(&counts[i]); err != nil {
			return nil, fmt.Errorf("counting uploads: %w", err)
		}
	}
	return counts, nil
}
