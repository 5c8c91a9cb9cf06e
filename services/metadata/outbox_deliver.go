package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Sink takes events. It is called by one goroutine.
type Sink interface {
	// Name tells it apart, also over restarts. It has no secret.
	Name() string
	// Send returns nil when e was taken. [ErrEventRefused] says that it never will be.
	Send(ctx context.Context, e OutboxEvent) error
	// Close ends connections.
	Close() error
}

// ErrEventRefused is the error of a sink that will not take an event, however often
// it is sent.
var ErrEventRefused = errors.New("the event was refused")

// EventSource is the source of all events, as with zot.
const EventSource = "zotregistry.dev"

// OutboxEvent is an event as it is sent (CloudEvents 1.0).
type OutboxEvent struct {
	ID, Type string
	At       time.Time
	Data     []byte // JSON
}

const (
	outboxBatch = 100
	// outboxPoll is how often a process looks for what others have announced.
	outboxPoll = 2 * time.Second
	outboxTerm = 60 * time.Second
	// sendAgain is the time before an event is sent again, at first and at last.
	sendAgain, sendAgainLast = time.Second, 5 * time.Minute
	// refusals is how often a refused event is sent.
	refusals = 3

	sqlSink    = `SELECT tx, seq, at, delivered, dropped, failures, error FROM outbox_sinks WHERE name = $1`
	sqlSetSink = `
		INSERT INTO outbox_sinks (name, tx, seq, at, delivered, dropped, failures, error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (name) DO UPDATE SET tx = excluded.tx, seq = excluded.seq, at = excluded.at, delivered = excluded.delivered,
			dropped = excluded.dropped, failures = excluded.failures, error = excluded.error`
	sqlOutboxManifest = `
		SELECT m.payload FROM manifests m JOIN repositories r ON r.id = m.repo_id WHERE r.name = $1 AND m.digest = $2`
	sqlOutboxLast = `SELECT tx, seq FROM outbox ORDER BY tx DESC, seq DESC LIMIT 1`
)

// sqlOutboxAfter never shows a row before one that may still be committed.
func sqlOutboxAfter(horizon string) string {
	return `SELECT tx, seq, id, type, at, repo, reference, digest, media_type, actor, address, method, agent, data FROM outbox
		WHERE (tx, seq) > ($1, $2) AND tx < ` + horizon + ` ORDER BY tx, seq LIMIT $3`
}

// outbox hands events to their receivers.
type outbox struct {
	c     *Catalog
	after string // see sqlOutboxAfter

	mu      sync.Mutex
	rung    chan struct{} // closed when something was announced
	sinks   []Sink        // who is told
	changed chan struct{} // holds an element when they are others

	sent, failed, dropped *metrics.Counter
}

func newOutbox(c *Catalog, m *metrics.Set) *outbox {
	return &outbox{
		c: c, after: sqlOutboxAfter(c.db.Dialect().Horizon), rung: make(chan struct{}), changed: make(chan struct{}, 1),
		sent:    m.Counter("berth_events_delivered_total", "Events that a receiver has taken."),
		failed:  m.Counter("berth_events_failures_total", "Attempts to deliver an event that failed."),
		dropped: m.Counter("berth_events_dropped_total", "Events that a receiver will never get: it refused them, or was away for too long."),
	}
}

// ring wakes those who deliver.
func (o *outbox) ring() {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.rung)
	o.rung = make(chan struct{})
}

func (o *outbox) bell() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rung
}

// wait returns after d, or when something was announced; not at all if ctx ended.
func (o *outbox) wait(ctx context.Context, d time.Duration, bell <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
	case <-bell:
	}
	return true
}

// sinkState is how far a sink was told.
type sinkState struct {
	at Position
	registry.SinkStatus
}

// current returns who is told.
func (o *outbox) current() []Sink {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sinks
}

// set has others told from now on, whom the outbox must have met.
func (o *outbox) set(sinks []Sink) {
	o.mu.Lock()
	o.sinks = sinks
	o.mu.Unlock()
	select {
	case o.changed <- struct{}{}:
	default: // they change already
	}
}

