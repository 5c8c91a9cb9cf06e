package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

const (
	// healEvery is how often the catalog is asked for damaged content, and healPage
	// for how much at once.
	healEvery = time.Minute
	healPage  = 100
	// healAgain is how long after an attempt that failed the next one is made.
	healAgain = 10 * time.Minute
)

// healer fetches again what has been found to be damaged, one thing after the other.
func (s *Service) healer() {
	tick := time.NewTicker(healEvery)
	defer tick.Stop()
	tried := make(map[damaged]time.Time)
	for {
		if err := s.healAll(s.ctx, tried); err != nil && s.ctx.Err() == nil {
			s.log.Warn("damaged content could not be looked for", "error", err)
		}
		select {
		case <-s.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// damaged names damaged content.
type damaged struct {
	repo   registry.Name // of a manifest
	pool   registry.Pool
	digest registry.Digest
}

// healAll goes once through what is damaged now. tried is when what could not be
// healed was tried last.
func (s *Service) healAll(ctx context.Context, tried map[damaged]time.Time) error {
	now := s.now()
	for k, at := range tried {
		if now.Sub(at) > healAgain {
			delete(tried, k)
		}
	}
	var after *registry.Damage
	for {
		page, err := s.catalog.Damages(ctx, installation, after, healPage)
		if errors.Is(err, registry.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing what is damaged: %w", err)
		}
		for _, d := range page {
			k := damaged{d.Repo, d.Pool, d.Digest}
			if _, ok := tried[k]; ok {
				continue
			}
			healed, err := s.heal(ctx, d)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			switch {
			case healed:
				s.meters.healed.Inc()
				s.log.Info("damaged content was fetched again", "digest", d.Digest, "size", d.Size)
			case err != nil:
				s.log.Warn("damaged content could not be fetched again", "digest", d.Digest, "error", err)
			}
			if !healed {
				tried[k] = now
			}
		}
		if len(page) < healPage {
			return nil
		}
		after = &page[len(page)-1]
	}
}

// heal fetches damaged content again, if a rule says from where. Repositories that
// were pushed to are not told to anybody.
func (s *Service) heal(ctx context.Context, d registry.Damage) (healed bool, first error) {
	ctx = upstream.Background(ctx)
	repos := d.Repos
	if d.Repo != "" {
		repos = []registry.Name{d.Repo}
	}
	for _, repo := range repos {
		targets := s.targets(repo)
		if len(targets) == 0 {
			continue
		}
		claimed, err := s.isClaimed(ctx, repo)
		if err == nil && claimed {
			continue
		}
		if err == nil {
			if d.Repo != "" {
				err = s.healManifest(ctx, targets, d.Digest)
			} else {
				err = s.whole(ctx, targets, d.Digest, d.Size, false)
			}
		}
		if err == nil {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if first == nil {
			first = err
		}
	}
	return false, first
}

func (s *Service) healManifest(ctx context.Context, targets []target, d registry.Digest) error {
	return s.each(targets, func(t target, h *upstream.Host) error {
		m, err := h.Manifest(ctx, t.remote, registry.Reference{Digest: d})
		if err != nil {
			return err
		}
		t.rule.state.bytes.Add(m.Size)
		return s.put(ctx, t, m, "", registry.Condition{})
	})
}
