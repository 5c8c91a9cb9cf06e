package metadata

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

const (
	// usageEvery is the least time between two counts of what is stored.
	usageEvery = time.Minute
	// usageShare is which part of the time a count may keep a connection busy.
	usageShare = 10
	// usageWait is how long the first reader waits for the first count.
	usageWait = 500 * time.Millisecond
	// usagePage is how many rows a query of a count reads at most.
	usagePage = 1000
	// usageRepos is how many repositories are told by name, the largest.
	usageRepos = 100
)

const (
	sqlUsageBlobs     = `SELECT pool, digest, size FROM blobs WHERE (pool, digest) > ($1, $2) ORDER BY pool, digest LIMIT $3`
	sqlUsageRepos     = `SELECT name, id FROM repositories WHERE name > $1 ORDER BY name LIMIT $2`
	sqlUsageLinks     = `SELECT l.digest, b.size FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE l.repo_id = $1 AND l.digest > $2 ORDER BY l.digest LIMIT $3`
	sqlUsageManifests = `SELECT digest, size FROM manifests WHERE repo_id = $1 AND digest > $2 ORDER BY digest LIMIT $3`
)

// usage counts what is stored, for metrics. It counts when somebody reads them, at
// most every minute, in the background and in short queries with pauses between
// them, so that neither a reader nor anybody else waits for it. Who reads gets the
// figures of the last count that came to its end.
type usage struct {
	c     *Catalog
	ctx   context.Context // ends with the catalog
	run   sync.WaitGroup
	share int // usageShare, but for tests

	mu      sync.Mutex // guards the fields below
	running bool
	waited  bool // somebody waited for the first figures, in vain
	ended   time.Time
	first   chan struct{} // closed when there are figures
	last    *figures      // nil until there are
}

// figures are what a count found.
type figures struct {
	pools     map[registry.Pool]stored
	manifests stored
	repos     []repoUsage // the largest first; at most usageRepos
	others    int64       // bytes of all other repositories
	nRepos    int64
}

type stored struct{ number, bytes int64 }

type repoUsage struct {
	name  registry.Name
	bytes int64
}

func newUsage(ctx context.Context, c *Catalog, m *metrics.Set) *usage {
	u := &usage{c: c, ctx: ctx, share: usageShare, first: make(chan struct{})}
	gauge := func(name, help string, emit func(*metrics.Emitter, *figures)) {
		m.Collect(metrics.GaugeKind, name, help, func(e *metrics.Emitter) {
			if f := u.read(); f != nil {
				emit(e, f)
			}
		})
	}
	gauge("zot_storage_bytes", "Bytes of all blobs and manifests in use, each counted once; at most some minutes old.", func(e *metrics.Emitter, f *figures) {
		total := f.manifests.bytes
		for _, p := range f.pools {
			total += p.bytes
		}
		e.Emit(float64(total))
	})
	gauge("zot_repo_storage_bytes", "Bytes of blobs and manifests that a repository has, shared ones too. Of the largest repositories; all others count as "+metrics.Other+".", func(e *metrics.Emitter, f *figures) {
		for _, r := range f.repos {
			e.Emit(float64(r.bytes), "repo", string(r.name))
		}
		e.Emit(float64(f.others), "repo", metrics.Other)
	})
	gauge("berth_blobs", "Blobs in use.", func(e *metrics.Emitter, f *figures) {
		for name, p := range f.pools {
			e.Emit(float64(p.number), "pool", poolLabel(name))
		}
	})
	gauge("berth_blob_bytes", "Bytes of blobs in use.", func(e *metrics.Emitter, f *figures) {
		for name, p := range f.pools {
			e.Emit(float64(p.bytes), "pool", poolLabel(name))
		}
	})
	gauge("berth_manifests", "Manifests, each counted in every repository that has it.", func(e *metrics.Emitter, f *figures) { e.Emit(float64(f.manifests.number)) })
	gauge("berth_repositories", "Repositories.", func(e *metrics.Emitter, f *figures) { e.Emit(float64(f.nRepos)) })
	return u
}

func poolLabel(name registry.Pool) string { return cmp.Or(string(name), "default") }

