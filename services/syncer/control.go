package syncer

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

func (r *Rule) requests() (n int64) {
	for _, h := range r.Hosts {
		n += h.Requests()
	}
	return n
}

// find returns the rule of a name.
func (s *Service) find(name string) (*Rule, error) {
	for _, r := range s.rules() {
		if r.Name == name {
			return r, nil
		}
	}
	return nil, registry.ErrNameUnknown.With("there is no rule %q", name)
}

// MirrorRules implements [registry.MirrorControl].
func (s *Service) MirrorRules(context.Context) ([]registry.MirrorRule, error) {
	all := make([]registry.MirrorRule, len(s.rules()))
	for i, r := range s.rules() {
		down, _ := r.health()
		r.state.mu.Lock()
		row, running := r.state.row, r.state.running
		r.state.mu.Unlock()
		m := registry.MirrorRule{
			Name: r.Name, OnDemand: r.OnDemand, Interval: r.Interval, Push: r.Push, Paused: row.paused, Running: running,
			Down: down && !row.paused, LastRun: row.lastRun, LastError: row.lastError, Done: row.done, Total: row.total,
			Requests: r.requests(), Bytes: r.state.bytes.Load(), Budget: r.Hosts[0].Budget(),
		}
		if text := r.state.lastErr.Load(); m.LastError == "" && text != nil {
			m.LastError = *text
		}
		now := s.now()
		m.Scope, m.Hits, m.Misses = r.scope(), r.state.hits.Load(), r.state.misses.Load()
		m.Prune, m.Pruned, m.Saved = r.Prune.String(), r.state.pruned.Load(), r.state.saved.Load()
		m.Rate = r.limits(now).Rate
		m.MonthBytes, m.MonthLimit, m.Waits = r.state.line.used(now), r.Monthly, ""
		if why := r.state.waits.Load(); why != nil {
			m.Waits = *why
		}
		r.state.line.mu.Lock()
		m.Speed = r.state.line.speed.rate(now)
		r.state.line.mu.Unlock()
		for _, h := range r.Hosts {
			m.URLs = append(m.URLs, h.URL())
		}
		all[i] = m
	}
	return all, nil
}

