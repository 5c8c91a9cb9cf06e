package syncer

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// calendarEvery is how often a copy that waits for the calendar looks at it.
const calendarEvery = 10 * time.Second

// mayCopy waits until scheduled copies of a rule may go on. It is an error if that
// takes until next month, or the rule is paused.
func (s *Service) mayCopy(ctx context.Context, r *Rule) error {
	defer r.state.waits.Store(nil)
	tick := time.NewTicker(calendarEvery)
	defer tick.Stop()
	for {
		if r.state.paused.Load() {
			return errors.New("the rule was paused")
		}
		now := s.now()
		if err := r.spent(now, forSchedule); err != nil {
			return err
		}
		why := r.copiesWait(now)
		if why == "" {
			return nil
		}
		r.state.waits.Store(&why)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pins are the patterns of what is pinned.
type pins []pin

type pin struct {
	repo *glob.Pattern
	tag  *glob.Pattern // nil: any
}

// pins returns what is pinned by repository or tag; a digest says nothing of tags.
func (s *Service) pins(ctx context.Context) pins {
	list, err := s.catalog.Pins(ctx, installation)
	if err != nil {
		s.log.Warn("what is pinned is not known: nothing is copied before other things", "error", err)
		return nil
	}
	var all pins
	for _, p := range list {
		repo, tag, tagged := strings.Cut(p.Pattern, ":")
		if strings.Contains(p.Pattern, "@") {
			continue
		}
		var x pin
		if x.repo, err = glob.Compile(repo); err != nil {
			continue
		}
		if tagged {
			if x.tag, err = glob.Compile(tag); err != nil {
				continue
			}
		}
		all = append(all, x)
	}
	return all
}

func (ps pins) match(repo registry.Name, tag registry.Tag) bool {
	for _, p := range ps {
		if p.repo.Match(string(repo)) && (p.tag == nil || p.tag.Match(string(tag))) {
			return true
		}
	}
	return false
}
