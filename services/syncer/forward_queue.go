package syncer

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
)

const (
	// forwardsAtOnce is how many pushes of a rule are passed on at a time, each of another
	// repository: one that hangs or takes long holds up only those of its own.
	forwardsAtOnce = 4
	// failuresMost is how many attempts fail one after the other until the whole registry
	// is taken to be out of reach: then one is made at a time, each time for another lane.
	failuresMost = 4
	// The time between attempts doubles from retryFirst to retryMost.
	retryFirst = time.Second
	retryMost  = time.Minute
)

// lane is what is passed on in the order it was pushed: the versions of a tag. What is
// pushed by its digest has no order.
type lane struct {
	repo   registry.Name
	tag    registry.Tag
	digest registry.Digest // of what has no tag
}

func laneOf(r forwardRow) lane {
	if r.tag != "" {
		return lane{repo: r.repo, tag: r.tag}
	}
	return lane{repo: r.repo, digest: r.digest}
}

// pause is the time until the next attempt.
type pause struct {
	seq   int64 // of the push whose attempt has failed: another one may be first by now
	until time.Time
	last  time.Duration
}

// longer is the pause after one more failure.
func (p pause) longer(now time.Time) pause {
	p.last = min(max(2*p.last, retryFirst), retryMost)
	p.until = now.Add(p.last)
	return p
}

// queue passes on what a rule owes. One goroutine has it.
type queue struct {
	s        *Service
	r        *Rule
	busy     map[registry.Name]bool // repositories of which something is being passed on
	pauses   map[lane]pause         // of those that have failed
	failures int                    // attempts that failed since the last one that did not
	rest     pause                  // of all, while the registry seems to be out of reach
	ended    chan attempt
}

// attempt says how one ended.
type attempt struct {
	row  forwardRow
	over bool // the push need not be looked at again
}

// forwardAll passes on what a rule owes until ctx ends.
func (s *Service) forwardAll(ctx context.Context, r *Rule) {
	q := &queue{s: s, r: r, busy: make(map[registry.Name]bool), pauses: make(map[lane]pause), ended: make(chan attempt)}
	defer func() {
		for len(q.busy) > 0 {
			q.note(<-q.ended)
		}
	}()
	var compare <-chan time.Time
	if r.Compare > 0 {
		ticker := time.NewTicker(r.Compare)
		defer ticker.Stop()
		compare = ticker.C
	}
	for ctx.Err() == nil {
		at := q.start(ctx) // of the next look; zero: when something happens
		if poll := time.Now().Add(refreshEvery); s.shared && (at.IsZero() || poll.Before(at)) {
			at = poll // who takes a push elsewhere does not wake us
		}
		var due <-chan time.Time
		timer := time.NewTimer(time.Until(at))
		if !at.IsZero() {
			due = timer.C
		}
		select {
		case a := <-q.ended:
			q.note(a)
		case <-due:
		case <-r.state.forward:
			if r.state.tryNow.Swap(false) {
				clear(q.pauses)
				q.failures, q.rest = 0, pause{}
			}
		case <-compare:
			if err := s.compareTags(ctx, r); err != nil && ctx.Err() == nil {
				s.log.Warn("what is here could not be compared with what was passed on", "rule", r.Name, "error", err)
			}
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// start begins as many attempts as may be made at a time, and returns when the next one
// is due, zero if nothing is.
func (q *queue) start(ctx context.Context) time.Time {
	for !q.r.state.paused.Load() {
		most := forwardsAtOnce
		if q.failures >= failuresMost {
			most = 1
		}
		if len(q.busy) >= most {
			return time.Time{}
		}
		if time.Now().Before(q.rest.until) {
			return q.rest.until
		}
		row, ok, at, err := q.next(ctx)
		if err != nil {
			if ctx.Err() == nil {
				q.s.log.Warn("what is to be passed on could not be read", "rule", q.r.Name, "error", err)
			}
			return time.Now().Add(retryMost)
		}
		if !ok {
			return at
		}
		q.begin(ctx, row)
	}
	return time.Time{}
}

// begin makes an attempt, unless the rule was paused before row was read: it may have
// been pushed after that.
func (q *queue) begin(ctx context.Context, row forwardRow) {
	if q.r.state.paused.Load() {
		return
	}
	q.busy[row.repo] = true
	go func() { q.ended <- attempt{row, q.s.forward(ctx, q.r, row)} }()
}

// next returns the first push that may be passed on now: none of its lane is before it,
// and none of its repository is on its way. If there is none it returns when one may be,
// zero if that does not depend on time.
func (q *queue) next(ctx context.Context) (row forwardRow, ok bool, at time.Time, err error) {
	now, clock := time.Now(), q.s.now()
	seen := make(map[lane]bool)
	// The removal of a manifest is about all tags of the repository: it waits for what is
	// before it there, and what is behind waits for it.
	begun, barred := make(map[registry.Name]bool), make(map[registry.Name]bool)
	later := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	for after, limit := int64(0), 16; ; limit = min(4*limit, maxForwardPage) {
		rows, err := q.s.store.openForwards(ctx, q.r.Name, after, q.busy, limit)
		if err != nil {
			return row, false, at, err
		}
		for _, row := range rows {
			after = row.seq
			l, whole := laneOf(row), row.deletion && row.tag == ""
			waits := seen[l] || barred[row.repo] || whole && begun[row.repo]
			seen[l], begun[row.repo], barred[row.repo] = true, true, barred[row.repo] || whole
			if waits {
				continue
			}
			p, age := q.pauses[l], clock.Sub(row.since)
			switch {
			case p.seq == row.seq && now.Before(p.until):
				later(p.until)
			// Somebody is storing it. It may be younger than nothing: announced since clock was
			// read, or by a clock that is ahead of ours.
			case row.state == registry.ForwardAnnounced && age.Abs() < settleTime:
				later(now.Add(min(time.Second, settleTime-age)))
			default:
				return row, true, at, nil
			}
		}
		if len(rows) < limit {
			break
		}
	}
	if len(seen)+len(q.busy) == 0 {
		clear(q.pauses)
	}
	return row, false, at, nil
}

// note draws the conclusions of an attempt.
func (q *queue) note(a attempt) {
	delete(q.busy, a.row.repo)
	l := laneOf(a.row)
	if a.over {
		delete(q.pauses, l)
		q.failures, q.rest = 0, pause{}
		return
	}
	now := time.Now()
	p := q.pauses[l]
	if p.seq != a.row.seq {
		p = pause{seq: a.row.seq}
	}
	q.pauses[l] = p.longer(now)
	if q.failures++; q.failures >= failuresMost {
		q.rest = q.rest.longer(now)
	}
}