// read returns the last figures, nil if there are none yet, and starts a count if
// they are old.
func (u *usage) read() *figures {
	u.mu.Lock()
	if !u.running && u.ctx.Err() == nil && (u.last == nil || time.Since(u.ended) >= usageEvery) {
		u.running = true
		u.run.Go(u.count)
	}
	last, wait := u.last, !u.waited
	u.mu.Unlock()
	if last != nil || !wait {
		return last
	}
	limit := time.NewTimer(usageWait)
	defer limit.Stop()
	select {
	case <-u.first:
	case <-limit.C:
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waited = true
	return u.last
}

// close waits for the count in progress. The context has ended.
func (u *usage) close() {
	u.mu.Lock() // who saw the context alive has begun by now
	u.running = true
	u.mu.Unlock()
	u.run.Wait()
}

// count counts once.
func (u *usage) count() {
	f, err := u.figures()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.running = false
	u.ended = time.Now()
	switch {
	case u.ctx.Err() != nil:
	case err != nil:
		u.c.log.Warn("counting what is stored", "error", err)
	default:
		if u.last == nil {
			close(u.first)
		}
		u.last = f
	}
}

func (u *usage) figures() (*figures, error) {
	f := &figures{pools: map[registry.Pool]stored{"": {}}}
	pool, digest := "", []byte{}
	err := u.pages(sqlUsageBlobs, func() []any { return []any{pool, digest, usagePage} }, func(scan func(...any) error) error {
		var size int64
		if err := scan(&pool, &digest, &size); err != nil {
			return err
		}
		p := f.pools[registry.Pool(pool)]
		f.pools[registry.Pool(pool)] = stored{p.number + 1, p.bytes + size}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, u.repositories(f)
}

// repositories counts what each repository has.
func (u *usage) repositories(f *figures) error {
	last := ""
	for {
		var names []string
		var ids []int64
		// One page at a time: what is in it is counted before the next is read.
		err := u.page(sqlUsageRepos, []any{last, usagePage}, func(scan func(...any) error) error {
			var id int64
			if err := scan(&last, &id); err != nil {
				return err
			}
			names, ids = append(names, last), append(ids, id)
			return nil
		})
		if err != nil {
			return err
		}
		for i, id := range ids {
			blobs, err := u.sum(sqlUsageLinks, id)
			if err != nil {
				return err
			}
			manifests, err := u.sum(sqlUsageManifests, id)
			if err != nil {
				return err
			}
			f.manifests.number += manifests.number
			f.manifests.bytes += manifests.bytes
			f.nRepos++
			f.add(repoUsage{registry.Name(names[i]), blobs.bytes + manifests.bytes})
		}
		if len(ids) < usagePage {
			return nil
		}
	}
}

// add keeps r if it is one of the largest.
func (f *figures) add(r repoUsage) {
	at, _ := slices.BinarySearchFunc(f.repos, r, func(a, b repoUsage) int { return cmp.Compare(b.bytes, a.bytes) })
	f.repos = slices.Insert(f.repos, at, r)
	if len(f.repos) > usageRepos {
		f.others += f.repos[usageRepos].bytes
		f.repos = f.repos[:usageRepos]
	}
}

// sum adds up what a repository has of one kind.
func (u *usage) sum(query string, repo int64) (stored, error) {
	var s stored
	digest := []byte{}
	err := u.pages(query, func() []any { return []any{repo, digest, usagePage} }, func(scan func(...any) error) error {
		var size int64
		err := scan(&digest, &size)
		s.number++
		s.bytes += size
		return err
	})
	return s, err
}

// pages runs a query again and again, from where args says, until a page is not
// full.
func (u *usage) pages(query string, args func() []any, row func(scan func(...any) error) error) error {
	for {
		n := 0
		err := u.page(query, args(), func(scan func(...any) error) error {
			n++
			return row(scan)
		})
		if err != nil || n < usagePage {
			return err
		}
	}
}

// page runs a query, and pauses so that counting leaves most of the time to
// others.
func (u *usage) page(query string, args []any, row func(scan func(...any) error) error) error {
	began := time.Now()
	if err := u.rows(query, args, row); err != nil {
		return fmt.Errorf("counting what is stored: %w", err)
	}
	pause := time.NewTimer(time.Since(began) * time.Duration(u.share-1))
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-u.ctx.Done():
		return u.ctx.Err()
	}
}

func (u *usage) rows(query string, args []any, row func(scan func(...any) error) error) error {
	rows, err := u.c.db.Query(u.ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
