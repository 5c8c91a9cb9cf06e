package syncer

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Tidy does what is done each minute.
func (s *Service) Tidy(ctx context.Context) { s.tidy(ctx) }

// SetStall sets how long an upstream may send no byte. Call it before a fill begins.
func (s *Service) SetStall(d time.Duration) { s.stall = d }

// SetMost sets how many blobs are fetched at a time. Call it before a fill begins.
func (s *Service) SetMost(n int) { s.most = n }

// Heal looks once for what is damaged.
func (s *Service) Heal(ctx context.Context) error { return s.healAll(ctx, make(map[damaged]time.Time)) }

// SetConfirm sets how long a request for a tag that is here waits for the upstream.
func (s *Service) SetConfirm(d time.Duration) { s.patience = d }

// Refresh reads what others have done to the rules.
func (s *Service) Refresh(ctx context.Context) error { return s.refresh(ctx) }

// Names returns the names of the rules.
func (s *Service) Names() (names []string) {
	for _, r := range s.rules() {
		names = append(names, r.Name)
	}
	return names
}

// Kicked returns how many copies of the first rule were asked for that nobody has taken
// note of.
func (s *Service) Kicked() int { return len(s.rules()[0].state.kick) }

// Contains reports whether t lies in the window.
func (w *Window) Contains(t time.Time) bool { return w.contains(t) }

// SetRenew sets how often a right is renewed. Call it before one is taken.
func (s *Service) SetRenew(d time.Duration) { s.renew = d }

// MayForward takes the right to pass on what is pushed for the first rule.
func (s *Service) MayForward(ctx context.Context) (held context.Context, done func(), ok bool, err error) {
	return s.mayRun(ctx, s.rules()[0], forwards(s.rules()[0]))
}

// NextForward reports whether the first rule has something to pass on now, of other
// repositories than those that are busy.
func (s *Service) NextForward(ctx context.Context, busy ...registry.Name) (bool, error) {
	q := &queue{s: s, r: s.rules()[0], busy: make(map[registry.Name]bool)}
	for _, repo := range busy {
		q.busy[repo] = true
	}
	_, ok, _, err := q.next(ctx)
	return ok, err
}

// BeginNext reports whether an attempt begins for what [Service.NextForward] finds.
func (s *Service) BeginNext(ctx context.Context) (bool, error) {
	q := &queue{s: s, r: s.rules()[0], busy: make(map[registry.Name]bool), ended: make(chan attempt, 1)}
	row, ok, _, err := q.next(ctx)
	if !ok || err != nil {
		return false, cmp.Or(err, errors.New("void: nothing is next"))
	}
	q.begin(ctx, row)
	return len(q.busy) > 0, nil
}

// Rights returns how many rights a holder has in the database.
func (s *Service) Rights(ctx context.Context, holder string) (int, error) {
	rows, err := s.store.fills(ctx, holder)
	return len(rows), err
}

// Copy makes the copies of the first rule.
func (s *Service) Copy(ctx context.Context) error { return s.copyRule(ctx, s.rules()[0]) }

// WorkNotices copies what the first rule was told of and is due.
func (s *Service) WorkNotices(ctx context.Context) error {
	_, err := s.workNotices(ctx, s.rules()[0])
	return err
}

// Owes reports whether a tag is owed to an upstream, as far as who fetches it knows.
func (s *Service) Owes(ctx context.Context, repo registry.Name, tag registry.Tag) (bool, error) {
	return s.owes(ctx, repo, tag)
}

// NextAfter reports whether something is to be passed on at once after the first push has
// failed and then was done something with.
func (s *Service) NextAfter(ctx context.Context, then func(number int64) error) (bool, error) {
	q := &queue{s: s, r: s.rules()[0], pauses: make(map[lane]pause)}
	row, ok, _, err := q.next(ctx)
	if !ok || err != nil {
		return false, err
	}
	q.note(attempt{row: row})
	if err := then(row.seq); err != nil {
		return false, err
	}
	_, ok, _, err = q.next(ctx)
	return ok, err
}
