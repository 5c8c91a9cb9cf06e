package gateway

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

const (
	// pullsEvery is how long a pull waits until it is reported: what a crash loses.
	pullsEvery = 5 * time.Second
	// pullsRoom is how many entries wait at most. One is a manifest by one name, so
	// this is about 2 MiB.
	pullsRoom = 10_000
	// pullsTime is how long a report may take.
	pullsTime = 30 * time.Second
)

// pulls counts which manifests were sent, and reports that to the catalog some
// seconds later, so that no pull waits for a write. While the catalog can't be
// reached they wait; what there is no room for is lost, and counted as such.
type pulls struct {
	to      registry.Pulls
	log     *slog.Logger
	dropped *metrics.Counter

	mu      sync.Mutex // guards the fields below
	waiting map[pullKey]*registry.Pull
	timer   *time.Timer // runs while something waits
	closed  bool
	reports sync.WaitGroup // in progress
}

type pullKey struct {
	repo   registry.Name
	digest registry.Digest
	tag    registry.Tag
}

func newPulls(to registry.Pulls, m *metrics.Set, log *slog.Logger) *pulls {
	return &pulls{
		to: to, log: log, waiting: make(map[pullKey]*registry.Pull),
		dropped: m.Counter("berth_pulls_uncounted_total", "Pulls that are missing in the statistics, because too many had to wait or the catalog refused them."),
	}
}

// add counts that a client was sent a manifest.
func (p *pulls) add(repo registry.Name, ref registry.Reference, d registry.Digest, a registry.Actor, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := pullKey{repo, d, ref.Tag}
	if w := p.waiting[k]; w != nil {
		w.Count++
		w.At, w.Actor = at.UnixMicro(), a.ID
		return
	}
	if len(p.waiting) >= pullsRoom || p.closed {
		p.dropped.Inc()
		return
	}
	// Not parts of the request, which would stay in memory with them.
	k = pullKey{registry.Name(strings.Clone(string(repo))), registry.Digest(strings.Clone(string(d))), registry.Tag(strings.Clone(string(ref.Tag)))}
	p.waiting[k] = &registry.Pull{Repository: k.repo, Digest: k.digest, Tag: k.tag, Actor: a.ID, At: at.UnixMicro(), Count: 1}
	p.wake()
}

// wake has what waits reported soon. p.mu must be held.
func (p *pulls) wake() {
	if p.timer == nil && !p.closed {
		p.reports.Add(1)
		p.timer = time.AfterFunc(pullsEvery, func() {
			defer p.reports.Done()
			ctx, cancel := context.WithTimeout(context.Background(), pullsTime)
			defer cancel()
			p.report(ctx)
		})
	}
}

// report reports what waits, or as much of it as goes into one report.
func (p *pulls) report(ctx context.Context) {
	p.mu.Lock()
	p.timer = nil
	now := make([]registry.Pull, 0, min(len(p.waiting), registry.MaxPulls))
	for k, w := range p.waiting {
		if len(now) == cap(now) {
			break
		}
		now = append(now, *w)
		delete(p.waiting, k)
	}
	if len(p.waiting) > 0 {
		p.wake()
	}
	p.mu.Unlock()
	if len(now) == 0 {
		return
	}
	err := p.to.CountPulls(ctx, now)
	switch kind := registry.AsError(err); {
	case err == nil:
	case kind.Code.Kind() == registry.Passing || ctx.Err() != nil:
		p.again(now)
	default:
		p.log.Warn("reporting pulls", "error", err)
		p.dropped.Add(int64(len(now)))
	}
}

// again lets pulls wait for the next report. Those of the meantime are later.
func (p *pulls) again(all []registry.Pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range all {
		k := pullKey{x.Repository, x.Digest, x.Tag}
		switch w := p.waiting[k]; {
		case w != nil:
			w.Count += x.Count
		case len(p.waiting) < pullsRoom && !p.closed:
			p.waiting[k] = &x
		default:
			p.dropped.Add(x.Count)
		}
	}
	p.wake()
}

// close reports what waits and waits for reports in progress, but not longer than
// ctx lives. Nothing is counted from then on.
func (p *pulls) close(ctx context.Context) {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil && p.timer.Stop() {
		p.reports.Done()
	}
	p.timer = nil
	p.mu.Unlock()
	p.reports.Wait()
	for {
		p.mu.Lock()
		left := len(p.waiting)
		p.mu.Unlock()
		if left == 0 {
			return
		}
		p.report(ctx)
	}
}