// Fills implements [registry.MirrorControl].
func (s *Service) Fills(context.Context) ([]registry.Fill, error) {
	now := s.now()
	s.mu.Lock()
	all := make([]registry.Fill, 0, len(s.fills))
	for _, f := range s.fills {
		whose := priorityNames[f.priority()]
		f.mu.Lock()
		x := registry.Fill{
			Digest: f.digest, Repository: f.repo(), Rule: f.targets[0].rule.Name, Have: f.have, Size: f.size,
			Readers: int64(f.refs - 1), Since: f.since.UnixMicro(), Error: f.trouble, Priority: whose, Speed: f.speed.rate(now), ETA: -1,
		}
		f.mu.Unlock()
		if x.Speed > 0 && x.Size >= 0 {
			x.ETA = (x.Size - x.Have + x.Speed - 1) / x.Speed
		}
		all = append(all, x)
	}
	s.mu.Unlock()
	slices.SortFunc(all, func(a, b registry.Fill) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	return all, nil
}

// Explain implements [registry.MirrorControl].
func (s *Service) Explain(ctx context.Context, repo registry.Name) ([]string, error) {
	targets := s.targets(repo)
	if len(targets) == 0 {
		return []string{fmt.Sprintf("No rule covers %s: it holds what is pushed to it, and nothing else.", repo)}, nil
	}
	claimed, err := s.isClaimed(ctx, repo)
	if err != nil {
		return nil, err
	}
	var say []string
	if claimed {
		say = append(say, fmt.Sprintf("%s was pushed to here, so nothing is fetched into it (berth sync forget %s undoes that).", repo, repo))
	}
	asked := 0
	for _, t := range targets {
		r := t.rule
		if r.OnDemand {
			asked++
			line := fmt.Sprintf("%d. A pull of what is missing asks %s for %s, by rule %s; a tag that is here is compared with it after %v.", asked, r.Hosts[0].URL(), t.remote, r.Name, r.Fresh)
			for _, h := range r.Hosts[1:] {
				line += fmt.Sprintf(" If it fails, %s.", h.URL())
			}
			say = append(say, line)
		}
		switch r.Moves {
		case MovesForward:
			say = append(say, "A tag is not set to what it was here before, whatever the upstream says (tagMoves).")
		case MovesVersions:
			say = append(say, "A tag is not set to what it was here before, and one that is a whole version never moves, whatever the upstream says (tagMoves).")
		}
		if r.takesNotices() {
			say = append(say, fmt.Sprintf("Rule %s copies a tag it selects of %s from %s as soon as that tells that it was set.", r.Name, t.remote, r.Hosts[0].URL()))
		}
		polls := r.Interval > 0 && t.content != nil
		if polls {
			say = append(say, fmt.Sprintf("Rule %s copies the tags it selects of %s from %s every %v.", r.Name, t.remote, r.Hosts[0].URL(), r.Interval))
		}
		if polls || r.takesNotices() {
			lines, err := s.explainPrune(ctx, t)
			if err != nil {
				return nil, err
			}
			say = append(say, lines...)
		}
		if down, _ := r.health(); down {
			say = append(say, fmt.Sprintf("%s is not asked at the moment: the rule is paused, or too many requests have failed.", r.Hosts[0].URL()))
		}
	}
	for _, t := range s.forwardTargets(repo) {
		say = append(say, fmt.Sprintf("A push is taken, and passed on to %s as %s by rule %s; until it is there the tag is not fetched.", t.rule.Hosts[0].URL(), t.remote, t.rule.Name))
	}
	switch mirrorRule(targets).Push {
	case registry.PushForward:
	case registry.PushDeny:
		say = append(say, "A push is refused.")
	default:
		say = append(say, "A push is taken; from then on nothing is fetched into the repository.")
	}
	return say, nil
}

// Examine implements [registry.MirrorControl].
func (s *Service) Examine(ctx context.Context, name string) ([]registry.MirrorCheck, error) {
	r, err := s.find(name)
	if err != nil {
		return nil, err
	}
	var all []registry.MirrorCheck
	add := func(step string, err error, text string) {
		if err != nil {
			text = err.Error()
		}
		all = append(all, registry.MirrorCheck{Step: step, OK: err == nil, Text: text})
	}
	for _, h := range r.Hosts {
		u, err := url.Parse(h.URL())
		if err != nil {
			return nil, err
		}
		addrs, err := net.DefaultResolver.LookupHost(ctx, u.Hostname())
		add("name "+u.Hostname(), err, strings.Join(addrs, ", "))
		began := time.Now()
		err = h.Ping(ctx)
		add("connection and credentials "+h.URL(), err, "answers in "+time.Since(began).Round(time.Millisecond).String())
		budget := "the registry does not say how many pulls are left"
		if left := h.Budget(); left >= 0 {
			budget = fmt.Sprintf("%d pulls are left", left)
		}
		add("budget "+h.URL(), nil, budget)
	}
	return all, nil
}

// Trigger implements [registry.MirrorControl].
func (s *Service) Trigger(ctx context.Context, name string) error {
	r, err := s.find(name)
	if err != nil {
		return err
	}
	if r.forwards() {
		if err := s.compareTags(ctx, r); err != nil {
			return fmt.Errorf("comparing what is here with what was passed on: %w", err)
		}
		r.wake()
	}
	if r.Interval == 0 {
		if r.forwards() {
			return nil
		}
		return registry.ErrUnsupported.With("rule %s has no pollInterval", name)
	}
	select {
	case r.state.kick <- struct{}{}:
	default: // it is kicked already
	}
	return nil
}

// Pause implements [registry.MirrorControl].
func (s *Service) Pause(ctx context.Context, name string, paused bool) error {
	if name == registry.AllRules {
		for _, r := range s.rules() {
			if err := s.pause(ctx, r, paused); err != nil {
				return err
			}
		}
		return nil
	}
	r, err := s.find(name)
	if err != nil {
		return err
	}
	return s.pause(ctx, r, paused)
}

func (s *Service) pause(ctx context.Context, r *Rule, paused bool) error {
	r.state.mu.Lock()
	row := r.state.row
	row.paused = paused
	r.state.mu.Unlock()
	if err := s.store.setRule(ctx, r.Name, row); err != nil {
		return fmt.Errorf("noting that a rule is paused: %w", err)
	}
	r.state.mu.Lock()
	r.state.row.paused = paused
	r.state.mu.Unlock()
	r.state.paused.Store(paused)
	r.wake()
	return nil
}

// Forget implements [registry.MirrorControl].
func (s *Service) Forget(ctx context.Context, repo registry.Name) error {
	pushed, err := s.catalog.PushedTo(ctx, installation, repo)
	if err != nil {
		return fmt.Errorf("asking whether a repository was pushed to: %w", err)
	}
	if err := s.store.forget(ctx, repo, pushed); err != nil {
		return fmt.Errorf("forgetting a repository: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claimed, repo)
	delete(s.ours, repo)
	if pushed {
		s.claimed[repo] = false
	}
	for k := range s.missing.until {
		if k.repo == repo {
			delete(s.missing.until, k)
		}
	}
	for k := range s.refs {
		if k.repo == repo {
			delete(s.refs, k)
		}
	}
	return nil
}
