package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Quota limits what repositories hold together: blobs they link and manifests,
// each content once.
type Quota struct {
	Repositories glob.Set
	Bytes        int64

	// waits says that it is not charged yet; nil: it is. See [Catalog.keepQuotas].
	waits *atomic.Bool
}

// quotaSettle is how long after a quota was set or given up its counters are begun, or
// removed: operations that took their locks before have ended then, and other processes
// on the database have read the same file.
const quotaSettle = time.Minute

// follow has the quotas of l go on where those of now are. It reports whether there are
// others.
func (l *Limits) follow(now *Limits) (others bool) {
	known := make(map[string]*Quota, len(now.Quotas))
	for i := range now.Quotas {
		known[now.Quotas[i].name()] = &now.Quotas[i]
	}
	for i := range l.Quotas {
		q := &l.Quotas[i]
		if old := known[q.name()]; old != nil {
			q.waits = old.waits
			delete(known, q.name())
			continue
		}
		q.waits, others = new(atomic.Bool), true
		q.waits.Store(true)
	}
	return others || len(known) > 0
}

func (q *Quota) charged() bool { return q.waits == nil || !q.waits.Load() }

// name is what the quota's counters are kept by: a changed limit keeps them.
func (q *Quota) name() string {
	texts := make([]string, len(q.Repositories))
	for i, p := range q.Repositories {
		texts[i] = p.String()
	}
	return strings.Join(texts, ",")
}

const (
	sqlQuotaUsed    = `SELECT used FROM quotas WHERE name = $1`
	sqlQuotaUse     = `INSERT INTO quotas (name, used) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET used = quotas.used + excluded.used`
	sqlBlobSize     = `SELECT size FROM blobs WHERE pool = $1 AND digest = $2`
	sqlIsCounted    = `SELECT 1 FROM quota_repositories WHERE quota = $1 AND repo_id = $2`
	sqlCounted      = `INSERT INTO quota_repositories (quota, repo_id) VALUES ($1, $2)`
	sqlQuotaContent = `SELECT refs, size FROM quota_content WHERE quota = $1 AND digest = $2`
	sqlSetContent   = `INSERT INTO quota_content (quota, digest, refs, size) VALUES ($1, $2, $3, $4) ON CONFLICT (quota, digest) DO UPDATE SET refs = excluded.refs`
	sqlNoContent    = `DELETE FROM quota_content WHERE quota = $1 AND digest = $2`

	// All of a repository at once: first what is new, then how often.
	sqlNewLinkBytes = `
		SELECT COALESCE(SUM(b.size), 0) FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest
		WHERE l.repo_id = $2 AND (SELECT 1 FROM quota_content q WHERE q.quota = $1 AND q.digest = l.digest) IS NULL`
	sqlCountLinks = `
		INSERT INTO quota_content (quota, digest, refs, size)
		SELECT $1, l.digest, 1, b.size FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE l.repo_id = $2
		ON CONFLICT (quota, digest) DO UPDATE SET refs = quota_content.refs + 1`
	sqlNewManifestBytes = `
		SELECT COALESCE(SUM(m.size), 0) FROM manifests m
		WHERE m.repo_id = $2 AND (SELECT 1 FROM quota_content q WHERE q.quota = $1 AND q.digest = m.digest) IS NULL`
	sqlCountManifests = `
		INSERT INTO quota_content (quota, digest, refs, size)
		SELECT $1, m.digest, 1, m.size FROM manifests m WHERE m.repo_id = $2
		ON CONFLICT (quota, digest) DO UPDATE SET refs = quota_content.refs + 1`

	// A copy that was refused.
	sqlDiscardRefused = `
		INSERT INTO garbage (pool, digest, locator, size, due, attempts)
		SELECT $1, $2, $3, $4, $5, 0 WHERE NOT EXISTS (SELECT 1 FROM blobs WHERE pool = $1 AND digest = $2 AND locator = $3)
		ON CONFLICT (pool, digest, locator) DO NOTHING`
)

// quotasOf returns the quotas of a repository that are charged, always in the same
// order.
func (l *Limits) quotasOf(repo registry.Name) []*Quota {
	var all []*Quota
	for i := range l.Quotas {
		if q := &l.Quotas[i]; q.charged() && q.Repositories.Match(string(repo)) {
			all = append(all, q)
		}
	}
	return all
}

// quotaLocks returns the locks of who changes what repositories hold. They come
// behind all others, and make such changes wait for each other. A quota has them before
// it is charged.
func (l *Limits) quotaLocks(repos ...registry.Name) []sqldb.Lock {
	var names []string
	for _, repo := range repos {
		for i := range l.Quotas {
			if q := &l.Quotas[i]; q.Repositories.Match(string(repo)) {
				names = append(names, q.name())
			}
		}
	}
	slices.Sort(names)
	var locks []sqldb.Lock
	for _, n := range slices.Compact(names) {
		locks = append(locks, sqldb.Lock{Name: "quota " + n})
	}
	return locks
}