// meet notes where sinks begin that are new: what happened before is not for them.
func (o *outbox) meet(ctx context.Context, sinks []Sink) error {
	for _, s := range sinks {
		if _, err := o.load(ctx, s.Name()); err == nil {
			continue
		} else if !isNoRows(err) {
			return fmt.Errorf("reading how far events were delivered: %w", err)
		}
		at, err := o.c.position(ctx, sqlOutboxLast)
		if err != nil {
			return fmt.Errorf("looking for the last event: %w", err)
		}
		if err := o.save(ctx, sinkState{at: at, SinkStatus: registry.SinkStatus{Name: s.Name(), At: o.c.now()}}); err != nil {
			return err
		}
	}
	return nil
}

// start has everybody told from now on.
func (o *outbox) start(ctx context.Context) error {
	sinks := o.c.opt.Outbox.Sinks
	if err := o.meet(ctx, sinks); err != nil {
		return err
	}
	o.sinks = sinks
	o.c.work.Go(func() { o.deliverAll(ctx) })
	o.c.work.Go(func() { o.trim(ctx) })
	return nil
}

// deliverAll delivers to whoever is to be told, until ctx ends.
func (o *outbox) deliverAll(ctx context.Context) {
	for {
		until, stop := context.WithCancel(ctx)
		var all sync.WaitGroup
		for _, s := range o.current() {
			all.Go(func() { o.deliver(until, s) })
		}
		select {
		case <-o.changed:
		case <-ctx.Done():
		}
		stop()
		all.Wait() // two that deliver to one would send an event twice
		if ctx.Err() != nil {
			return
		}
	}
}

func (o *outbox) load(ctx context.Context, name string) (s sinkState, err error) {
	s.Name = name
	err = o.c.db.QueryRow(ctx, sqlSink, name).Scan(&s.at.Tx, &s.at.Seq, &s.At, &s.Delivered, &s.Dropped, &s.Failures, &s.Error)
	return s, err
}

func (o *outbox) save(ctx context.Context, s sinkState) error {
	err := o.c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // whoever delivers has a lease
			return err
		}
		return tx.Queue(sqlSetSink, s.Name, s.at.Tx, s.at.Seq, s.At, s.Delivered, s.Dropped, s.Failures, s.Error)
	})
	if err != nil {
		return fmt.Errorf("recording how far events were delivered: %w", err)
	}
	return nil
}

// deliver tells a sink what is announced, until ctx ends.
func (o *outbox) deliver(ctx context.Context, s Sink) {
	lease := o.c.db.Lease("events " + s.Name())
	defer func() {
		if err := errors.Join(lease.Give(context.WithoutCancel(ctx)), s.Close()); err != nil {
			o.c.log.Warn("ending the delivery of events", "sink", s.Name(), "error", err)
		}
	}()
	told := ""
	for {
		bell := o.bell()
		pause, err := o.round(ctx, s, lease)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && err.Error() != told:
			told = err.Error()
			o.c.log.Warn("events wait for their receiver", "sink", s.Name(), "error", err)
		case err == nil && told != "":
			told = ""
			o.c.log.Info("events are delivered again", "sink", s.Name())
		}
		if pause == 0 {
			continue
		}
		if err != nil {
			bell = nil // what is new does not make it well
		}
		if !o.wait(ctx, pause, bell) {
			return
		}
	}
}

