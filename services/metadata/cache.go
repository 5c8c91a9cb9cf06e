package metadata

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
)

// rowKey names a row of a repository: a tag or a digest.
type rowKey struct {
	repo registry.Name
	ref  string
}

// commits counts the changes of this process that concern cached rows.
type commits struct{ n atomic.Uint64 }

// moment is when a read began.
type moment struct {
	commits uint64
	time    time.Time
}

// rowCache keeps rows that were read, least recently used out first.
//
// A change to a row calls begin before its transaction is committed and end
// after it, before anyone is told. Between the two the row is not in the cache
// and can't get into it: all readers go to the database, which shows the old
// row up to one moment and the new row from then on. A row read before that
// moment may come to fill later than end; so fill is told the number of commits
// from before the read, and refuses if the row may have changed since.
type rowCache[V any] struct {
	commits *commits
	fresh   time.Duration // how long a row is good; 0: until it is changed
	now     func() time.Time
	seed    maphash.Seed
	shards  [cacheShards]cacheShard[V]
}

const cacheShards = 16

type cacheShard[V any] struct {
	mu      sync.Mutex // guards the fields below
	rows    map[rowKey]*cacheRow[V]
	recent  cacheRow[V] // the ring of rows: next is the latest used, prev the oldest
	room    int         // bytes left
	changed uint64      // number of the last commit that changed a row of the shard
	pending int         // changes between begin and end
}

type cacheRow[V any] struct {
	key        rowKey
	value      V
	cost       int
	until      time.Time // zero: good until it is changed
	prev, next *cacheRow[V]
}

// newRowCache returns a cache for about size bytes.
func newRowCache[V any](c *commits, size int, fresh time.Duration, now func() time.Time) *rowCache[V] {
	r := &rowCache[V]{commits: c, fresh: fresh, now: now, seed: maphash.MakeSeed()}
	for i := range r.shards {
		s := &r.shards[i]
		s.rows = make(map[rowKey]*cacheRow[V])
		s.recent.prev, s.recent.next = &s.recent, &s.recent
		s.room = size / cacheShards
	}
	return r
}

// maxCost is the cost of the largest row that a cache of size bytes takes, so
// that one row can't push out all others.
func maxCost(size int) int { return size / cacheShards / 4 }

func (c *rowCache[V]) shard(k rowKey) *cacheShard[V] {
	return &c.shards[maphash.Comparable(c.seed, k)%cacheShards]
}

func (c *rowCache[V]) get(k rowKey) (V, bool) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[k]
	if r == nil || !r.until.IsZero() && c.now().After(r.until) {
		var none V
		return none, false
	}
	r.unlink()
	r.linkAfter(&s.recent)
	return r.value, true
}

// fill adds a row whose read began at a moment.
func (c *rowCache[V]) fill(k rowKey, v V, cost int, at moment) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending > 0 || s.changed > at.commits {
		return
	}
	cost += len(k.repo) + len(k.ref) + 200 // what the map and the ring need
	s.remove(k)
	for s.room < cost && s.recent.prev != &s.recent {
		s.remove(s.recent.prev.key)
	}
	if s.room < cost {
		return
	}
	s.room -= cost
	r := &cacheRow[V]{key: k, value: v, cost: cost}
	if c.fresh > 0 {
		r.until = at.time.Add(c.fresh)
	}
	r.linkAfter(&s.recent)
	s.rows[k] = r
}

func (c *rowCache[V]) begin(k rowKey) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending++
	s.remove(k)
}

// end ends a change that is the number of commits n, or an attempt at it.
func (c *rowCache[V]) end(k rowKey, n uint64) {
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending--
	s.changed = max(s.changed, n)
}

// beginAll is begin for all rows.
func (c *rowCache[V]) beginAll() {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.pending++
		for k := range s.rows {
			s.remove(k)
		}
		s.mu.Unlock()
	}
}

// endAll is end for all rows.
func (c *rowCache[V]) endAll(n uint64) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		s.pending--
		s.changed = max(s.changed, n)
		s.mu.Unlock()
	}
}

func (s *cacheShard[V]) remove(k rowKey) {
	r := s.rows[k]
	if r == nil {
		return
	}
	delete(s.rows, k)
	r.unlink()
	s.room += r.cost
}

func (r *cacheRow[V]) unlink() {
	r.prev.next, r.next.prev = r.next, r.prev
}

func (r *cacheRow[V]) linkAfter(p *cacheRow[V]) {
	r.prev, r.next = p, p.next
	p.next.prev = r
	p.next = r
}
