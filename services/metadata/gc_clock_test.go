package metadata_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// unsteadyClock is a clock that is set back while somebody works by it.
type unsteadyClock struct {
	*handClock
	left int // readings until it is set back, guarded by mu
}

// setBack is how far an unsteady clock is set back.
const setBack = 30 * 24 * time.Hour

func (c *unsteadyClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.at = c.at.Add(-setBack)
	}
	return c.at
}

// setBackAfter lets the clock be set back before the nth reading from now, never if
// n is 0, and returns how many readings of those before are left.
func (c *unsteadyClock) setBackAfter(n int) (left int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	left, c.left = c.left, n
	return left
}

// G10: whenever the clock is set back while something is collected, what nothing
// needs stays queued, and nothing is looked at without end.
func TestG10SetBackAtEachReading(t *testing.T) { onEach(t, testG10SetBackAtEachReading) }

func testG10SetBackAtEachReading(t *testing.T, at newPlace) {
	clock := &unsteadyClock{handClock: newClock()}
	s := openStore(t, at(t), metadata.Options{Now: clock.now, GC: metadata.GC{Undo: undo}}, nil) // nobody else collects
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	collect := func() {
		t.Helper()
		done, err := metadata.CollectAll(t.Context(), s.Catalog, false) // for a minute at most
		must("collecting", err)
		if done.Reviews > 1000 {
			t.Fatalf("the collector turned %d times", done.Reviews)
		}
	}
	readings := 1
	for left := 0; left <= 0; readings++ {
		repo, gone := registry.Name(fmt.Sprint("r", readings)), registry.Name(fmt.Sprint("gone", readings))
		// What is needed and what needs it are looked at together, in the order of
		// their digests.
		var children []registry.ManifestPut
		for i := range 8 {
			text, tags := fmt.Sprint(repo, i), []registry.Tag{}
			if i < 4 {
				tags = append(tags, registry.Tag(fmt.Sprint("t", i)))
			}
			m := pushImage(t, s, repo, text, tags...)
			put(t, s, repo, referrer(blob("config of "+text), "application/x-signature", m))
			if i < 4 {
				children = append(children, m)
			}
		}
		put(t, s, repo, index(children, "multi"))
		for _, tag := range []registry.Tag{"t0", "t1", "t2", "t3", "multi"} {
			must("DeleteTag", s.DeleteTag(t.Context(), alice, repo, tag, registry.Condition{}))
		}
		pushImage(t, s, gone, string(gone), "latest")
		must("DeleteRepository", s.DeleteRepository(t.Context(), alice, gone))
		must("Purge", s.Purge(t.Context(), alice, gone))

		clock.move(undo + 2*lease)
		clock.setBackAfter(readings)
		for range 3 { // index, children, referrers
			collect()
		}
		left = clock.setBackAfter(0)
		for range 8 { // all that follows from each other
			clock.move(setBack)
			collect()
		}
		for _, table := range []string{"manifests", "links", "blobs", "trash", "repositories", "deleted_repositories", "reviews"} {
			var n int
			must(table, s.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM `+table).Scan(&n))
			if n > 0 {
				t.Errorf("set back at reading %d: %d rows are left of %s", readings, n, table)
			}
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("set back at each of %d readings", readings-1)
}
