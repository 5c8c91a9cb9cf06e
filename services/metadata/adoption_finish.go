package metadata

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Finish ends an adoption: files of another registry become our own, then what is
// left of it is removed. Each step is durable before the next begins: our name of a
// file, the catalog that names it, and only then, once no blob in use is foreign
// any more, the removal of the other names. An interrupted run is continued by the
// next one.
type Finish struct {
	// Serving says that the store is used meanwhile. Without it, nobody else may have
	// it open.
	Serving bool
	// Fence is how long nothing is removed after the catalog named another copy, as
	// somebody may have been told of the file a moment before. 0 means as long as
	// garbage collection waits. It is for Serving.
	Fence time.Duration
	// Found is told of what keeps files where they are.
	Found func(registry.Finding)
	// Progress is told what happened so far, now and then.
	Progress func(Finished)
}

// Finished is what a [Finish] did.
type Finished struct {
	Blobs, Bytes int64 // that are our own now
	Repositories int   // whose directories are gone
	Kept         int   // repositories of which files were kept
	Removed      int64 // bytes of the names that were removed
}

// finishBatch is how many blobs one transaction switches.
const finishBatch = 32

// finishPasses is how often blobs are looked for that are foreign still, because they
// changed meanwhile.
const finishPasses = 5

// finishing is one run of a Finish.
type finishing struct {
	*Finish
	c     *Catalog
	ctx   context.Context
	blobs LayoutOwner
	done  Finished
	batch []taken
	again int // blobs to look at once more
}

// taken is a blob whose copy is our own.
type taken struct {
	blobRow
	ours registry.Locator
	at   time.Time // when that was so
}

// Finish does what f says. All that waits should have been taken over before; what
// comes later is for the next run.
func (c *Catalog) Finish(ctx context.Context, blobs LayoutOwner, f *Finish) (Finished, error) {
	k := &finishing{Finish: f, c: c, ctx: ctx, blobs: blobs}
	if err := k.own(k.Found); err != nil {
		return k.done, err
	}
	if err := k.eachAdoption(k.close); err != nil {
		return k.done, err
	}
	if f.Serving {
		// No repository becomes foreign again from here on. What did meanwhile is our
		// own after another look, whose findings are known.
		for pass := 0; pass == 0 || k.again > 0 && pass < finishPasses; pass++ {
			if err := k.own(func(registry.Finding) {}); err != nil {
				return k.done, err
			}
		}
		k.Progress(k.done)
		if err := rest(ctx, cmp.Or(f.Fence, c.fence())); err != nil {
			return k.done, err
		}
	}
	return k.done, k.eachAdoption(func(a adoption) error {
		if err := k.repository(a); err != nil {
			return fmt.Errorf("removing what is left of repository %s: %w", a.repo, err)
		}
		return nil
	})
}

// own makes the copies of all blobs our own that are foreign.
func (k *finishing) own(found func(registry.Finding)) error {
	k.again = 0
	if err := k.c.eachForeign(k.ctx, func(b blobRow) error { return k.blob(b, found) }); err != nil {
		return err
	}
	return k.flush()
}

// eachAdoption calls f for each repository that was taken over.
func (k *finishing) eachAdoption(f func(adoption) error) error {
	for after := registry.Name(""); ; {
		page, err := k.c.adoptionPage(k.ctx, after, fsckPage)
		if err != nil {
			return err
		}
		for _, a := range page {
			after = a.repo
			if err := f(a); err != nil {
				return err
			}
		}
		if len(page) < fsckPage {
			return nil
		}
	}
}

// blob makes the copy of a blob our own.
func (k *finishing) blob(b blobRow, found func(registry.Finding)) error {
	made, err := k.blobs.TakeOver(k.ctx, b.Stored)
	switch {
	case errors.Is(err, registry.ErrBlobUnknown):
		found(registry.Finding{Invariant: "I12", Digest: b.Digest, Problem: fmt.Sprintf("its copy %s is missing or has not %d bytes", b.Locator, b.Size)})
		return nil
	case errors.Is(err, registry.ErrDigestInvalid):
		found(registry.Finding{Invariant: "I5", Digest: b.Digest, Problem: fmt.Sprintf("the bytes of its copy %s do not hash to its digest", b.Locator)})
		return nil
	case err != nil:
		return fmt.Errorf("taking over %s: %w", b.Digest, err)
	}
	k.batch = append(k.batch, taken{b, made.Locator, time.Now()})
	if len(k.batch) == finishBatch {
		return k.flush()
	}
	return nil
}

