package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Conflict says what is done when the other registry has something else under a tag
// that is to be passed on to it, which was never under that tag here.
type Conflict string

// What to do.
const (
	ConflictOverwrite Conflict = "overwrite" // ours takes its place
	ConflictKeep      Conflict = "keep"      // theirs stays
)

const (
	// settleTime is how long an announced push may take to be stored. One that ended
	// without a word is looked for in the catalog then.
	settleTime = time.Minute
	// maxForwardPage is how many pushes are listed at once.
	maxForwardPage = 1000
)

// forwards reports whether a rule passes pushes on.
func (r *Rule) forwards() bool { return r.Push == registry.PushForward }

// pulls reports whether a rule fetches anything.
func (r *Rule) pulls() bool { return r.OnDemand || r.Interval > 0 || r.takesNotices() }

// forwardTargets returns where pushes into repo are passed on to.
func (s *Service) forwardTargets(repo registry.Name) []target {
	var all []target
	for _, t := range s.targets(repo) {
		if t.rule.forwards() {
			all = append(all, t)
		}
	}
	return all
}

// mirrorRule returns the rule that says what a repository is here: the first that
// fetches into it, or else the first.
func mirrorRule(targets []target) *Rule {
	for _, t := range targets {
		if t.rule.pulls() {
			return t.rule
		}
	}
	return targets[0].rule
}

// forwarded reports whether pushes into repo do not end its being a mirror: they go
// where it comes from.
func (s *Service) forwarded(repo registry.Name) bool {
	targets := s.targets(repo)
	return len(targets) > 0 && mirrorRule(targets).forwards()
}

