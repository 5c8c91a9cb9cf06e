package metadata

import (
	"fmt"
	"strconv"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Limits are what an operator does not allow, whoever asks for it. The zero
// value allows everything.
type Limits struct {
	// MaxRepos is how many repositories may have a manifest. 0: any number.
	MaxRepos int
	// Quotas limit what repositories hold.
	Quotas []Quota
	// Immutable are tags that are neither moved nor removed.
	Immutable []ImmutableTags
	// ReadOnly are repositories that nothing changes.
	ReadOnly glob.Set
}

// ImmutableTags are tags of some repositories.
type ImmutableTags struct {
	Repositories glob.Set
	Tags         glob.Set // empty: all
}

// keepsTag returns an error if a tag that exists must stay as it is.
func (l *Limits) keepsTag(repo registry.Name, t registry.Tag) error {
	if !l.immutable(repo, t) {
		return nil
	}
	return registry.ErrDenied.With("tag %s is immutable here (storage.immutableTags)", t)
}

func (l *Limits) immutable(repo registry.Name, t registry.Tag) bool {
	for _, m := range l.Immutable {
		if m.Repositories.Match(string(repo)) && (len(m.Tags) == 0 || m.Tags.Match(string(t))) {
			return true
		}
	}
	return false
}

// allowChange is access.allow for what changes a repository, which must not be
// read-only then.
func (c *Catalog) allowChange(a registry.Actor, repo registry.Name, act registry.Actions) error {
	if err := c.access.allow(a, repo, act); err != nil {
		return err
	}
	if act == registry.ActCreate {
		return c.allowGrowth(repo)
	}
	return c.readOnly(repo)
}

// allowDelete is the same for the delete of what r names.
func (c *Catalog) allowDelete(a registry.Actor, repo registry.Name, r registry.Reference) error {
	if err := c.access.allowRef(a, repo, r, registry.ActDelete); err != nil {
		return err
	}
	return c.readOnly(repo)
}

// allowGrowth returns an error if nothing may be added to a repository, whoever asks.
func (c *Catalog) allowGrowth(repo registry.Name) error {
	if err := c.room(); err != nil {
		return err
	}
	return c.readOnly(repo)
}

// room returns an error if the database must not grow by what is pushed, so that
// deletions can be recorded.
func (c *Catalog) room() error {
	if c.space == nil || c.opt.Reserve <= 0 {
		return nil
	}
	left, err := c.space.Free(c.opt.Reserve)
	if err != nil || left >= c.opt.Reserve {
		return nil //nolint:nilerr // a write will tell
	}
	return registry.ErrStorageFull.With("no space left for manifests: %d MiB are free and %d MiB reserved for deletions", left>>20, c.opt.Reserve>>20)
}

// readOnly returns an error if nobody may change a repository.
func (c *Catalog) readOnly(repo registry.Name) error {
	if p := c.limits().ReadOnly.Find(string(repo)); p != nil {
		return errReadOnly(p.String(), byConfig)
	}
	if f := c.maintenance.find(repo); f != nil {
		return errReadOnly(f.Repositories, f.Reason)
	}
	return nil
}

// byConfig is why what the config file names is read-only.
const byConfig = "storage.readOnly"

// errReadOnly is what a change of a read-only repository ends with. It is no
// failure of a service that passes: nobody should ask another replica, or again
// and again.
func errReadOnly(pattern, why string) error {
	return registry.ErrUnsupported.With("the repository is read-only for maintenance: %s (%s)", pattern, why)
}

const (
	sqlHasContentOf = `SELECT 1 FROM manifests WHERE repo_id = (SELECT id FROM repositories WHERE name = $1) LIMIT 1`

	// Counts no further than the limit.
	sqlCountRepos = `
		SELECT COUNT(*) FROM (
			SELECT 1 FROM repositories r WHERE EXISTS (SELECT 1 FROM manifests m WHERE m.repo_id = r.id) LIMIT $1) counted`
)

// countsRepos is the lock of who adds a repository to those that are counted. It
// comes behind all others.
func countsRepos() sqldb.Lock { return sqldb.Lock{Name: "number of repositories"} }

// admitRepo returns [registry.ErrTooManyRequests] if there are as many
// repositories as there may be. tx must hold countsRepos until it ends.
func (l *Limits) admitRepo(tx *sqldb.Tx) error {
	if l.MaxRepos <= 0 {
		return nil // there was a limit when the locks were taken
	}
	var n int
	if err := tx.QueryRow(sqlCountRepos, l.MaxRepos).Scan(&n); err != nil {
		return fmt.Errorf("counting repositories: %w", err)
	}
	if n < l.MaxRepos {
		return nil
	}
	return registry.ErrTooManyRequests.With("there are as many repositories as storage.maxRepos allows").
		Detailed(map[string]string{"limit": strconv.Itoa(l.MaxRepos)})
}
