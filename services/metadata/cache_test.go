package metadata

import (
	"fmt"
	"testing"
	"time"
)

func newTestCache(size int) (*rowCache[int], *commits) {
	c := new(commits)
	return newRowCache[int](c, size, 0, time.Now), c
}

func TestCacheIsBounded(t *testing.T) {
	const size, rows, cost = 1 << 20, 20_000, 1000
	c, _ := newTestCache(size)
	for i := range rows {
		c.fill(rowKey{"a", fmt.Sprint(i)}, i, cost, moment{})
	}
	used, kept := 0, 0
	for i := range c.shards {
		s := &c.shards[i]
		if s.room < 0 {
			t.Errorf("shard %d has used %d bytes too many", i, -s.room)
		}
		used += size/cacheShards - s.room
		kept += len(s.rows)
	}
	if used > size || used < size/2 {
		t.Errorf("%d bytes used, want nearly %d", used, size)
	}
	if kept < 500 || kept > size/cost {
		t.Errorf("%d rows kept", kept)
	}
	if _, ok := c.get(rowKey{"a", fmt.Sprint(rows - 1)}); !ok {
		t.Error("the latest row is gone")
	}
	c.fill(rowKey{"a", "huge"}, 1, size, moment{})
	if _, ok := c.get(rowKey{"a", "huge"}); ok {
		t.Error("a row larger than the cache was taken")
	}
}

func TestCacheDropsTheLeastRecentlyUsed(t *testing.T) {
	c, _ := newTestCache(cacheShards * 2000)
	var keys []rowKey // of one shard
	for i := 0; len(keys) < 4; i++ {
		k := rowKey{"a", fmt.Sprint(i)}
		if c.shard(k) == &c.shards[0] {
			keys = append(keys, k)
		}
	}
	for i, k := range keys[:3] {
		c.fill(k, i, 400, moment{})
	}
	c.get(keys[0])
	c.fill(keys[3], 3, 400, moment{})
	for i, want := range []bool{true, false, true, true} {
		if v, ok := c.get(keys[i]); ok != want || ok && v != i {
			t.Errorf("row %d: got %d, %v, want %v", i, v, ok, want)
		}
	}
}

func TestCacheRefusesOldRows(t *testing.T) {
	c, commits := newTestCache(1 << 20)
	k := rowKey{"a", "latest"}
	has := func(want bool) {
		t.Helper()
		if _, ok := c.get(k); ok != want {
			t.Errorf("in the cache: %v, want %v", ok, want)
		}
	}
	c.fill(k, 1, 1, moment{})
	has(true)
	before := moment{commits: commits.n.Load()}
	c.begin(k)
	has(false)
	c.fill(k, 1, 1, before)
	has(false) // the change may become visible any moment
	c.end(k, commits.n.Add(1))
	c.fill(k, 1, 1, before)
	has(false) // it was read before the change
	c.fill(k, 2, 1, moment{commits: commits.n.Load()})
	has(true)

	// Two changes at once, in one transaction.
	c.begin(k)
	c.begin(k)
	c.end(k, commits.n.Add(1))
	c.fill(k, 2, 1, moment{commits: commits.n.Load()})
	has(false)
	c.end(k, commits.n.Add(1))
	c.fill(k, 3, 1, moment{commits: commits.n.Load()})
	has(true)
}

// Where others change the database, a row is good for a time from the beginning
// of its read.
func TestCacheForgets(t *testing.T) {
	now := time.Unix(1000, 0)
	c := newRowCache[int](new(commits), 1<<20, time.Second, func() time.Time { return now })
	k := rowKey{"a", "latest"}
	begin := moment{time: now}
	now = now.Add(900 * time.Millisecond) // a slow read
	c.fill(k, 1, 1, begin)
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {100 * time.Millisecond, true}, {time.Millisecond, false}} {
		now = now.Add(step.after)
		if _, ok := c.get(k); ok != step.want {
			t.Errorf("%v after its read began: in the cache: %v, want %v", now.Sub(begin.time), ok, step.want)
		}
	}
}
