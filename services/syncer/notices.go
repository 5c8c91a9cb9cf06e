package syncer

import (
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// What an upstream tells of is a row of the database before it is answered, and one per
// tag: the copy takes what the tag is then. The rows of a rule are worked off by one
// syncer at a time.

const (
	// noticeAgain is when a tag is tried again that could not be copied: twice as long
	// each time, up to noticeAgainLast.
	noticeAgain, noticeAgainLast = time.Second, 5 * time.Minute
	// noticeTries is after how many attempts a tag is left to the schedule: an hour and a
	// half.
	noticeTries = 24
	// noticeLook is how often it is looked for what others have been told of.
	noticeLook = 2 * time.Second
	noticeIdle = time.Minute
	// noticeKeep is how long what was told of stays when its rule is gone, or paused.
	noticeKeep = 7 * 24 * time.Hour
)

// takesNotices reports whether a rule copies what it is told of.
func (r *Rule) takesNotices() bool { return r.NoticeSecret != nil }

func noticed(r *Rule) registry.Digest { return registry.Digest(runPrefix + "notices:" + r.Name) }

// noticeLoop copies what a rule is told of, until ctx ends.
func (s *Service) noticeLoop(ctx context.Context, r *Rule) {
	for ctx.Err() == nil {
		wait, err := s.workNotices(upstream.Background(ctx), r)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("what an upstream has told of can't be copied", "rule", r.Name, "error", err)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.state.told:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// workNotices copies what is due, and returns when to look again.
func (s *Service) workNotices(ctx context.Context, r *Rule) (time.Duration, error) {
	if r.state.paused.Load() {
		return noticeLook, nil
	}
	next, err := s.store.nextNotice(ctx, r.Name)
	if err != nil {
		return noticeLook, err
	}
	if wait := next.Sub(s.now()); next.IsZero() || wait > 0 {
		return s.noticeWait(next), nil
	}
	held, done, mine, err := s.mayRun(ctx, r, noticed(r))
	if err != nil || !mine {
		return noticeLook, err
	}
	defer done()
	pins := s.pins(held)
	for {
		all, err := s.store.notices(held, r.Name, s.now())
		if err != nil {
			return noticeLook, err
		}
		if len(all) == 0 {
			break
		}
		for _, n := range all {
			if err := s.workNotice(held, r, n, pins); err != nil {
				return noticeLook, err
			}
		}
	}
	next, err = s.store.nextNotice(held, r.Name)
	return s.noticeWait(next), err
}

// noticeWait is how long it is until something may be due.
func (s *Service) noticeWait(next time.Time) time.Duration {
	wait := noticeIdle
	if s.shared {
		wait = noticeLook
	}
	if !next.IsZero() {
		wait = min(wait, max(next.Sub(s.now()), 10*time.Millisecond))
	}
	return wait
}

// workNotice does for a tag that was told of what its upstream says of it now: events may
// come again, and late. The error is that of the database, or that ctx has ended: what the
// upstream does wrong is noted.
func (s *Service) workNotice(ctx context.Context, r *Rule, n notice, pins pins) error {
	t, ok := r.targetOf(n.remote)
	if !ok || t.content != nil && !t.content.wants(string(n.tag)) { // the rule is another by now
		return s.store.endNotice(ctx, n)
	}
	claimed, err := s.isClaimed(ctx, t.repo)
	if err == nil && claimed {
		s.log.Info("a mirrored repository is left alone: it was pushed to here", "repository", t.repo)
		return s.store.endNotice(ctx, n)
	}
	var missing bool
	if err == nil {
		missing, err = s.copyNoticed(ctx, t, n, pins.match(t.repo, n.tag))
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case missing:
		return s.workRemoval(ctx, r, t, n)
	case err == nil:
		s.meters.copied.Inc()
	case errors.Is(err, errUnsigned), errors.Is(err, errHeld), errors.Is(err, errPushed):
		s.meters.skipped.Inc()
	case unknown(err): // it is gone again, or something that belongs to it
	default:
		s.meters.copyFailed.Inc()
		return s.noticeFailed(ctx, r, t, n, err)
	}
	if r.Prune.On { // should it go again, that is another grace
		if err := s.store.dropGone(ctx, r.Name, t.repo, n.tag); err != nil {
			return err
		}
	}
	return s.store.endNotice(ctx, n)
}

// copyNoticed copies a tag that was told of, or reports that its upstream does not have it.
func (s *Service) copyNoticed(ctx context.Context, t target, n notice, pinned bool) (missing bool, err error) {
	if n.removed {
		if missing, err := t.lacksTag(ctx, n.tag); err != nil || missing {
			return missing, err
		}
	}
	if err := s.mayCopy(ctx, t.rule); err != nil {
		return false, err
	}
	err = s.copyTag(ctx, t, n.tag, pinned)
	if !t.rule.Prune.On || !unknown(err) || errors.Is(err, errPushed) {
		return false, err
	}
	missing, asked := t.lacksTag(ctx, n.tag)
	if asked != nil {
		return false, asked
	}
	return missing, err
}

// unknown reports whether an upstream has said that it does not have something.
func unknown(err error) bool {
	return errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrNameUnknown)
}

// noticeFailed has a tag tried again later, or gives it up.
func (s *Service) noticeFailed(ctx context.Context, r *Rule, t target, n notice, err error) error {
	r.note(err)
	if n.attempts+1 >= noticeTries {
		s.log.Error("a tag that the upstream has told of is given up", "rule", r.Name, "repository", t.repo, "tag", n.tag, "error", err)
		return s.store.endNotice(ctx, n)
	}
	return s.store.putOff(ctx, n, s.now().Add(min(noticeAgain<<min(n.attempts, 16), noticeAgainLast)))
}

// workRemoval removes a tag that its upstream does not have, after the rule's grace, unless
// the upstream has it by then.
func (s *Service) workRemoval(ctx context.Context, r *Rule, t target, n notice) error {
	next, err := s.pruneTold(ctx, t, n.tag)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return s.noticeFailed(ctx, r, t, n, err)
	case next.IsZero():
		return s.store.endNotice(ctx, n)
	}
	return s.store.putOff(ctx, n, next)
}

// targetOf returns what an upstream's repository is here, by the first content of the
// rule that has it.
func (r *Rule) targetOf(remote string) (target, bool) {
	local := remote
	var content *Content
	for i := range r.Content {
		if c := &r.Content[i]; c.pattern.Match(remote) {
			local, content = c.local(remote), c
			break
		}
	}
	if content == nil && len(r.Content) > 0 {
		return target{}, false
	}
	name, err := registry.ParseName(local)
	return target{r, name, remote, content}, err == nil
}

// tell notes what an upstream has told those rules of that its signature is good for:
// that a tag was set, or removed. Rules that do not select the tag ignore it, and those
// that remove nothing a removal.
func (s *Service) tell(ctx context.Context, rules []*Rule, remote string, tag registry.Tag, removed bool) error {
	var all []notice
	for _, r := range rules {
		if t, ok := r.targetOf(remote); ok && (t.content == nil || t.content.wants(string(tag))) && (!removed || r.Prune.On) {
			all = append(all, notice{rule: r.Name, remote: remote, tag: tag, removed: removed})
		}
	}
	if len(all) == 0 {
		return nil
	}
	if err := s.store.addNotices(ctx, all, s.now()); err != nil {
		return err
	}
	s.meters.noticed.Add(int64(len(all)))
	for _, r := range rules {
		select {
		case r.state.told <- struct{}{}:
		default: // it will look
		}
	}
	return nil
}
