package syncer

import (
	"context"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

// Forwards implements [registry.Forwarding].
func (s *Service) Forwards(ctx context.Context, q registry.ForwardQuery) ([]registry.Forward, error) {
	if q.Limit < 1 || q.Limit > maxForwardPage {
		return nil, registry.ErrParameterInvalid.With("the limit must be between 1 and %d", maxForwardPage)
	}
	rows, err := s.store.forwardsOf(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("reading the pushes that are passed on: %w", err)
	}
	all := make([]registry.Forward, len(rows))
	for i, r := range rows {
		all[i] = registry.Forward{
			Number: r.seq, Rule: r.rule, Repository: r.repo, Tag: r.tag, Digest: r.digest, Actor: r.actor, State: r.state,
			Deletion: r.deletion, Attempts: r.attempts, Error: r.error, Since: r.since.UnixMicro(), Changed: r.changed.UnixMicro(),
		}
		if rule, err := s.find(r.rule); err == nil {
			if t, ok := rule.match(string(r.repo)); ok {
				all[i].Upstream = rule.Hosts[0].Name() + "/" + t.remote
			}
		}
	}
	return all, nil
}

// Reforward implements [registry.Forwarding].
func (s *Service) Reforward(ctx context.Context, name string) error {
	r, err := s.find(name)
	if err != nil {
		return err
	}
	if !r.forwards() {
		return registry.ErrUnsupported.With("rule %s forwards nothing", name)
	}
	err = s.store.retryForwards(ctx, name, s.now())
	counted := s.countOwed(ctx)
	if err != nil {
		return fmt.Errorf("letting pushes wait again: %w", err)
	}
	if counted != nil {
		return counted
	}
	r.Hosts[0].TryNow()
	r.state.tryNow.Store(true)
	r.wake()
	return nil
}

// countOwed counts anew which tags have something to be passed on, also when whoever has
// changed that has gone meanwhile.
func (s *Service) countOwed(ctx context.Context) error {
	s.counting.Lock()
	defer s.counting.Unlock()
	owed, err := s.store.owed(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("reading the pushes that are passed on: %w", err)
	}
	s.mu.Lock()
	s.owed = owed
	s.mu.Unlock()
	return nil
}

// attempting is an attempt to pass a push on that is under way here.
type attempting struct {
	stop context.CancelCauseFunc
	done chan struct{} // closed when it has ended
}

// errGivenUp says that a push was given up while it was being passed on.
var errGivenUp = errors.New("the push was given up")

// attempt notes that a push is being passed on, until ended is called. The context ends
// when it is given up.
func (s *Service) attempt(ctx context.Context, seq int64) (within context.Context, ended func()) {
	within, stop := context.WithCancelCause(ctx)
	a := &attempting{stop, make(chan struct{})}
	s.mu.Lock()
	s.attempts[seq] = a
	s.mu.Unlock()
	return within, func() {
		stop(nil)
		s.mu.Lock()
		delete(s.attempts, seq)
		s.mu.Unlock()
		close(a.done)
	}
}

// DropForward implements [registry.Forwarding].
func (s *Service) DropForward(ctx context.Context, number int64) error {
	found, err := s.store.dropForward(ctx, number, s.now())
	counted := s.countOwed(ctx)
	defer s.wakeForwards()
	switch {
	case err != nil:
		return fmt.Errorf("giving up a push: %w", err)
	case !found:
		return registry.ErrNameUnknown.With("no push has the number %d", number)
	}
	s.mu.Lock()
	a := s.attempts[number]
	s.mu.Unlock()
	if a != nil { // one of another process ends before it sends the next piece, or the manifest
		a.stop(errGivenUp)
		select {
		case <-a.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return counted
}