// roomFor returns an error if nothing at all may be added to a repository.
func (c *Catalog) roomFor(ctx context.Context, repo registry.Name) error {
	for _, q := range c.limits().quotasOf(repo) {
		var used int64
		err := c.db.QueryRow(ctx, sqlQuotaUsed, q.name()).Scan(&used)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("reading a quota: %w", err)
		}
		if used >= q.Bytes {
			return q.over(used)
		}
	}
	return nil
}

func (q *Quota) over(used int64) error {
	return registry.ErrDenied.With("the quota of %s is used up (storage.quotas)", q.name()).
		Detailed(map[string]int64{"used": used, "limit": q.Bytes})
}

// charge counts a link or manifest that tx has just added to a repository, unless
// a quota has no room for it. The quotas' locks must be held. unlimited is for
// what was there before.
func (c *Catalog) charge(tx *sqldb.Tx, id int64, repo registry.Name, digest []byte, size int64, unlimited bool) error {
	for _, q := range c.limits().quotasOf(repo) {
		fresh, err := q.countRepo(tx, id)
		if err != nil {
			return err
		}
		var refs, had int64
		if !fresh {
			err := tx.QueryRow(sqlQuotaContent, q.name(), digest).Scan(&refs, &had)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return fmt.Errorf("reading a quota's content: %w", err)
			}
			err = tx.Queue(sqlSetContent, q.name(), digest, refs+1, size)
			if err == nil && refs == 0 {
				err = tx.Queue(sqlQuotaUse, q.name(), size)
			}
			if err != nil {
				return fmt.Errorf("counting a quota's content: %w", err)
			}
		}
		if unlimited || refs > 0 {
			continue
		}
		var used int64
		if err := tx.QueryRow(sqlQuotaUsed, q.name()).Scan(&used); err != nil {
			return fmt.Errorf("reading a quota: %w", err)
		}
		if used > q.Bytes {
			return q.over(used - size)
		}
	}
	return nil
}

// discharge counts a link or manifest that tx removes from a repository.
func (c *Catalog) discharge(tx *sqldb.Tx, id int64, repo registry.Name, digest []byte) error {
	for _, q := range c.limits().quotasOf(repo) {
		if counted, err := exists(tx.QueryRow(sqlIsCounted, q.name(), id)); err != nil {
			return err
		} else if !counted {
			continue
		}
		var refs, size int64
		err := tx.QueryRow(sqlQuotaContent, q.name(), digest).Scan(&refs, &size)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			continue
		case err != nil:
			return fmt.Errorf("reading a quota's content: %w", err)
		case refs > 1:
			err = tx.Queue(sqlSetContent, q.name(), digest, refs-1, size)
		default:
			err = errors.Join(tx.Queue(sqlNoContent, q.name(), digest), tx.Queue(sqlQuotaUse, q.name(), -size))
		}
		if err != nil {
			return fmt.Errorf("counting a quota's content: %w", err)
		}
	}
	return nil
}

// countRepo counts all that a repository has, unless it is counted already.
func (q *Quota) countRepo(tx *sqldb.Tx, id int64) (fresh bool, err error) {
	if counted, err := exists(tx.QueryRow(sqlIsCounted, q.name(), id)); err != nil || counted {
		return false, err
	}
	var links, manifests int64
	err = tx.QueryRow(sqlNewLinkBytes, q.name(), id).Scan(&links)
	if err == nil {
		err = tx.Queue(sqlCountLinks, q.name(), id)
	}
	if err == nil {
		err = tx.QueryRow(sqlNewManifestBytes, q.name(), id).Scan(&manifests)
	}
	if err != nil {
		return false, fmt.Errorf("counting what a repository holds: %w", err)
	}
	err = errors.Join(
		tx.Queue(sqlCountManifests, q.name(), id),
		tx.Queue(sqlCounted, q.name(), id),
		tx.Queue(sqlQuotaUse, q.name(), links+manifests))
	return true, err
}

// keepQuotas begins the counters of quotas that are new, and removes those of others,
// until ctx ends.
func (c *Catalog) keepQuotas(ctx context.Context) {
	if len(c.limits().Quotas) > 0 {
		if err := c.countQuotas(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("counting what repositories hold", "error", err)
		}
	}
	for {
		select {
		case <-c.quotaWake:
		case <-ctx.Done():
			return
		}
		var fresh []Quota
		for _, q := range c.limits().Quotas {
			if !q.charged() {
				fresh = append(fresh, q)
			}
		}
		if !c.sleep(ctx, c.quotaDelay) {
			return
		}
		if err := c.beginQuotas(ctx, fresh); err != nil && ctx.Err() == nil {
			c.log.Error("counting what repositories hold", "error", err)
			c.wakeQuotas()
		}
	}
}

