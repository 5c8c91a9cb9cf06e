package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/auditlog"
	"github.com/berth-registry/berth/registry/metrics"
)

const (
	// auditEvery is how long an event waits until the catalog has it: what a crash
	// loses of what is not in the file.
	auditEvery = time.Second
	// auditBatch is how many events wait before they are sent at once.
	auditBatch = 256
	// auditRoom is how many events wait at most while the catalog can't be reached;
	// that is about 10 MiB.
	auditRoom = 20_000
	// auditTime is how long sending may take.
	auditTime = 30 * time.Second
	// maxLogins bounds the logins that are remembered.
	maxLogins = 10_000
)

// auditor writes events to a file or stream before the answer they are about is
// sent, and hands them to the catalog soon after.
type auditor struct {
	to  registry.Audit
	log *slog.Logger

	fileMu sync.Mutex // one line at a time
	file   io.Writer  // nil if there is none

	recorded    *metrics.Counter
	lost, inLog *metrics.Counter // by the catalog, by the file

	mu      sync.Mutex // guards the rest
	waiting []registry.AuditEvent
	timer   *time.Timer // runs while something waits
	sending bool
	closed  bool
	sends   sync.WaitGroup
	logins  map[login]time.Time
	told    time.Time // when it was last said that events are lost
}

func (a *auditor) init(to registry.Audit, file io.Writer, m *metrics.Set, log *slog.Logger) {
	const name, help = "berth_audit_lost_total", "Audit events that could not be written, by where."
	a.to, a.file, a.log = to, file, log
	a.recorded = m.Counter("berth_audit_events_total", "Audit events.")
	a.lost = m.Counter(name, help, "sink", "catalog")
	a.inLog = m.Counter(name, help, "sink", "file")
	a.logins = make(map[login]time.Time)
}

// login is a user who comes from an address, or from what else tells clients apart.
type login struct {
	user, from string
	at         netip.Addr
}

// record writes an event, of the request x; nil if it is of none.
func (a *auditor) record(e registry.AuditEvent, x *exchange) {
	a.recorded.Inc()
	a.write(e, x)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= auditRoom || a.closed {
		a.lose(1)
		return
	}
	a.waiting = append(a.waiting, e)
	a.schedule()
}

// write appends an event to the file.
func (a *auditor) write(e registry.AuditEvent, x *exchange) {
	if a.file == nil {
		return
	}
	method, path := "", ""
	if x != nil {
		method, path = clip(x.r.Method), clip(x.r.URL.Path)
	}
	b, err := auditlog.Line(e, method, path)
	if err == nil {
		a.fileMu.Lock()
		_, err = a.file.Write(b)
		a.fileMu.Unlock()
	}
	if err != nil {
		a.inLog.Inc()
		a.log.Error("an audit event can't be written to log.audit", "error", err.Error(), "event", e.Action, "id", e.ID)
	}
}

// first reports whether a user has not come from an address for a while.
func (a *auditor) first(user, remote string, now time.Time) bool {
	key := login{user: user}
	if at, err := netip.ParseAddrPort(remote); err == nil {
		key.at = at.Addr().Unmap().WithZone("")
		if key.at.Is6() { // one client has a network
			network, _ := key.at.Prefix(64) // fails for more bits than there are
			key.at = network.Addr()
		}
	} else {
		key.from = clientOf(registry.Actor{}, remote)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, ok := a.logins[key]; ok && now.Sub(last) < loginAgain {
		return false
	}
	if len(a.logins) >= maxLogins {
		clear(a.logins) // they are recorded once more
	}
	a.logins[key] = now
	return true
}

// schedule has what waits sent soon. a.mu must be held.
func (a *auditor) schedule() {
	switch {
	case len(a.waiting) == 0 || a.sending:
	case len(a.waiting) >= auditBatch:
		a.send()
	default:
		a.later()
	}
}

// later has what waits sent in a while. a.mu must be held.
func (a *auditor) later() {
	if a.timer != nil || a.closed {
		return
	}
	a.timer = time.AfterFunc(auditEvery, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.timer = nil
		if !a.sending && !a.closed {
			a.send()
		}
	})
}

// send begins to send what waits. a.mu must be held.
func (a *auditor) send() {
	if len(a.waiting) == 0 {
		return
	}
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	// A copy: the calls that fail return late, and those behind move up.
	batch := slices.Clone(a.waiting[:min(len(a.waiting), registry.MaxAuditEvents)])
	a.sending = true
	a.sends.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), auditTime)
		defer cancel()
		err := a.to.RecordAudit(ctx, batch)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.sending = false
		if a.done(len(batch), err) {
			a.schedule()
		}
	})
}

// done drops the first n events that wait if they were taken, or never will be, and
// reports so. a.mu must be held.
func (a *auditor) done(n int, err error) bool {
	if err != nil {
		switch registry.AsError(err).Code.Kind() {
		case registry.Fault, registry.Passing, registry.Exhausted:
			// They wait for the next time.
			a.later()
			a.complain("audit events wait: the catalog does not take them", "error", err.Error(), "waiting", len(a.waiting))
			return false
		}
		a.lose(n)
		a.complain("audit events are lost: the catalog refuses them", "error", err.Error())
	}
	rest := copy(a.waiting, a.waiting[n:])
	clear(a.waiting[rest:])
	a.waiting = a.waiting[:rest]
	return true
}

// lose counts events that the catalog will not have. a.mu must be held.
func (a *auditor) lose(n int) {
	a.lost.Add(int64(n))
	a.complain("audit events are lost: too many wait for the catalog", "lost", a.lost.Value())
}

// complain says now and then that something is wrong. a.mu must be held.
func (a *auditor) complain(message string, args ...any) {
	if now := time.Now(); now.Sub(a.told) >= time.Minute {
		a.told = now
		a.log.Error(message, args...)
	}
}

// close sends what waits, if that takes no longer than ctx lasts.
func (a *auditor) close(ctx context.Context) {
	a.mu.Lock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
		a.timer = nil
	}
	a.mu.Unlock()
	a.sends.Wait() // bounded by auditTime
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.waiting) > 0 {
		batch := a.waiting[:min(len(a.waiting), registry.MaxAuditEvents)]
		if err := a.to.RecordAudit(ctx, batch); err != nil {
			a.lost.Add(int64(len(a.waiting)))
			a.log.Error("audit events are lost: the catalog did not take them before the end", "lost", len(a.waiting), "error", err.Error())
			break
		}
		a.waiting = a.waiting[len(batch):]
	}
}
