package metadata

import (
	"time"

	"github.com/berth-registry/berth/registry"
)

// GC says when content that nothing needs is removed from a pool, or from all
// pools. The zero value means the defaults.
type GC struct {
	// Off keeps everything.
	Off bool
	// Lease is how long content that nothing refers to may be used after an upload,
	// a mount, or an answer that it is there. 0 means [Options.Lease].
	Lease time.Duration
	// Undo is how long a delete or a moved tag can be undone. It is never less
	// than the lease. 0 means 24 hours.
	Undo time.Duration
	// Interval is the time between two sweeps for content that should have been
	// queued for review and was not. 0 means one hour, less than 0 that there is
	// one sweep, when the catalog is opened.
	Interval time.Duration
	// From and To are minutes of the day, in UTC, between which something may be
	// removed; the window may wrap midnight. If they are equal there is none.
	From, To int
}

// Times of the protocol, see docs/adr/0023-garbage-collection.md.
const (
	defaultLease    = 10 * time.Minute
	defaultUndo     = 24 * time.Hour
	defaultInterval = time.Hour
	onlyAtStart     = time.Duration(-1)
	// fence is the time between condemning a copy and giving it up, for requests
	// that read its place before.
	fence = time.Minute
)

// policy returns what holds for a pool.
func (c *Catalog) policy(p registry.Pool) GC { return c.policyOf(c.policies.Load(), p) }

func (c *Catalog) policyOf(now *policies, p registry.Pool) GC {
	g, ok := now.poolGC[p]
	if !ok {
		g = now.gc
	}
	if g.Lease == 0 {
		g.Lease = c.opt.Lease
	}
	if g.Undo == 0 {
		g.Undo = defaultUndo
	}
	if g.Interval == 0 {
		g.Interval = defaultInterval
	}
	return g
}

// collects reports whether garbage is collected in a pool. It is not until a lease after
// that was switched on: before, nobody who was told that content is there was promised
// anything.
func (c *Catalog) collects(p registry.Pool) bool {
	now := c.policies.Load()
	g := c.policyOf(now, p)
	began, later := now.began[p]
	return !g.Off && (!later || c.now() >= began+(g.Lease+c.opt.MaxStaleness).Microseconds())
}

// poolOf returns the pool of a repository.
func (c *Catalog) poolOf(repo registry.Name) registry.Pool { return registry.PoolOf(repo, c.opt.Pools) }

// pools returns all pools, the default one first.
func (c *Catalog) pools() []registry.Pool {
	all := []registry.Pool{""}
	for _, p := range c.opt.Pools {
		if p != "" {
			all = append(all, p)
		}
	}
	return all
}

// promise returns until when content of a pool is promised that is handed to
// somebody now. It is twice the lease, so that the promise has to be renewed only
// when half of it is over and is then still good for a whole lease.
func (c *Catalog) promise(p registry.Pool) int64 { return c.promiseAt(p, c.now()) }

// promiseAt is promise for a transaction that has read the clock before.
func (c *Catalog) promiseAt(p registry.Pool, now int64) int64 {
	return now + 2*c.ahead(p).Microseconds()
}

// ahead is how long content has to be promised when somebody is told of it: a lease,
// which begins when a client hears of it, and a gateway may tell it again for half of
// MaxStaleness.
func (c *Catalog) ahead(p registry.Pool) time.Duration {
	return c.policy(p).Lease + c.opt.MaxStaleness/2
}

// renewal returns the moment before which a promise has to end for it to be
// renewed: who reads it now can use the content for a lease.
func (c *Catalog) renewal(p registry.Pool) int64 {
	return c.opt.Now().Add(c.ahead(p)).UnixMicro()
}

// dropped returns when content is looked at that loses a reference now. Until
// then those can use it who were told that it is there while it needed no promise.
func (c *Catalog) dropped(p registry.Pool) int64 { return c.droppedAt(p, c.now()) }

// droppedAt is dropped for a transaction that has read the clock before: what it
// queues must not be over by what the clock said then, and it may be set meanwhile.
func (c *Catalog) droppedAt(p registry.Pool, now int64) int64 {
	return now + (c.policy(p).Lease + c.opt.MaxStaleness).Microseconds()
}

// undoable returns until when a delete, or a change of a tag, of now can be undone.
func (c *Catalog) undoable(p registry.Pool) int64 {
	g := c.policy(p)
	return c.opt.Now().Add(c.relieved(p, max(g.Undo, g.Lease), g.Lease) + c.opt.MaxStaleness).UnixMicro()
}

// open reports whether something may be removed at a time of day.
func (g GC) open(now time.Time) bool {
	if g.From == g.To {
		return true
	}
	now = now.UTC()
	minute := now.Hour()*60 + now.Minute()
	if g.From < g.To {
		return g.From <= minute && minute < g.To
	}
	return g.From <= minute || minute < g.To
}

// fence is how long after it was condemned a copy is given up.
func (c *Catalog) fence() time.Duration { return fence + c.opt.MaxStaleness }
