package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

const sqlRepos = `SELECT name FROM repositories WHERE name > $1 ORDER BY name LIMIT $2`

// Repositories lists the repositories that a may read.
func (c *Catalog) Repositories(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	list := registry.List[registry.Name]{}
	limit, err := pageLimit(p)
	if err != nil {
		return list, err
	}
	for after := p.After; ; {
		names, err := c.repoNames(ctx, after, limit+1)
		if err != nil {
			return registry.List[registry.Name]{}, fmt.Errorf("listing repositories: %w", err)
		}
		for _, n := range names {
			if c.access.allow(a, n, registry.ActRead) != nil {
				continue
			}
			if len(list.Items) == limit {
				list.More = true
				return list, nil
			}
			list.Items = append(list.Items, n)
		}
		if len(names) <= limit {
			return list, nil
		}
		after = names[len(names)-1]
	}
}

func (c *Catalog) repoNames(ctx context.Context, after registry.Name, limit int) ([]registry.Name, error) {
	rows, err := c.db.Query(ctx, sqlRepos, string(after), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []registry.Name
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, err
		}
		names = append(names, registry.Name(n))
	}
	return names, rows.Err()
}

// Admit says whether a may upload to repo, and into which pool.
func (c *Catalog) Admit(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Pool, error) {
	if err := c.allowChange(a, repo, registry.ActCreate); err != nil {
		return "", err
	}
	if err := c.roomFor(ctx, repo); err != nil {
		return "", err
	}
	return registry.PoolOf(repo, c.opt.Pools), ctx.Err()
}

// pageLimit returns the limit of a page, or [registry.ErrPageInvalid].
func pageLimit[T ~string](p registry.Page[T]) (int, error) {
	if p.Limit < 1 || p.Limit > registry.MaxPage {
		return 0, registry.ErrPageInvalid.With("a page has 1 to %d entries", registry.MaxPage)
	}
	return p.Limit, nil
}
