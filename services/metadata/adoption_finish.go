package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Finish ends an adoption: files of another registry become our own, then what is
// left of it is removed. It is for a store that serves nobody, whose repositories
// are all taken over. Each step is durable before the next begins: our name of a
// file, the catalog that names it, and only then, once no blob in use is foreign
// any more, the removal of the other names. An interrupted run is continued by the
// next one.
type Finish struct {
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

// finishing is one run of a Finish.
type finishing struct {
	*Finish
	c     *Catalog
	ctx   context.Context
	blobs LayoutOwner
	done  Finished
	batch []taken
}

// taken is a blob whose copy is our own.
type taken struct {
	blobRow
	ours registry.Locator
}

// Finish does what f says.
func (c *Catalog) Finish(ctx context.Context, blobs LayoutOwner, f *Finish) (Finished, error) {
	k := &finishing{Finish: f, c: c, ctx: ctx, blobs: blobs}
	if err := c.eachForeign(ctx, k.blob); err != nil {
		return k.done, err
	}
	if err := k.flush(); err != nil {
		return k.done, err
	}
	for after := registry.Name(""); ; {
		page, err := c.adoptionPage(ctx, after, fsckPage)
		if err != nil {
			return k.done, err
		}
		for _, a := range page {
			after = a.repo
			if err := k.repository(a); err != nil {
				return k.done, fmt.Errorf("removing what is left of repository %s: %w", a.repo, err)
			}
		}
		if len(page) < fsckPage {
			return k.done, nil
		}
	}
}

// blob makes the copy of a blob our own.
func (k *finishing) blob(b blobRow) error {
	made, err := k.blobs.TakeOver(k.ctx, b.Stored)
	switch {
	case errors.Is(err, registry.ErrBlobUnknown):
		k.Found(registry.Finding{Invariant: "I12", Digest: b.Digest, Problem: fmt.Sprintf("its copy %s is missing or has not %d bytes", b.Locator, b.Size)})
		return nil
	case errors.Is(err, registry.ErrDigestInvalid):
		k.Found(registry.Finding{Invariant: "I5", Digest: b.Digest, Problem: fmt.Sprintf("the bytes of its copy %s do not hash to its digest", b.Locator)})
		return nil
	case err != nil:
		return fmt.Errorf("taking over %s: %w", b.Digest, err)
	}
	k.batch = append(k.batch, taken{b, made.Locator})
	if len(k.batch) == finishBatch {
		return k.flush()
	}
	return nil
}

// flush lets the catalog name the new copies.
func (k *finishing) flush() error {
	if len(k.batch) == 0 {
		return nil
	}
	locks := make([]sqldb.Lock, len(k.batch)) // in the order of the table, which is that of names
	for i, b := range k.batch {
		locks[i] = decidesCopy(b.Pool, b.Digest)
	}
	err := k.c.db.WriteLow(k.ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(locks...); err != nil {
			return err
		}
		for _, b := range k.batch {
			n, err := tx.Exec(sqlReplaceCopy, string(b.Pool), b.packed, string(b.Locator), string(b.ours), b.Size)
			if err != nil {
				return err
			}
			if n == 0 {
				continue // the copy in use is another one since
			}
			// An earlier run may have made the name long ago, and a sweep have found
			// that nobody knew it.
			if err := tx.Queue(sqlRemoved, string(b.Pool), b.packed, string(b.ours)); err != nil {
				return err
			}
			if err := tx.Queue(sqlAddCopyEvent, k.c.now(), b.packed, string(b.Pool), string(b.ours), b.Size); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("naming new copies: %w", err)
	}
	k.c.feed.told(int64(len(k.batch)))
	for _, b := range k.batch {
		k.done.Blobs++
		k.done.Bytes += b.Size
	}
	k.batch = k.batch[:0]
	k.Progress(k.done)
	return nil
}

const (
	sqlForgetManifests = `DELETE FROM adopted_manifests WHERE repo = $1`
	sqlForgetTags      = `DELETE FROM adopted_tags WHERE repo = $1`
	sqlForgetAdoption  = `DELETE FROM adoptions WHERE repo = $1`
)

// repository removes the directory of a repository. Of one that has problems only
// files go whose content is known to be elsewhere.
func (k *finishing) repository(a adoption) error {
	whole := a.count == 0
	if a.state == adoptionBegun {
		return errors.New("it was not taken over to its end")
	}
	if whole && a.state != adoptionRemoving {
		a.state = adoptionRemoving
		if err := k.c.saveAdoption(k.ctx, a); err != nil {
			return err
		}
	}
	var lost bool // files whose content is nowhere else
	_, err := k.blobs.RemoveLayout(k.ctx, a.pool, a.repo, false, func(d registry.Digest, size int64) (bool, error) {
		_, foreign, err := k.has(a, d, size)
		lost = lost || foreign
		return false, err
	})
	if err != nil {
		return err
	}
	whole = whole && !lost
	n, err := k.blobs.RemoveLayout(k.ctx, a.pool, a.repo, whole, func(d registry.Digest, size int64) (bool, error) {
		if whole {
			return true, nil // what nothing needs is removed as well, as zot would
		}
		here, _, err := k.has(a, d, size)
		return here, err
	})
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
