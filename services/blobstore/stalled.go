package blobstore

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/stall"
)

// answers returns an error if a call has waited for the pool's disk for so long that
// nothing can be expected of it. It answers again as soon as that call has ended.
func (p *pool) answers() error {
	oldest := p.calls.Oldest()
	stalled := oldest >= stall.After
	if p.stalled.Load() != stalled && p.stalled.Swap(stalled) != stalled {
		if stalled {
			p.log.Error("storage does not answer: not ready, and no uploads are begun until it does", "for", oldest)
		} else {
			p.log.Info("storage answers again")
		}
	}
	if stalled {
		return registry.ErrUnavailable.With("storage has not answered for %d seconds", oldest/time.Second)
	}
	return nil
}

// condition is how a pool feels.
type condition struct {
	failed   error  // it can't be reached
	readOnly string // see [registry.Health]
	pressure float64
}

// asking is a question for a pool's condition that is under way.
type asking struct {
	done chan struct{} // closed when answer is valid
	condition
}

// condition returns how the pool feels. A disk that stalls holds one goroutine, however
// many ask.
func (p *pool) condition(ctx context.Context) condition {
	if p.shared { // its driver heeds ctx
		return p.ask(ctx)
	}
	if err := p.answers(); err != nil {
		return condition{failed: err}
	}
	p.mu.Lock()
	a := p.asking
	if a == nil {
		a = &asking{done: make(chan struct{})}
		p.asking = a
		go func() {
			call := p.calls.Begin()
			a.condition = p.ask(context.WithoutCancel(ctx))
			p.calls.End(call)
			p.mu.Lock()
			p.asking = nil
			p.mu.Unlock()
			close(a.done)
		}()
	}
	p.mu.Unlock()
	select {
	case <-a.done:
		return a.condition
	case <-ctx.Done():
		return condition{failed: registry.ErrUnavailable.Because(ctx.Err())}
	}
}

func (p *pool) ask(ctx context.Context) condition {
	if err := p.driver.Check(ctx); err != nil {
		return condition{failed: err}
	}
	c := condition{pressure: p.space.pressure()}
	if why := p.readOnly.Load(); why != nil {
		c.readOnly = *why
	} else if err := p.room(); err != nil {
		c.readOnly = registry.AsError(err).Text()
	}
	return c
}
