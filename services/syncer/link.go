package syncer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// priority says whose bytes go first over a rule's line: the smaller ones.
type priority int

const (
	forClient priority = iota
	forPins
	forSchedule
)

var priorityNames = [...]string{registry.PriorityClient, registry.PriorityPinned, registry.PrioritySchedule}

// Window is a part of each week in which other limits hold, in local time.
type Window struct {
	Days     [7]bool       // by time.Weekday; the day on which it begins
	From, To time.Duration // since midnight; To <= From is on the next day
	Rate     int64         // bytes a second, 0: no limit
	Upload   int64         // the same for what is passed on
	Copies   bool          // scheduled copies go on
}

// contains reports whether t lies in the window.
func (w *Window) contains(t time.Time) bool {
	at := time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second
	today, before := w.Days[t.Weekday()], w.Days[(t.Weekday()+6)%7]
	if w.From < w.To {
		return today && at >= w.From && at < w.To
	}
	return today && at >= w.From || before && at < w.To
}

// copyShare is how much of a month's bytes scheduled copies may use up: the rest is
// for clients.
const copyShare = 0.8

// line is what a rule takes of the way to its upstream.
type line struct {
	mu      sync.Mutex // guards all below
	next    time.Time  // when the next byte may come
	up      time.Time  // when the next byte may go
	busy    map[*fill]bool
	changed chan struct{} // closed when a fill begins, ends or gets another priority
	month   string        // of bytes, as "2026-01" in UTC
	bytes   int64         // of the month, with what the database knows of
	unsaved int64         // of bytes
	speed   speed
}

// wake lets those who wait look again.
func (l *line) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeLocked()
}

func (l *line) wakeLocked() {
	if l.changed != nil {
		close(l.changed)
	}
	l.changed = make(chan struct{})
}

// enter notes that a fill takes bytes from the line. leave must follow.
func (l *line) enter(f *fill) (leave func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy == nil {
		l.busy = make(map[*fill]bool)
	}
	l.busy[f] = true
	l.wakeLocked()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.busy, f)
		l.wakeLocked()
	}
}