// beginQuotas charges quotas from now on. What was counted for them before has missed
// what came since.
func (c *Catalog) beginQuotas(ctx context.Context, fresh []Quota) error {
	for _, q := range fresh {
		if err := c.forgetQuota(ctx, q.name()); err != nil {
			return fmt.Errorf("forgetting quotas: %w", err)
		}
		q.waits.Store(false)
	}
	if err := c.forgetQuotas(ctx); err != nil {
		return err
	}
	return c.countQuotas(ctx)
}

func (c *Catalog) wakeQuotas() {
	select {
	case c.quotaWake <- struct{}{}:
	default: // it wakes up already
	}
}

// countQuotas counts the repositories that were made before their quota, a few
// milliseconds each.
func (c *Catalog) countQuotas(ctx context.Context) error {
	for last := ""; ; {
		type repo struct {
			name registry.Name
			id   int64
		}
		var repos []repo
		_, err := c.page(ctx, sqlRetentionRepos, []any{last, factsPage}, func(rows *sqldb.Rows) error {
			var r repo
			err := rows.Scan(&r.name, &r.id)
			repos = append(repos, r)
			return err
		})
		if err != nil {
			return fmt.Errorf("counting quotas: %w", err)
		}
		for _, r := range repos {
			last = string(r.name)
			for _, q := range c.limits().quotasOf(r.name) {
				if counted, err := exists(c.db.QueryRow(ctx, sqlIsCounted, q.name(), r.id)); err != nil || counted {
					if err != nil {
						return err
					}
					continue
				}
				err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
					if err := tx.Lock(append([]sqldb.Lock{usesRepo(r.name)}, c.limits().quotaLocks(r.name)...)...); err != nil {
						return err
					}
					if id, err := repoID(tx, r.name); err != nil || id != r.id {
						return nil // it has gone meanwhile
					}
					_, err := q.countRepo(tx, r.id)
					return err
				})
				if err != nil {
					return fmt.Errorf("counting quotas: %w", err)
				}
			}
		}
		if len(repos) < factsPage {
			return nil
		}
	}
}

const (
	sqlQuotaNames      = `SELECT name FROM quotas ORDER BY name`
	sqlForgetCounted   = `DELETE FROM quota_repositories WHERE quota = $1`
	sqlForgetContent   = `DELETE FROM quota_content WHERE quota = $1`
	sqlForgetQuotaUsed = `DELETE FROM quotas WHERE name = $1`
)

// forgetQuotas forgets what was counted for quotas that are not set any more:
// nobody keeps it up to date.
func (c *Catalog) forgetQuotas(ctx context.Context) error {
	var old []string
	_, err := c.page(ctx, sqlQuotaNames, nil, func(rows *sqldb.Rows) error {
		var name string
		err := rows.Scan(&name)
		if !slices.ContainsFunc(c.limits().Quotas, func(q Quota) bool { return q.name() == name }) {
			old = append(old, name)
		}
		return err
	})
	for _, name := range old {
		err = errors.Join(err, c.forgetQuota(ctx, name))
	}
	if err != nil {
		return fmt.Errorf("forgetting quotas: %w", err)
	}
	return nil
}

func (c *Catalog) forgetQuota(ctx context.Context, name string) error {
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "quota " + name}); err != nil {
			return err
		}
		return errors.Join(tx.Queue(sqlForgetCounted, name), tx.Queue(sqlForgetContent, name), tx.Queue(sqlForgetQuotaUsed, name))
	})
}

// discardRefused gives up a copy that a quota had no room for.
func (c *Catalog) discardRefused(ctx context.Context, s registry.Stored, digest []byte) {
	err := c.db.Write(context.WithoutCancel(ctx), func(tx *sqldb.Tx) error {
		if err := tx.Lock(decidesCopy(s.Pool, s.Digest)); err != nil {
			return err
		}
		return tx.Queue(sqlDiscardRefused, string(s.Pool), digest, string(s.Locator), s.Size, c.now())
	})
	if err != nil { // the sweep finds it in a day
		c.log.WarnContext(ctx, "giving up a copy that a quota has no room for", "error", err)
		return
	}
	c.wakeGarbage()
}

// linkWithin runs the steps of a Link into a repository that may have quotas.
func (c *Catalog) linkWithin(tx *sqldb.Tx, repo registry.Name, digest []byte, steps []sqldb.Statement, kept *registry.Stored, unlimited bool) error {
	if len(c.limits().quotasOf(repo)) == 0 {
		return tx.Run(steps...)
	}
	linked, err := exists(tx.QueryRow(sqlHasLinkIn, string(repo), digest))
	if err != nil {
		return err
	}
	if err := tx.Run(steps...); err != nil || linked {
		return err
	}
	id, err := repoID(tx, repo)
	if errors.Is(err, registry.ErrNameUnknown) {
		return nil // the copy was given up, and nothing linked
	}
	if err != nil {
		return err
	}
	if linked, err = exists(tx.QueryRow(sqlHasLink, id, digest)); err != nil || !linked {
		return err
	}
	return c.charge(tx, id, repo, digest, kept.Size, unlimited)
}
