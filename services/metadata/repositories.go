package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

const (
	sqlRepos     = `SELECT name FROM repositories WHERE name > $1 ORDER BY name LIMIT $2`
	sqlReposFrom = `SELECT name FROM repositories WHERE name >= $1 ORDER BY name LIMIT $2`
)

// scanPage is how many names are read at a time where some can't be seen.
const scanPage = 1000

// Repositories lists the repositories that a may read.
func (c *Catalog) Repositories(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	list := registry.List[registry.Name]{}
	limit, err := pageLimit(p)
	if err != nil {
		return list, err
	}
	v := c.access.viewer(a)
	query, after, n := sqlRepos, p.After, limit+1
	for {
		if at, ok := v.Next(after); !ok {
			return list, nil
		} else if at != after {
			query, after = sqlReposFrom, at
		}
		names, err := c.repoNames(ctx, query, after, n)
		if err != nil {
			return registry.List[registry.Name]{}, fmt.Errorf("listing repositories: %w", err)
		}
		for _, name := range names {
			if !v.Sees(name) {
				continue
			}
			if len(list.Items) == limit {
				list.More = true
				return list, nil
			}
			list.Items = append(list.Items, name)
		}
		if len(names) < n {
			return list, nil
		}
		query, after, n = sqlRepos, names[len(names)-1], max(limit+1, scanPage)
	}
}

func (c *Catalog) repoNames(ctx context.Context, query string, after registry.Name, limit int) ([]registry.Name, error) {
	rows, err := c.db.Query(ctx, query, string(after), limit)
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
