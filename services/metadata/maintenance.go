package metadata

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlMaintenance      = `SELECT repositories, reason, actor, since FROM maintenance ORDER BY repositories LIMIT $1`
	sqlSetMaintenance   = `INSERT INTO maintenance (repositories, reason, actor, since) VALUES ($1, $2, $3, $4) ON CONFLICT (repositories) DO UPDATE SET reason = excluded.reason, actor = excluded.actor, since = excluded.since`
	sqlClearMaintenance = `DELETE FROM maintenance WHERE repositories = $1`
)

// maintenance is what was made read-only while the registry runs, as the database
// said when it was read last.
type maintenance struct{ current atomic.Pointer[[]frozen] }

type frozen struct {
	registry.ReadOnly
	pattern *glob.Pattern
}

// find returns what makes a repository read-only, nil if nothing does.
func (m *maintenance) find(repo registry.Name) *frozen {
	if all := m.current.Load(); all != nil {
		for i := range *all {
			if f := &(*all)[i]; f.pattern.Match(string(repo)) {
				return f
			}
		}
	}
	return nil
}

// readMaintenance reads what is read-only.
func (c *Catalog) readMaintenance(ctx context.Context) error {
	var all []frozen
	_, err := c.page(ctx, sqlMaintenance, []any{registry.MaxReadOnlys}, func(rows *sqldb.Rows) error {
		var f frozen
		err := rows.Scan(&f.Repositories, &f.Reason, &f.Actor, &f.Since)
		if err == nil {
			f.pattern, err = glob.Compile(f.Repositories)
		}
		all = append(all, f)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading what is read-only: %w", err)
	}
	c.maintenance.current.Store(&all)
	return nil
}

// followMaintenance learns what other processes make read-only, until ctx ends.
func (c *Catalog) followMaintenance(ctx context.Context) {
	for c.sleep(ctx, c.opt.Follow) {
		if err := c.readMaintenance(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("following maintenance", "error", err)
		}
	}
}

// ReadOnlys lists what is read-only.
func (c *Catalog) ReadOnlys(ctx context.Context, a registry.Actor) ([]registry.ReadOnly, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return nil, err
	}
	if err := c.readMaintenance(ctx); err != nil {
		return nil, err
	}
	var list []registry.ReadOnly
	for _, p := range c.limits().ReadOnly {
		list = append(list, registry.ReadOnly{Repositories: p.String(), Reason: byConfig})
	}
	for _, f := range *c.maintenance.current.Load() {
		list = append(list, f.ReadOnly)
	}
	return list, nil
}

// SetReadOnly makes repositories read-only.
func (c *Catalog) SetReadOnly(ctx context.Context, a registry.Actor, r registry.ReadOnly) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	if _, err := glob.Compile(r.Repositories); err != nil {
		return registry.ErrParameterInvalid.With("repositories: %v", err)
	}
	if len(r.Reason) > registry.MaxReason {
		return registry.ErrTooLarge.With("a reason has at most %d bytes", registry.MaxReason)
	}
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "maintenance"}); err != nil {
			return err
		}
		others := 0
		err := tx.Run(sqldb.Statement{Text: sqlMaintenance, Args: []any{registry.MaxReadOnlys}, Row: func(scan func(dest ...any) error) error {
			var x registry.ReadOnly
			err := scan(&x.Repositories, &x.Reason, &x.Actor, &x.Since)
			if x.Repositories != r.Repositories {
				others++
			}
			return err
		}})
		if err != nil {
			return err
		}
		if others >= registry.MaxReadOnlys {
			return registry.ErrTooLarge.With("there are %d patterns already", others)
		}
		return tx.Queue(sqlSetMaintenance, r.Repositories, r.Reason, a.ID, c.now())
	})
	if err != nil {
		return err
	}
	c.log.InfoContext(ctx, "repositories are read-only", "repositories", r.Repositories, "reason", r.Reason, "actor", a.ID)
	return c.readMaintenance(ctx)
}

// ClearReadOnly lets repositories be changed again.
func (c *Catalog) ClearReadOnly(ctx context.Context, a registry.Actor, repositories string) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(sqldb.Lock{Name: "maintenance"}); err != nil {
			return err
		}
		return tx.Queue(sqlClearMaintenance, repositories)
	})
	if err != nil {
		return err
	}
	c.log.InfoContext(ctx, "repositories are not read-only any more", "repositories", repositories, "actor", a.ID)
	return c.readMaintenance(ctx)
}
