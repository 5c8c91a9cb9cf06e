package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// minBudget is how many pulls a scheduled copy leaves of what an upstream allows: the
// rest is for clients that wait.
const minBudget = 20

// pausedLook is how often it is looked whether a rule whose copies are due is paused still.
const pausedLook = 2 * time.Second

// schedule runs a rule's copies until ctx ends.
func (s *Service) schedule(ctx context.Context, r *Rule) {
	wait := s.until(r)
	for attempt, asked := 0, false; ; {
		timer := time.NewTimer(wait)
		kicked := attempt > 0 || asked
		select {
		case <-timer.C:
		case <-r.state.kick:
			kicked = true
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if r.state.paused.Load() { // they are due all the same
			wait, asked = min(pausedLook, r.Interval), kicked
			continue
		}
		asked = false
		held, done, mine, err := s.mayRun(ctx, r, copies(r))
		if err != nil || !mine {
			wait = min(leaseTime, r.Interval) // it is looked again whether they are due
			if err != nil && ctx.Err() == nil {
				s.log.Warn("scheduled copies could not begin", "rule", r.Name, "error", err)
			}
			continue
		}
		if s.shared && !kicked {
			// Another syncer may have run them meanwhile.
			if err := s.refresh(ctx); err == nil {
				if left := s.until(r); left > 0 {
					done()
					wait = left
					continue
				}
			}
		}
		err = s.copyRule(held, r)
		done()
		wait = r.Interval
		if err != nil && attempt < r.Retries {
			delay := r.RetryDelay << min(attempt, 16)
			wait = min(delay, max(r.MaxDelay, r.RetryDelay), r.Interval)
			attempt++
		} else {
			attempt = 0
		}
	}
}

// until returns how long it is until a rule's copies are due.
func (s *Service) until(r *Rule) time.Duration {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	last := r.state.row.lastRun
	if last == 0 {
		return 0
	}
	return max(0, min(r.Interval, time.UnixMicro(last).Add(r.Interval).Sub(s.now())))
}

// copyRule copies what a rule selects, once.
func (s *Service) copyRule(ctx context.Context, r *Rule) error {
	ctx = upstream.Background(ctx)
	r.state.mu.Lock()
	r.state.running = true
	r.state.row.done, r.state.row.total = 0, 0
	r.state.mu.Unlock()
	s.log.Info("a scheduled copy begins", "rule", r.Name)
	began := time.Now()
	err := s.copyAll(ctx, r)
	r.state.mu.Lock()
	r.state.running = false
	if ctx.Err() != nil {
		r.state.mu.Unlock()
		return ctx.Err()
	}
	r.state.row.lastError = ""
	if err != nil {
		r.state.row.lastError = err.Error()
	}
	r.state.row.lastRun = s.now().UnixMicro()
	row := r.state.row
	r.state.mu.Unlock()
	s.meters.copyRuns.Inc()
	log := s.log.Info
	if err != nil {
		log = s.log.Warn
	}
	log("a scheduled copy ended", "rule", r.Name, "tags", row.done, "of", row.total, "took", time.Since(began).Round(time.Millisecond).String(), "error", err)
	if err := s.store.setRule(ctx, r.Name, row); err != nil {
		s.log.Warn("the end of a scheduled copy could not be noted", "rule", r.Name, "error", err)
	}
	return err
}

// copyAll goes through the repositories of a rule. What fails does not keep the
// others from being copied; the first error is returned.
func (s *Service) copyAll(ctx context.Context, r *Rule) error {
	var first error
	note := func(err error) {
		if err != nil && first == nil {
			first = err
		}
	}
	targets, err := s.remotes(ctx, r)
	note(err)
	pins := s.pins(ctx)
	type job struct {
		t      target
		tag    registry.Tag
		pinned bool
	}
	var jobs []job
	for _, t := range targets {
		claimed, err := s.isClaimed(ctx, t.repo)
		if err != nil {
			note(err)
			continue
		}
		if claimed {
			s.log.Info("a mirrored repository is left alone: it was pushed to here", "repository", t.repo)
			continue
		}
		tags, listed, err := s.tagsOf(ctx, t)
		if err != nil {
			note(fmt.Errorf("listing the tags of %s: %w", t.remote, err))
			continue
		}
		if listed != nil {
			note(s.prune(ctx, t, listed))
		}
		slices.Sort(tags)
		r.count(0, int64(len(tags)))
		for _, tag := range tags {
			jobs = append(jobs, job{t, registry.Tag(tag), pins.match(t.repo, registry.Tag(tag))})
		}
	}
	// What is pinned goes first.
	slices.SortStableFunc(jobs, func(a, b job) int {
		switch {
		case a.pinned == b.pinned:
			return 0
		case a.pinned:
			return -1
		}
		return 1
	})
	for _, j := range jobs {
		if err := s.mayCopy(ctx, r); err != nil {
			note(err)
			return first
		}
		err := s.copyTag(ctx, j.t, j.tag, j.pinned)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errUnsigned), errors.Is(err, errHeld), errors.Is(err, errPushed):
			s.meters.skipped.Inc()
		case err != nil:
			s.meters.copyFailed.Inc()
			note(fmt.Errorf("copying %s:%s: %w", j.t.remote, j.tag, err))
			if errors.Is(err, registry.ErrTooManyRequests) {
				return first
			}
			continue
		default:
			s.meters.copied.Inc()
		}
		r.count(1, 0)
	}
	return first
}

// tagsOf returns the tags of a repository upstream that the rule selects. listed has all
// of them, if the rule looks for what is gone and the upstream itself has answered: a
// mirror of it may lag behind.
func (s *Service) tagsOf(ctx context.Context, t target) (tags []string, listed map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, t.rule.Timeout) // bytes may come one by one
	defer cancel()
	err = s.each([]target{t}, func(t target, h *upstream.Host) error {
		tags, listed = nil, nil
		if t.rule.Prune.On && h == t.rule.Hosts[0] {
			listed = make(map[string]bool)
		}
		return h.Tags(ctx, t.remote, func(page []string) error {
			for _, tag := range page {
				if listed != nil {
					listed[tag] = true
				}
				if _, err := registry.ParseTag(tag); err == nil && t.content.wants(tag) {
					tags = append(tags, tag)
				}
			}
			return nil
		})
	})
	return tags, listed, err
}

func (r *Rule) count(done, total int64) {
	r.state.mu.Lock()
	defer r.state.mu.Unlock()
	r.state.row.done += done
	r.state.row.total += total
}

// remotes returns the upstream repositories that a rule selects. The upstream is
// asked for its list only if a prefix is a pattern.
func (s *Service) remotes(ctx context.Context, r *Rule) ([]target, error) {
	var all []target
	seen := make(map[string]bool)
	add := func(remote string) {
		if seen[remote] {
			return
		}
		if t, ok := r.targetOf(remote); ok {
			seen[remote] = true
			all = append(all, t)
		}
	}
	list := false
	for i := range r.Content {
		prefix := strings.Trim(r.Content[i].Prefix, "/")
		if strings.ContainsAny(prefix, "*?[{") {
			list = true
			continue
		}
		add(prefix)
	}
	if !list {
		return all, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.Timeout) // bytes may come one by one
	defer cancel()
	err := s.each([]target{{rule: r}}, func(_ target, h *upstream.Host) error {
		return h.Repositories(ctx, func(page []string) error {
			for _, remote := range page {
				if _, err := registry.ParseName(remote); err == nil {
					add(remote)
				}
			}
			return nil
		})
	})
	if err != nil {
		err = fmt.Errorf("listing the repositories of %s: %w", r.Host, err)
	}
	return all, err
}
