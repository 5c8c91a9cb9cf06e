package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/sqldb"
)

// How often the journal is written, besides whenever there are [feedBatch] events,
// and how often all of the catalog is.
const (
	journalFirst  = time.Second // after the start
	journalEvery  = 10 * time.Second
	snapshotEvery = 24 * time.Hour
)

// On a shared database one process at a time writes the journal, for a term that
// it takes anew for each object.
const journalTerm = 60 * time.Second

// journalReader is the journal's name among the readers of the feed.
const journalReader = "journal"

// journal writes what happens in the catalog into the blobstore, so that the
// catalog can be made again from there. The names of its objects are in
// journal_names.go.
type journal struct {
	c       *Catalog
	objects registry.Journal
	lease   *sqldb.Lease
	fails   int // how often writing has failed since it last did not

	mu    sync.Mutex // held while the journal is written; guards the fields below
	state journalState
	wrote time.Time // when segments were last written, in the midst of a snapshot

	behind atomic.Int64 // when the oldest event happened that is not written; 0: none
	errors *metrics.Counter
}

// journalState is what the journal keeps with its place in the feed.
type journalState struct {
	Line string `json:"line"`
	// Snapshot and Previous are the places of the last two complete snapshots.
	Snapshot *Position `json:"snapshot,omitempty"`
	Previous *Position `json:"previous,omitempty"`
	// Taken is when the last one was taken, microseconds since 1970.
	Taken int64 `json:"taken"`
	// Verified says that the line's end was compared with what is stored. It holds
	// for one process.
	verified bool
}

// newJournal returns the journal of c, nil if there is no place for one.
func newJournal(c *Catalog, m *metrics.Set) *journal {
	objects, ok := c.reaper.(registry.Journal)
	if !ok {
		return nil
	}
	j := &journal{c: c, objects: objects, lease: c.db.Lease("journal")}
	j.errors = m.Counter("berth_journal_errors_total", "Failed attempts to write the journal from which the catalog can be made again.")
	m.Collect(metrics.GaugeKind, "berth_journal_behind_seconds", "Age of the oldest change that this process knows of and that is not in the journal.", func(e *metrics.Emitter) {
		seconds := 0.0
		if at := j.behind.Load(); at > 0 {
			seconds = max(0, float64(c.now()-at)/1e6)
		}
		e.Emit(seconds)
	})
	return j
}

// run writes the journal until ctx ends, and then what is left.
func (j *journal) run(ctx context.Context) {
	tick := time.NewTimer(journalFirst)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-j.c.feed.wake:
		case <-ctx.Done():
			j.finish(ctx)
			return
		}
		tick.Reset(journalEvery)
		err := j.step(ctx, true)
		if ctx.Err() == nil {
			j.report(err)
		}
	}
}

// keepFeed writes the journal until ctx ends, or, without one, only bounds the
// feed.
func (c *Catalog) keepFeed(ctx context.Context) {
	if c.journal != nil {
		c.journal.run(ctx)
		return
	}
	tick := time.NewTicker(journalEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.feed.wake:
		case <-ctx.Done():
			return
		}
		if err := c.trimFeed(ctx, maxEvents); err != nil && ctx.Err() == nil {
			c.log.Warn("trimming the feed of changes", "error", err)
		}
	}
}

// finishTime bounds how long the end of a process waits for the journal.
const finishTime = 5 * time.Second

// finish writes what happened since the last time, if there is a journal to add it
// to. A new snapshot would take too long.
func (j *journal) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTime)
	defer cancel()
	if err := j.step(ctx, false); err != nil {
		j.c.log.Warn("the journal lacks the last changes; the next start adds them", "error", err)
	}
}

// report says how writing has gone, but not every ten seconds.
func (j *journal) report(err error) {
	switch {
	case err == nil && j.fails > 0:
		j.c.log.Info("the journal is written again")
		j.fails = 0
	case err != nil:
		j.errors.Inc()
		if j.fails%30 == 0 {
			j.c.log.Error("writing the journal, from which the database can be rebuilt; it is tried again, and nothing waits for it", "error", err,
				"behind", (time.Duration(j.c.now()-j.behind.Load()) * time.Microsecond).String())
		}
		j.fails++
	}
}

// errNotMine says that another process writes the journal.
var errNotMine = errors.New("another process writes the journal")