// turn waits while somebody who goes first takes bytes.
func (l *line) turn(ctx context.Context, f *fill) error {
	for waited := false; ; waited = true {
		mine := f.priority()
		l.mu.Lock()
		before := mine
		for other := range l.busy {
			before = min(before, other.priority())
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if before == mine {
			if waited {
				f.preempted = true
				f.update(func() { f.trouble = "" })
			}
			return nil
		}
		if !waited {
			f.update(func() { f.trouble = "waits: bytes for " + priorityNames[before] + " go first" })
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// monthOf returns the month of t, and when the next one begins.
func monthOf(t time.Time) (name string, next time.Time) {
	t = t.UTC()
	return t.Format("2006-01"), time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
}

// used returns the bytes of the month that now is in.
func (l *line) used(now time.Time) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, _ := monthOf(now); m != l.month {
		return 0
	}
	return l.bytes
}

// took counts n bytes that came, and returns how many are not saved yet.
func (l *line) took(n int, now time.Time) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m, _ := monthOf(now); m != l.month {
		l.month, l.bytes, l.unsaved = m, 0, 0
	}
	l.bytes += int64(n)
	l.unsaved += int64(n)
	l.speed.add(now, int64(n))
	return l.unsaved
}

// limits returns what the rule may take and send at a time: bytes a second, 0 for no
// limit, and whether scheduled copies go on. Of several windows the first counts.
func (r *Rule) limits(now time.Time) Window {
	now = now.Local()
	for i := range r.Windows {
		if w := &r.Windows[i]; w.contains(now) {
			return *w
		}
	}
	return Window{Rate: r.Rate, Upload: r.Upload, Copies: true}
}

// spent is an error if the bytes of the month are used up, for scheduled copies
// earlier than for clients.
func (r *Rule) spent(now time.Time, p priority) error {
	return r.wouldSpend(now, p, 0)
}

// wouldSpend is spent if n more bytes come, which clients may have that begin before
// the end: to copy half of a blob spends its bytes for nothing.
func (r *Rule) wouldSpend(now time.Time, p priority, n int64) error {
	if r.Monthly <= 0 {
		return nil
	}
	most, whose := r.Monthly, "this month's bytes"
	var why error
	if p == forClient {
		n = 0
	} else {
		most, whose, why = int64(float64(r.Monthly)*copyShare), "this month's bytes for scheduled copies", errReserved
	}
	if used := r.state.line.used(now); used < most && n <= most-used {
		return nil
	}
	_, next := monthOf(now)
	return registry.ErrTooManyRequests.With("%s of the upstream registry %s are used up until %s", whose, r.Host, next.Format(time.DateOnly)).After(next.Sub(now)).Because(why)
}

// errReserved says that the bytes of the month that are left are for clients.
var errReserved = errors.New("what is left is for clients")

// yields ends a fill for which bytes of clients would be needed, unless a client waits
// for it: from then on it may take them. Clients that come later find the error, and
// begin anew when this fill is over.
func (f *fill) yields(err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.clients > 0 {
		return false
	}
	f.err = err
	f.wake()
	return true
}

// copiesWait says why the rule's scheduled copies wait, "" if they do not.
func (r *Rule) copiesWait(now time.Time) string {
	if !r.limits(now).Copies {
		return "the calendar has no scheduled copies now"
	}
	if err := r.spent(now, forSchedule); err != nil {
		return registry.AsError(err).Text()
	}
	return ""
}

// pace waits so that a rule takes no more bytes than it may.
func (r *Rule) pace(ctx context.Context, n int, clock time.Time) error {
	l := &r.state.line
	return l.pace(ctx, &l.next, n, r.limits(clock).Rate)
}

// pace waits until n bytes more fit into a rate, next being when the one behind those
// before may pass.
func (l *line) pace(ctx context.Context, next *time.Time, n int, rate int64) error {
	if rate <= 0 {
		return nil
	}
	now := time.Now()
	cost := time.Duration(float64(n) / float64(rate) * float64(time.Second))
	l.mu.Lock()
	if next.Before(now) {
		*next = now
	}
	*next = next.Add(cost)
	wait := next.Sub(now)
	l.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// paced is a body that a rule sends no faster than it may.
type paced struct {
	*sending
	ctx context.Context
	s   *Service
	r   *Rule
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	rate := p.r.limits(p.s.now()).Upload
	if rate > 0 { // in pieces, or the other side would hear nothing for long
		b = b[:min(int64(len(b)), max(rate/4, 1))]
	}
	n, err := p.sending.Read(b)
	if err != nil {
		return n, err
	}
	l := &p.r.state.line
	return n, l.pace(p.ctx, &l.up, n, rate)
}

// saveEvery is how many bytes may come before they are counted in the database: so
// many, or those of a minute, are not counted if the process is killed.
const saveEvery = 16 << 20

// saveLine counts in the database what came over a rule's line. Others that share it
// count there, too.
func (s *Service) saveLine(ctx context.Context, r *Rule) error {
	l := &r.state.line
	l.mu.Lock()
	month, n := l.month, l.unsaved
	l.unsaved = 0
	l.mu.Unlock()
	if n == 0 {
		return nil
	}
	total, err := s.store.addBytes(ctx, r.Name, month, n)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.month != month:
	case err != nil:
		l.unsaved += n
	default:
		l.bytes = total + l.unsaved
	}
	if err != nil {
		return fmt.Errorf("counting the bytes of a month: %w", err)
	}
	return nil
}

// speedTime is over how long a speed is measured, in slots of a second.
const speedTime = 10

// speed counts the bytes of the last seconds. Its owner guards it.
type speed struct {
	slots [speedTime]int64
	last  int64 // the second of the newest slot
	first int64 // when counting began, after a pause
}

func (s *speed) turn(now time.Time) {
	second := now.Unix()
	if second-s.last >= speedTime {
		s.slots, s.last, s.first = [speedTime]int64{}, second, second
	}
	for s.last < second {
		s.last++
		s.slots[s.last%speedTime] = 0
	}
}

func (s *speed) add(now time.Time, n int64) {
	s.turn(now)
	s.slots[s.last%speedTime] += n
}

// rate returns bytes a second.
func (s *speed) rate(now time.Time) int64 {
	s.turn(now)
	var sum int64
	for _, n := range s.slots {
		sum += n
	}
	return sum / min(s.last-s.first+1, speedTime)
}