// owes reports whether a tag was pushed and is not upstream yet: what is there is older.
// What others that share the database have taken and passed on only the database knows.
func (s *Service) owes(ctx context.Context, repo registry.Name, tag registry.Tag) (bool, error) {
	if s.shared {
		if !s.forwarded(repo) {
			return false, nil
		}
		owed, err := s.store.owes(ctx, repo, tag)
		if err != nil {
			return false, fmt.Errorf("reading whether a push waits to be passed on: %w", err)
		}
		return owed, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.owed[tagKey{repo: repo, ref: registry.Reference{Tag: tag}}] > 0, nil
}

// owe counts what is to be passed on.
func (s *Service) owe(repo registry.Name, tag registry.Tag, n int) {
	if tag == "" || s.shared {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := tagKey{repo: repo, ref: registry.Reference{Tag: tag}}
	if s.owed[k] += n; s.owed[k] <= 0 {
		delete(s.owed, k)
	}
}

// via reads who has forwarded a push.
func (s *Service) via(header string) (string, error) {
	if header == "" {
		return "", nil
	}
	if len(header) > registry.MaxVia {
		return "", registry.ErrUnsupported.With("the push was forwarded by too many registries: they forward in circles")
	}
	var ids []string
	for id := range strings.SplitSeq(header, ",") {
		if id = strings.TrimSpace(id); id == s.id {
			return "", registry.ErrUnsupported.With("the push was forwarded from here, and has come back")
		}
		ids = append(ids, id)
	}
	return strings.Join(ids, ", "), nil
}

// Announce implements [registry.Forwarding].
func (s *Service) Announce(ctx context.Context, a registry.Actor, repo registry.Name, p registry.AnnouncedPush) (string, error) {
	targets := s.forwardTargets(repo)
	if len(targets) == 0 {
		return "", nil
	}
	via, err := s.via(p.Via)
	if err != nil {
		return "", err
	}
	tags := p.Tags
	if len(tags) == 0 {
		tags = []registry.Tag{""}
	}
	row := forwardRow{repo: repo, digest: p.Digest, actor: a.ID, via: via, state: registry.ForwardAnnounced, since: s.now()}
	var rows []forwardRow
	if p.Deletion {
		if rows, err = s.removals(ctx, targets, repo, p, row); err != nil {
			return "", err
		}
		targets = nil
	}
	for _, t := range targets {
		for _, tag := range tags {
			if tag == "" || t.content == nil || t.content.wants(string(tag)) {
				row.rule, row.tag = t.rule.Name, tag
				rows = append(rows, row)
			}
		}
	}
	if len(rows) == 0 {
		return "", nil
	}
	first, err := s.announce(ctx, rows)
	if err != nil {
		return "", fmt.Errorf("noting a push that is to be passed on: %w", err)
	}
	s.wakeForwards() // nobody else may ever say what became of it
	return fmt.Sprintf("%d+%d", first, len(rows)), nil
}

// announce adds rows, and counts what they owe.
func (s *Service) announce(ctx context.Context, rows []forwardRow) (int64, error) {
	s.counting.RLock()
	defer s.counting.RUnlock()
	for _, r := range rows {
		s.owe(r.repo, r.tag, 1)
	}
	first, err := s.store.announce(ctx, rows)
	if err != nil {
		for _, r := range rows {
			s.owe(r.repo, r.tag, -1)
		}
	}
	return first, err
}

// Settle implements [registry.Forwarding].
func (s *Service) Settle(ctx context.Context, receipt string, stored bool) error {
	from, count, _ := strings.Cut(receipt, "+")
	first, err := strconv.ParseInt(from, 10, 64)
	n, err2 := strconv.ParseInt(count, 10, 64)
	if err != nil || err2 != nil || n < 1 || n > registry.MaxTagsPerPut*int64(len(s.rules())+1) {
		return registry.ErrParameterInvalid.With("not the receipt of an announced push")
	}
	late, err := s.settle(ctx, first, n, stored)
	if late && err == nil {
		err = s.countOwed(ctx)
	}
	if err != nil {
		return err
	}
	s.wakeForwards()
	return nil
}

// settle says of n announced rows whether there was a push, and counts what they owe, but
// for those that wait again, see late of store.settle.
func (s *Service) settle(ctx context.Context, first, n int64, stored bool) (late bool, err error) {
	s.counting.RLock()
	defer s.counting.RUnlock()
	var gone []forwardRow
	if !stored {
		rows, err := s.store.forwardsOf(ctx, registry.ForwardQuery{After: first - 1, Limit: int(n), Open: true})
		if err != nil {
			return false, fmt.Errorf("reading an announced push: %w", err)
		}
		gone = slices.DeleteFunc(rows, func(r forwardRow) bool { return r.seq >= first+n || r.state != registry.ForwardAnnounced })
	}
	if late, err = s.store.settle(ctx, first, n, stored, s.now()); err != nil {
		return false, fmt.Errorf("noting what became of a push: %w", err)
	}
	for _, r := range gone {
		s.owe(r.repo, r.tag, -1)
	}
	return late, nil
}

// wakeForwards tells those who pass on to look.
func (s *Service) wakeForwards() {
	for _, r := range s.rules() {
		if r.forwards() {
			r.wake()
		}
	}
}

func (r *Rule) wake() {
	select {
	case r.state.forward <- struct{}{}:
	default: // it will look
	}
}

// forwardLoop passes on what a rule owes, while no other syncer does, until ctx
// ends.
func (s *Service) forwardLoop(ctx context.Context, r *Rule) {
	for {
		held, done, ok, err := s.mayRun(ctx, r, forwards(r))
		if ok {
			s.forwardAll(held, r)
			done()
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("pushes are not passed on yet", "rule", r.Name, "error", err)
		}
		select {
		case <-time.After(leaseTime / 3):
		case <-ctx.Done():
			return
		}
	}
}

// forward makes one attempt, and reports whether that was the last one of this push.
// Nothing is sent or noted when held has ended: another syncer may be at it.
func (s *Service) forward(held context.Context, r *Rule, row forwardRow) (over bool) {
	within, ended := s.attempt(held, row.seq)
	defer ended()
	ctx, cancel := context.WithTimeout(within, r.Timeout)
	defer cancel()
	d := &delivery{s: s, r: r, row: row, h: r.Hosts[0]}
	err := d.deliver(ctx)
	switch {
	case held.Err() != nil:
		return false
	case errors.Is(context.Cause(ctx), errGivenUp): // how it ended is noted
		return true
	}
	row.attempts++
	row.error = ""
	if err != nil {
		row.error = err.Error()
	}
	var end endedError
	switch {
	case err == nil:
		row.state = registry.ForwardDelivered
	case errors.As(err, &end):
		row.state = end.state
	default:
		r.note(err)
		if err := s.store.triedForward(held, row, s.now()); err != nil {
			s.log.Warn("a failed attempt could not be noted", "error", err)
		}
		return false
	}
	was, failed := s.end(held, row)
	if failed != nil {
		s.log.Warn("that a push was passed on could not be noted: it is looked at again", "repository", row.repo, "tag", row.tag, "error", failed)
		return false
	}
	if !was { // somebody has given it up meanwhile
		return true
	}
	s.meters.forwarded(row.state).Inc()
	if row.state != registry.ForwardDelivered {
		s.log.Warn("a push is not passed on", "rule", r.Name, "repository", row.repo, "tag", row.tag, "digest", row.digest, "state", row.state, "error", err)
	}
	if row.tag != "" && row.state == registry.ForwardDelivered {
		if err := s.compareTag(held, target{rule: r, repo: row.repo}, row.tag); err != nil {
			s.log.Warn("a tag could not be compared with what was passed on", "repository", row.repo, "tag", row.tag, "error", err)
		}
	}
	return true
}

// end notes how a push ended, see endForward, and counts what its tag owes.
func (s *Service) end(ctx context.Context, row forwardRow) (was bool, err error) {
	s.counting.RLock()
	defer s.counting.RUnlock()
	if was, err = s.store.endForward(ctx, row, s.now()); was && err == nil {
		s.owe(row.repo, row.tag, -1)
	}
	return was, err
}

// endedError is why a push will not be passed on.
type endedError struct {
	state registry.ForwardState
	text  string
}

func (e endedError) Error() string { return e.text }