// step writes what there is to write. Without snapshots it only goes on with a
// journal that has been begun.
func (j *journal) step(ctx context.Context, snapshots bool) error {
	idle, err := j.idle(ctx)
	if err != nil || idle {
		return err
	}
	taken, err := j.lease.Take(ctx, journalTerm)
	if err != nil || !taken {
		return err
	}
	err = j.write(ctx, snapshots)
	if errors.Is(err, errNotMine) {
		return nil
	}
	return errors.Join(err, j.lease.Give(context.WithoutCancel(ctx)))
}

// idle reports whether there is nothing to do, and notes since when there is.
func (j *journal) idle(ctx context.Context) (bool, error) {
	at, text, err := j.c.reader(ctx, journalReader)
	if errors.Is(err, errReaderLost) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	next, err := j.c.Events(ctx, at, 1)
	if err != nil {
		return false, err
	}
	if len(next) == 0 {
		j.behind.Store(0)
	} else {
		j.behind.Store(next[0].At)
	}
	var s journalState
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return false, nil
	}
	return len(next) == 0 && s.Snapshot != nil, nil
}

func (j *journal) write(ctx context.Context, snapshots bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	at, err := j.load(ctx)
	if errors.Is(err, errReaderLost) {
		if !snapshots {
			return nil
		}
		at, err = j.begin(ctx)
	}
	if err != nil {
		return err
	}
	if at, err = j.segments(ctx, at); err != nil {
		return err
	}
	due := j.state.Snapshot == nil || j.c.now()-j.state.Taken >= snapshotEvery.Microseconds() || j.c.now() < j.state.Taken
	if snapshots && due {
		if err := j.snapshot(ctx, at); err != nil {
			return err
		}
	}
	return j.c.trimFeed(ctx, maxEvents)
}

// load reads how far the journal is. It is [errReaderLost] if what is stored is not
// what the database believes: one of them was put back from a backup, or the
// process ended between the two.
func (j *journal) load(ctx context.Context) (Position, error) {
	at, text, err := j.c.reader(ctx, journalReader)
	if err != nil {
		return Position{}, err
	}
	var s journalState
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return Position{}, errReaderLost
	}
	if s.Line == j.state.Line {
		s.verified = j.state.verified
	}
	j.state = s
	last, err := j.c.position(ctx, sqlLastEvent)
	if err != nil {
		return Position{}, err
	}
	if last.Before(at) && last != (Position{}) {
		return Position{}, errReaderLost // numbers of another server
	}
	if !s.verified {
		end, err := j.endOfLine(ctx)
		if err != nil {
			return Position{}, err
		}
		if at.Before(end) {
			j.c.log.Info("the journal knows of later changes than the database: it begins anew", "line", s.Line)
			return Position{}, errReaderLost
		}
		j.state.verified = true
	}
	return at, nil
}

// begin begins a new line, at the end of the feed.
func (j *journal) begin(ctx context.Context) (Position, error) {
	line, err := j.newLine(ctx)
	if err != nil {
		return Position{}, err
	}
	var at Position
	err = j.c.db.Snapshot(ctx, func(s *sqldb.Snapshot) error {
		err := s.One(j.c.feed.last, nil, &at.Tx, &at.Seq)
		if err != nil && isNoRows(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return Position{}, fmt.Errorf("looking for the end of the feed: %w", err)
	}
	j.state = journalState{Line: line, verified: true}
	return at, j.c.register(ctx, journalReader, at, j.text())
}

func (j *journal) text() string {
	b, _ := json.Marshal(j.state) // it has nothing that can't be
	return string(b)
}

// add stores an object of the journal, as long as no other process may be doing so.
func (j *journal) add(ctx context.Context, name string, content []byte) error {
	taken, err := j.lease.Take(ctx, journalTerm)
	if err != nil {
		return err
	}
	if !taken {
		return errNotMine
	}
	bounded, cancel := context.WithTimeout(ctx, journalTerm/2)
	defer cancel()
	err = j.objects.AppendJournal(bounded, name, content)
	if errors.Is(err, registry.ErrPreconditionFailed) {
		// Somebody else has written this line.
		j.state.verified = false
		return fmt.Errorf("adding %s to the journal: %w", name, errors.Join(err, j.c.forget(ctx)))
	}
	if err != nil {
		return fmt.Errorf("adding %s to the journal: %w", name, err)
	}
	return nil
}
