package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// ErrLost is the error of [Open] when a database is new and the store is not.
var ErrLost = errors.New("the metadata database has nothing in it, but the store has a journal of an earlier one: make it again with berth rebuild FILE, " +
	"put it back from a backup, or use another root directory or bucket for a new store")

const sqlUsed = `
	SELECT 1 FROM feed_readers UNION ALL SELECT 1 FROM upload_keys UNION ALL SELECT 1 FROM repositories UNION ALL SELECT 1 FROM blobs LIMIT 1`

// patience is how long [Open] waits for a blobstore that is not there yet, if it
// must ask it whether a new database may be made.
const patience = time.Minute

// refuseLost returns [ErrLost] if db was never used and the store was: an empty
// catalog would let every image disappear, and remove the bytes.
func refuseLost(ctx context.Context, db *sqldb.DB, reaper registry.Reaper, log *slog.Logger) error {
	objects, ok := reaper.(registry.Journal)
	if !ok {
		return nil
	}
	var one int
	if err := db.QueryRow(ctx, sqlUsed).Scan(&one); !isNoRows(err) {
		return err
	}
	begun := time.Now()
	for wait := time.Second / 8; ; wait = min(2*wait, 5*time.Second) {
		lost := false
		err := listJournal(ctx, objects, "", func(objectName) error {
			lost = true
			return errEnough
		})
		switch {
		case lost:
			return ErrLost
		case err == nil || errors.Is(err, registry.ErrUnsupported):
			return nil
		case !errors.Is(err, registry.ErrUnavailable) || time.Since(begun)+wait > patience:
			return fmt.Errorf("finding out whether the store is new: %w", err)
		}
		log.Warn("waiting for the blobstore, to find out whether the store is new", "error", err, "again", wait.String())
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
