package metadata

import (
	"fmt"

	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlFsckQuotaRepos = `SELECT repo_id FROM quota_repositories WHERE quota = $1 AND repo_id > $2 ORDER BY repo_id LIMIT $3`
	sqlFsckLinks      = `
		SELECT l.digest, b.size FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest
		WHERE l.repo_id = $1 AND l.digest > $2 ORDER BY l.digest LIMIT $3`
	sqlFsckContent = `
		SELECT q.digest, q.size, q.refs,
			(SELECT COUNT(*) FROM links l JOIN quota_repositories r ON r.quota = q.quota AND r.repo_id = l.repo_id WHERE l.digest = q.digest)
			+ (SELECT COUNT(*) FROM manifests m JOIN quota_repositories r ON r.quota = q.quota AND r.repo_id = m.repo_id WHERE m.digest = q.digest)
		FROM quota_content q WHERE q.quota = $1 AND q.digest > $2 ORDER BY q.digest LIMIT $3`
	sqlFsckUsed  = `SELECT COALESCE((SELECT used FROM quotas WHERE name = $1), 0)`
	sqlFsckCount = `SELECT 1 FROM quota_content WHERE quota = $1 AND digest = $2`
)

// quotas checks that the counters of each quota are what counting again finds.
func (k *fsck) quotas() error {
	for _, q := range k.c.limits().Quotas {
		if !q.charged() {
			continue
		}
		if err := k.quota(q.name()); err != nil {
			return err
		}
	}
	return nil
}

func (k *fsck) quota(name string) error {
	var used int64
	type content struct {
		digest           []byte
		size, refs, real int64
	}
	for last := []byte{}; ; {
		n, err := each(k, sqlFsckContent, []any{name, last, fsckPage},
			func(rows *sqldb.Rows, x *content) error { return rows.Scan(&x.digest, &x.size, &x.refs, &x.real) },
			func(x content) error {
				last = x.digest
				used += x.size
				if x.refs == x.real {
					return nil
				}
				d, err := unpack(x.digest)
				if err != nil {
					return err
				}
				return k.report("I10", "", d, "quota %s counts it %d times, and it is there %d times", name, x.refs, x.real)
			})
		if err != nil {
			return err
		}
		if n < fsckPage {
			break
		}
	}
	var told int64
	if err := k.c.db.QueryRow(k.ctx, sqlFsckUsed, name).Scan(&told); err != nil {
		return fmt.Errorf("reading a quota: %w", err)
	}
	if told != used {
		if err := k.report("I10", "", "", "quota %s says that %d bytes are used, and there are %d", name, told, used); err != nil {
			return err
		}
	}
	return k.quotaRepositories(name)
}

// quotaRepositories looks for content of counted repositories that is not counted.
func (k *fsck) quotaRepositories(name string) error {
	for last := int64(0); ; {
		n, err := each(k, sqlFsckQuotaRepos, []any{name, last, fsckPage},
			func(rows *sqldb.Rows, id *int64) error { return rows.Scan(id) },
			func(id int64) error {
				last = id
				for _, query := range []string{sqlFsckLinks, sqlDuManifests} {
					if err := k.uncounted(query, name, id); err != nil {
						return err
					}
				}
				return nil
			})
		if err != nil || n < fsckPage {
			return err
		}
	}
}

func (k *fsck) uncounted(query, quota string, id int64) error {
	type content struct {
		digest []byte
		size   int64
	}
	for last := []byte{}; ; {
		n, err := each(k, query, []any{id, last, fsckPage},
			func(rows *sqldb.Rows, x *content) error { return rows.Scan(&x.digest, &x.size) },
			func(x content) error {
				last = x.digest
				there, err := exists(k.c.db.QueryRow(k.ctx, sqlFsckCount, quota, x.digest))
				if err != nil || there {
					return err
				}
				d, err := unpack(x.digest)
				if err != nil {
					return err
				}
				return k.report("I10", "", d, "quota %s does not count it", quota)
			})
		if err != nil || n < fsckPage {
			return err
		}
	}
}