// flush lets the catalog name the new copies.
func (k *finishing) flush() error {
	// A name that somebody made before us may be removed as garbage, which is
	// forgotten some time later.
	batch := slices.DeleteFunc(k.batch, func(b taken) bool { return k.Serving && time.Since(b.at) > tombstoneTime/2 })
	k.again += len(k.batch) - len(batch)
	k.batch = k.batch[:0]
	if len(batch) == 0 {
		return nil
	}
	locks := make([]sqldb.Lock, len(batch)) // in the order of the table, which is that of names
	for i, b := range batch {
		locks[i] = decidesCopy(b.Pool, b.Digest)
	}
	var switched, doomed []taken
	err := k.c.db.WriteLow(k.ctx, func(tx *sqldb.Tx) error {
		switched, doomed = nil, nil
		if err := tx.Lock(locks...); err != nil {
			return err
		}
		for _, b := range batch {
			garbage, changed, err := k.rename(tx, b)
			switch {
			case err != nil:
				return err
			case garbage:
				doomed = append(doomed, b)
			case changed:
				switched = append(switched, b)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("naming new copies: %w", err)
	}
	k.c.feed.told(int64(len(switched)))
	for _, b := range switched {
		k.done.Blobs++
		k.done.Bytes += b.Size
	}
	k.again += len(doomed)
	for _, b := range doomed { // the file of zot's is there: it gets a new name
		if err := k.c.reaper.Remove(k.ctx, registry.Stored{Digest: b.Digest, Size: b.Size, Pool: b.Pool, Locator: b.ours}); err != nil {
			return fmt.Errorf("removing an old copy: %w", err)
		}
	}
	k.Progress(k.done)
	return nil
}

const sqlIsGarbage = `SELECT 1 FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $3`

// rename lets the catalog name the copy that is our own. An earlier run may have made
// the name long ago, and a sweep have found that nobody knew it: then it is garbage.
// Where somebody may be removing that at this moment it can't be used any more.
func (k *finishing) rename(tx *sqldb.Tx, b taken) (garbage, changed bool, err error) {
	ours := []any{string(b.Pool), b.packed, string(b.ours)}
	if k.Serving {
		if garbage, err = exists(tx.QueryRow(sqlIsGarbage, ours...)); garbage || err != nil {
			return garbage, false, err
		}
	}
	n, err := tx.Exec(sqlReplaceCopy, string(b.Pool), b.packed, string(b.Locator), string(b.ours), b.Size)
	if err != nil || n == 0 { // the copy in use is another one since
		return false, false, err
	}
	if !k.Serving {
		if err := tx.Queue(sqlRemoved, ours...); err != nil {
			return false, false, err
		}
	}
	if err := tx.Queue(sqlAddCopyEvent, k.c.now(), b.packed, string(b.Pool), string(b.ours), b.Size); err != nil {
		return false, false, err
	}
	_, err = k.c.changesCopy(tx, b.Stored, b.packed)
	return false, true, err
}

const (
	sqlForgetManifests = `DELETE FROM adopted_manifests WHERE repo = $1`
	sqlForgetTags      = `DELETE FROM adopted_tags WHERE repo = $1`
	sqlForgetAdoption  = `DELETE FROM adoptions WHERE repo = $1`
	sqlCloseAdoption   = `UPDATE adoptions SET state = 2, updated = $3 WHERE repo = $1 AND state = 1 AND stamp = $2`
)

// close ends the take-over of a repository that has no problems: what its index says
// from then on does not count. Nothing of it is being taken over after that.
func (k *finishing) close(a adoption) error {
	if a.state != adoptionDone || a.count > 0 {
		return nil
	}
	return k.c.db.WriteLow(k.ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(removesFrom(a.repo)); err != nil {
			return err
		}
		return tx.Queue(sqlCloseAdoption, string(a.repo), a.stamp, k.c.now())
	})
}

// repository removes the directory of a repository. Of one that has problems only
// files go whose content is known to be elsewhere.
func (k *finishing) repository(a adoption) error {
	if a.state == adoptionBegun {
		k.Found(registry.Finding{Invariant: "I12", Repo: a.repo, Problem: "it was not taken over to its end: its files stay"})
		k.done.Kept++
		return nil
	}
	whole := a.state == adoptionRemoving
	var elsewhere []registry.Digest
	for f, err := range k.blobs.LayoutFiles(k.ctx, a.pool, a.repo) {
		if err != nil {
			return err
		}
		here, foreign, err := k.has(a, f.Digest, f.Size)
		if err != nil {
			return err
		}
		if here {
			elsewhere = append(elsewhere, f.Digest)
		}
		whole = whole && !foreign
	}
	var n int64
	var err error
	if whole {
		// What nothing needs is removed as well, as zot would.
		n, err = k.blobs.RemoveLayout(k.ctx, a.pool, a.repo)
	} else {
		n, err = k.blobs.RemoveLayoutFiles(k.ctx, a.pool, a.repo, elsewhere)
	}
	k.done.Removed += n
	if err != nil {
		return err
	}
	if !whole {
		k.done.Kept++
		k.Progress(k.done)
		return nil
	}
	err = k.c.db.WriteLow(k.ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(usesRepo(a.repo)); err != nil {
			return err
		}
		for _, s := range []string{sqlForgetManifests, sqlForgetTags, sqlForgetAdoption} {
			if err := tx.Queue(s, string(a.repo)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	k.done.Repositories++
	k.Progress(k.done)
	return nil
}

// has reports whether the content of a file is elsewhere: a copy of our own, a
// manifest, or one that was removed here. foreign says that the file may be the
// copy in use, or the only one that is whole.
func (k *finishing) has(a adoption, d registry.Digest, size int64) (here, foreign bool, err error) {
	packed, err := pack(d)
	if err != nil {
		return false, false, err
	}
	used := registry.Stored{Digest: d, Pool: a.pool}
	damaged := false
	err = k.c.db.QueryRow(k.ctx, sqlCopy, string(a.pool), packed).Scan(&used.Size, &used.Locator, &damaged)
	if err == nil {
		if _, foreign := used.Locator.Layout(); foreign || damaged {
			return false, true, nil
		}
		if used.Locator != "" {
			there, err := isThere(k.ctx, k.blobs, used)
			return there && used.Size == size, !there, err
		}
	} else if !errors.Is(err, sql.ErrNoRows) {
		return false, false, err
	}
	for _, q := range []string{sqlHasManifestOf, sqlAdopted} {
		if here, err := exists(k.c.db.QueryRow(k.ctx, q, string(a.repo), packed)); here || err != nil {
			return here, false, err
		}
	}
	return false, false, nil
}
