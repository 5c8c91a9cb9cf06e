package syncer

import (
	"context"
	"fmt"
	"reflect"
	"sync"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/syncer/credentials"
)

// ruleSet are the rules of a moment.
type ruleSet struct {
	rules  []*Rule
	byHost map[string]bool // that rules are for
	inPath map[string]bool // the same, as names begin with it
}

// rules returns those of the moment. They are not changed.
func (s *Service) rules() []*Rule { return s.set.Load().rules }

// prepare makes rules ready to take the place of those of now, some of which may be
// among them then.
func (s *Service) prepare(ctx context.Context, rules []*Rule) (*ruleSet, error) {
	rows, err := s.store.rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the syncer's database: %w", err)
	}
	month, _ := monthOf(s.now())
	bytes, err := s.store.months(ctx, month)
	if err != nil {
		return nil, fmt.Errorf("reading the syncer's database: %w", err)
	}
	known := make(map[string]*Rule)
	if now := s.set.Load(); now != nil {
		for _, r := range now.rules {
			known[r.Name] = r
		}
	}
	set := &ruleSet{byHost: make(map[string]bool), inPath: make(map[string]bool)}
	nameRules(rules)
	for _, r := range rules {
		if err := r.check(); err != nil {
			return nil, err
		}
		switch old := known[r.Name]; {
		case old != nil && r.Source != nil && reflect.DeepEqual(old.Source, r.Source):
			r = old
		case old != nil:
			r.state = old.state
		default:
			r.state = &ruleState{kick: make(chan struct{}, 1), forward: make(chan struct{}, 1), told: make(chan struct{}, 1), row: rows[r.Name]}
			r.state.line.month, r.state.line.bytes = month, bytes[r.Name]
			r.state.paused.Store(r.state.row.paused)
		}
		set.rules = append(set.rules, r)
		set.byHost[r.Host], set.inPath[hostInPath(r.Host)] = true, true
	}
	return set, nil
}

// replace has set take the place of the rules of now. What is being fetched by one that
// goes is fetched to its end; scheduled copies of it end, and begin again by the new one.
func (s *Service) replace(set *ruleSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	old := s.set.Swap(set)
	s.missing = missing{} // others may have it
	stays, before := make(map[*Rule]bool), make(map[string]*Rule)
	for _, r := range set.rules {
		stays[r] = true
	}
	for _, r := range old.rules {
		if stays[r] {
			continue
		}
		r.stop()
		before[r.Name] = r
		s.work.Go(func() {
			<-r.ended
			if err := s.saveLine(s.ctx, r); err != nil && s.ctx.Err() == nil {
				s.log.Warn("bytes could not be counted", "rule", r.Name, "error", err)
			}
		})
	}
	for _, r := range set.rules {
		if r.stop == nil {
			s.start(r, before[r.Name])
		}
	}
}

// start begins the scheduled work of a rule, once that of the one before has ended.
func (s *Service) start(r, before *Rule) {
	ctx, stop := context.WithCancel(s.ctx)
	r.stop, r.ended = stop, make(chan struct{})
	s.work.Go(func() {
		defer close(r.ended)
		if before != nil {
			<-before.ended
		}
		if !r.Prune.On { // it may be on again, after a time in which nobody looked
			if err := s.store.dropGoneOf(ctx, r.Name); err != nil && ctx.Err() == nil {
				s.log.Warn("what was gone upstream could not be forgotten", "rule", r.Name, "error", err)
			}
		}
		var loops sync.WaitGroup
		if r.Interval > 0 {
			loops.Go(func() { s.schedule(ctx, r) })
		}
		if r.takesNotices() {
			loops.Go(func() { s.noticeLoop(ctx, r) })
		}
		if r.forwards() {
			loops.Go(func() { s.forwardLoop(ctx, r) })
		}
		loops.Wait()
	})
}

// followFile has the syncer apply what changes in its rules.
func (s *Service) followFile(helpers map[string]credentials.Helper, p daemon.Process) {
	p.Live.Subscribe(func(ctx context.Context, next *config.Config) (func(), error) {
		rules, err := rulesOf(next, helpers, p)
		if err != nil {
			return nil, err
		}
		set, err := s.prepare(ctx, rules)
		if err != nil {
			return nil, err
		}
		return func() { s.replace(set) }, nil
	}, "extensions.sync", "-extensions.sync.downloadDir", "-extensions.sync.advertise", "-extensions.sync.notices", "outbound")
}
