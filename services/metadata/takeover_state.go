package metadata

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// States of an adoption. Without a row it has none.
const (
	adoptionNone     = -1
	adoptionBegun    = 0
	adoptionDone     = 1
	adoptionRemoving = 2
)

// maxProblems is how many problems of a repository are kept as text.
const maxProblems = 100

// adoption is how far the take-over of a repository is.
type adoption struct {
	repo  registry.Name
	pool  registry.Pool
	state int
	stamp string // of the index, as [registry.Layouts] has it
	hash  string // of the index
	problems
}

// settled reports whether nothing is to be done while the index has this stamp.
func (a adoption) settled(stamp string) bool {
	return a.state == adoptionRemoving || a.state == adoptionDone && a.stamp == stamp
}

// problems are what could not be taken over, or differs from what the index says.
type problems struct {
	count int
	list  []string // the first of them
}

func (p *problems) add(format string, args ...any) {
	p.count++
	if len(p.list) < maxProblems {
		p.list = append(p.list, fmt.Sprintf(format, args...))
	}
}

const (
	sqlAdoption     = `SELECT repo, pool, state, stamp, hash, problem_count, problems FROM adoptions WHERE repo = $1`
	sqlAdoptions    = `SELECT repo, pool, state, stamp, hash, problem_count, problems FROM adoptions WHERE repo > $1 ORDER BY repo LIMIT $2`
	sqlSaveAdoption = `
		INSERT INTO adoptions (repo, pool, state, stamp, hash, problem_count, problems, updated)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (repo) DO UPDATE SET pool = excluded.pool, state = excluded.state, stamp = excluded.stamp, hash = excluded.hash,
			problem_count = excluded.problem_count, problems = excluded.problems, updated = excluded.updated
		WHERE adoptions.state <> 2`
)

func scanAdoption(row interface{ Scan(...any) error }) (adoption, error) {
	var (
		a    adoption
		list string
	)
	if err := row.Scan(&a.repo, &a.pool, &a.state, &a.stamp, &a.hash, &a.count, &list); err != nil {
		return a, err
	}
	return a, json.Unmarshal([]byte(list), &a.list)
}

// readAdoption returns how far repo is.
func (c *Catalog) readAdoption(ctx context.Context, repo registry.Name) (adoption, error) {
	a, err := scanAdoption(c.db.QueryRow(ctx, sqlAdoption, string(repo)))
	if errors.Is(err, sql.ErrNoRows) {
		return adoption{repo: repo, pool: registry.PoolOf(repo, c.opt.Pools), state: adoptionNone}, nil
	}
	if err != nil {
		return a, fmt.Errorf("reading what was taken over: %w", err)
	}
	return a, nil
}

// adoptionPage returns some of the adoptions behind a repository.
func (c *Catalog) adoptionPage(ctx context.Context, after registry.Name, limit int) ([]adoption, error) {
	rows, err := c.db.Query(ctx, sqlAdoptions, string(after), limit)
	if err != nil {
		return nil, fmt.Errorf("reading what was taken over: %w", err)
	}
	defer rows.Close()
	var page []adoption
	for rows.Next() {
		a, err := scanAdoption(rows)
		if err != nil {
			return nil, fmt.Errorf("reading what was taken over: %w", err)
		}
		page = append(page, a)
	}
	return page, rows.Err()
}

// saveAdoption notes how far a repository is, unless its files are being removed.
func (c *Catalog) saveAdoption(ctx context.Context, a adoption) error {
	if a.list == nil {
		a.list = []string{}
	}
	list, err := json.Marshal(a.list)
	if err != nil {
		return err
	}
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(usesRepo(a.repo)); err != nil {
			return err
		}
		return tx.Queue(sqlSaveAdoption, string(a.repo), string(a.pool), a.state, a.stamp, a.hash, a.count, string(list), c.now())
	})
}