// round sends a batch, and returns how long to wait for the next.
func (o *outbox) round(ctx context.Context, s Sink, lease *sqldb.Lease) (time.Duration, error) {
	taken, err := lease.Take(ctx, outboxTerm)
	if err != nil || !taken {
		return outboxPoll, err
	}
	began := time.Now()
	st, err := o.load(ctx, s.Name())
	if err != nil {
		return sendAgain, fmt.Errorf("reading how far events were delivered: %w", err)
	}
	if st.Failures > 0 {
		if err := o.overtake(ctx, &st); err != nil {
			return sendAgain, fmt.Errorf("dropping events: %w", err)
		}
	}
	type row struct {
		at Position
		registry.Announcement
	}
	var batch []row
	_, err = o.c.page(ctx, o.after, []any{st.at.Tx, st.at.Seq, outboxBatch}, func(rows *sqldb.Rows) error {
		var r row
		var err error
		r.Announcement, err = scanAnnouncement(rows, &r.at.Tx, &r.at.Seq)
		batch = append(batch, r)
		return err
	})
	if err != nil {
		return sendAgain, fmt.Errorf("reading events: %w", err)
	}
	if len(batch) == 0 {
		return outboxPoll, nil
	}
	if len(batch) > min(outboxBatch-1, o.c.opt.Outbox.Max) { // it may be slower than what comes
		was := st.at
		if err := o.overtake(ctx, &st); err != nil {
			return sendAgain, fmt.Errorf("dropping events: %w", err)
		}
		if st.at != was {
			return 0, nil
		}
	}
	var failed error
	n := 0
	for _, r := range batch {
		// Another process may begin when the lease ends.
		if time.Since(began) > outboxTerm/2 || ctx.Err() != nil {
			break
		}
		e, err := o.event(ctx, r.Announcement)
		if err == nil {
			sending, cancel := context.WithTimeout(ctx, outboxTerm/2)
			err = s.Send(sending, e)
			cancel()
		}
		st.At = o.c.now()
		refused := errors.Is(err, ErrEventRefused) && st.Failures+1 >= refusals
		switch {
		case err == nil:
			st.Delivered++
			o.sent.Inc()
		case refused:
			st.Dropped++
			o.dropped.Inc()
			o.c.log.Error("an event is left out: its receiver refuses it", "sink", s.Name(), "event", r.ID, "error", err)
		}
		if err != nil && !refused {
			failed = err
			break
		}
		st.at, st.Failures, st.Error = r.at, 0, ""
		n++
	}
	if ctx.Err() != nil && n == 0 {
		return 0, ctx.Err()
	}
	if failed != nil {
		o.failed.Inc()
		st.Failures++
		st.Error = cut(failed.Error())
	}
	if err := o.save(context.WithoutCancel(ctx), st); err != nil {
		return sendAgain, err
	}
	if failed != nil {
		return backoff(st.Failures), failed
	}
	return 0, nil
}

// backoff is how long to wait after so many failures in a row.
func backoff(failures int64) time.Duration {
	d := sendAgain << min(failures-1, 10)
	d = min(d, sendAgainLast)
	return d/2 + rand.N(d/2)
}

// event is how an announcement is sent: zot's members.
func (o *outbox) event(ctx context.Context, a registry.Announcement) (OutboxEvent, error) {
	data := map[string]any{"name": string(a.Repo)}
	for k, v := range a.Data {
		data[k] = v
	}
	if a.Type != registry.RepositoryCreated {
		data["reference"], data["digest"], data["mediaType"] = a.Reference, string(a.Digest), a.MediaType
	}
	if a.Type == registry.ImageUpdated && a.Digest != "" {
		packed, err := pack(a.Digest)
		if err != nil {
			return OutboxEvent{}, err
		}
		var payload []byte
		switch err := o.c.db.QueryRow(ctx, sqlOutboxManifest, string(a.Repo), packed).Scan(&payload); {
		case err == nil:
			data["manifest"] = string(payload)
		case !isNoRows(err): // if it is gone by now, the event is of use all the same
			return OutboxEvent{}, err
		}
	}
	if a.Actor != "" {
		data["actor"] = map[string]string{"name": a.Actor}
	}
	if a.Method != "" {
		data["request"] = map[string]string{"addr": a.Address, "method": a.Method, "useragent": a.Agent}
	}
	b, err := json.Marshal(data)
	return OutboxEvent{ID: a.ID, Type: a.Type, At: time.UnixMicro(a.At).UTC(), Data: b}, err
}
