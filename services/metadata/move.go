package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// ErrMoving is the error of [Open] for a catalog whose move is not complete.
var ErrMoving = errors.New("an unfinished migration has this catalog: finish it with berth migrate, or give it up with berth migrate --abandon")

// Move brings a catalog into another database, or the blobs it names into another
// blobstore, or both. Nothing else may use either side meanwhile. What is at the
// source stays as it is, but for the schema, which is brought up to date.
//
// A Move can be interrupted at any moment: the next one with the same source and
// target goes on where it ended. Until one has ended without an error [Open]
// refuses the target.
type Move struct {
	// From and To are the databases, To with nothing in it at the beginning.
	// They are the same if only blobs are moved.
	From, To *sqldb.DB
	// Source says what moves from where to where, for people. It is the same for
	// every run of a move: a run with another one is refused.
	Source string
	// Pools are the pools whose blobs are moved. The function makes a copy of
	// one and returns where it lies, with the pool's name left empty on both
	// sides. It is called by several goroutines. [registry.ErrBlobUnknown] and
	// [registry.ErrDigestInvalid] say that the source's copy is missing or
	// damaged.
	Pools map[registry.Pool]func(context.Context, registry.Stored) (registry.Stored, error)
	// Workers is how many blobs are copied at a time.
	Workers int
	// KeepDamaged lets blobs without an intact copy be moved by name: they are as
	// unreadable at the target as they were. Without it they end the move.
	KeepDamaged bool
	// Found is told of each blob without an intact copy.
	Found func(registry.Finding)
	// Progress is told how far the copying of blobs has come, now and then.
	Progress func(MoveProgress)
}

// MoveProgress says how far the copying of blobs has come.
type MoveProgress struct {
	Blobs, AllBlobs int64
	Bytes, AllBytes int64
}

// errDamaged says that the move met blobs that can't be copied.
var errDamaged = errors.New("some blobs have no intact copy at the source (see above); they can be moved by name only, with --keep-damaged")

// Resuming reports whether an earlier run of this move began. It brings the
// schemas up to date, and returns an error if the move can't be.
func (m *Move) Resuming(ctx context.Context) (bool, error) {
	for _, db := range []*sqldb.DB{m.From, m.To} {
		if err := db.Migrate(ctx, migrations, "migrations"); err != nil {
			return false, err
		}
	}
	if m.From != m.To {
		source, err := moving(m.From.QueryRow(ctx, sqlMoving))
		if err != nil {
			return false, err
		}
		if source != "" {
			return false, fmt.Errorf("the source is itself the target of an unfinished migration of %s", source)
		}
	}
	source, err := moving(m.To.QueryRow(ctx, sqlMoving))
	if err != nil || source == "" {
		return false, err
	}
	if source != m.Source {
		return false, errOther(source, m.Source)
	}
	return true, nil
}

// Run moves, or goes on moving.
func (m *Move) Run(ctx context.Context) error {
	if err := m.prepare(ctx); err != nil {
		return err
	}
	if err := m.copyBlobs(ctx); err != nil {
		return fmt.Errorf("copying blobs: %w", err)
	}
	if m.From != m.To {
		for _, t := range movedTables {
			if err := m.copyTable(ctx, t); err != nil {
				return fmt.Errorf("copying table %s: %w", t.name, err)
			}
		}
		for _, t := range movedTables {
			if err := m.compareTable(ctx, t); err != nil {
				return fmt.Errorf("comparing table %s: %w", t.name, err)
			}
		}
	}
	return m.finish(ctx)
}

const (
	sqlMoving  = `SELECT source FROM moves`
	sqlBegin   = `INSERT INTO moves (id, source, started) VALUES (1, $1, $2)`
	sqlInUse   = `SELECT 1 FROM repositories UNION ALL SELECT 1 FROM blobs UNION ALL SELECT 1 FROM upload_keys LIMIT 1`
	sqlEnd     = `DELETE FROM moves`
	sqlNoMoved = `DELETE FROM moved_blobs`
)

// moving returns whose move has db, "" if none has.
func moving(row interface{ Scan(...any) error }) (source string, err error) {
	err = row.Scan(&source)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return source, err
}

// prepare marks the target, or finds the mark of an earlier run.
func (m *Move) prepare(ctx context.Context) error {
	resuming, err := m.Resuming(ctx)
	if err != nil || resuming {
		return err
	}
	return m.To.Write(ctx, func(tx *sqldb.Tx) error {
		if m.From != m.To {
			var one int
			switch err := tx.QueryRow(sqlInUse).Scan(&one); {
			case err == nil:
				return errors.New("the target's catalog is not empty")
			case !errors.Is(err, sql.ErrNoRows):
				return err
			}
		}
		_, err := tx.Exec(sqlBegin, m.Source, time.Now().UnixMicro())
		return err
	})
}

const (
	sqlUnmoved = `
		SELECT COUNT(*) FROM blobs b
		WHERE b.pool = $1 AND b.inline IS NULL AND NOT EXISTS (
			SELECT 1 FROM moved_blobs m WHERE m.pool = b.pool AND m.digest = b.digest AND m.old_locator = b.locator)`
	sqlSwitch = `
		UPDATE blobs SET locator = (
			SELECT m.locator FROM moved_blobs m WHERE m.pool = blobs.pool AND m.digest = blobs.digest)
		WHERE pool = $1 AND inline IS NULL`
	sqlForget = `DELETE FROM garbage WHERE pool = $1`
)

// finish lets the target's catalog name the new copies, and gives it free, in one
// transaction. What was queued for removal lies at the source, and stays there.
func (m *Move) finish(ctx context.Context) error {
	return m.To.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.LockAll(); err != nil {
			return err
		}
		for pool := range m.Pools {
			var unmoved int64
			if err := tx.QueryRow(sqlUnmoved, string(pool)).Scan(&unmoved); err != nil {
				return err
			}
			if unmoved > 0 {
				return fmt.Errorf("%d blobs of pool %q were added while the migration ran: stop everything that uses the source, and run it again", unmoved, pool)
			}
			for _, statement := range []string{sqlSwitch, sqlForget} {
				if _, err := tx.Exec(statement, string(pool)); err != nil {
					return err
				}
			}
		}
		return endMove(tx)
	})
}

func endMove(tx *sqldb.Tx) error {
	for _, statement := range []string{sqlNoMoved, sqlEnd} {
		if _, err := tx.Exec(statement); err != nil {
			return err
		}
	}
	return nil
}

func errOther(begun, now string) error {
	return fmt.Errorf("the target belongs to an unfinished migration of %s; this one would be of %s", begun, now)
}

// AbandonMove gives up a move to db that is not complete, and returns whether
// there was one. rows says that the catalog was moved, too: what arrived of it is
// removed. Copies of blobs that were made stay where they are. If the move was
// begun with another [Move.Source] it is refused: db might be a catalog in use,
// whose blobs alone were to move.
func AbandonMove(ctx context.Context, db *sqldb.DB, source string, rows bool) (found bool, err error) {
	if err := db.Migrate(ctx, migrations, "migrations"); err != nil {
		return false, err
	}
	err = db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.LockAll(); err != nil {
			return err
		}
		begun, err := moving(tx.QueryRow(sqlMoving))
		if err != nil || begun == "" {
			return err
		}
		if begun != source {
			return errOther(begun, source)
		}
		found = true
		for i := len(movedTables) - 1; rows && i >= 0; i-- {
			if _, err := tx.Exec("DELETE FROM " + movedTables[i].name); err != nil {
				return err
			}
		}
		return endMove(tx)
	})
	return found, err
}
