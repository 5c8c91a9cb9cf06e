package syncer

import (
	"context"
	"errors"

	"github.com/berth-registry/berth/registry"
)

// compareTag sees to it that what a tag points to was passed on: pushes at the same
// moment may have been stored in another order than they were announced in.
func (s *Service) compareTag(ctx context.Context, t target, tag registry.Tag) error {
	last, ok, err := s.store.lastForward(ctx, t.rule.Name, t.repo, tag)
	if err != nil || ok && (last.state == registry.ForwardAnnounced || last.state == registry.ForwardWaiting) {
		return err
	}
	history, err := s.catalog.TagHistory(ctx, installation, t.repo, tag, 1)
	if err != nil || len(history) == 0 {
		return err
	}
	now := history[0]
	if now.Digest == "" || now.Digest == last.digest && !last.deletion || now.Actor == installation.ID { // removed, passed on, or from there
		return nil
	}
	_, err = s.announce(ctx, []forwardRow{{rule: t.rule.Name, repo: t.repo, tag: tag, digest: now.Digest, actor: now.Actor, state: registry.ForwardWaiting, since: s.now()}})
	return err
}

// compareTags does that for all tags that a rule selects.
func (s *Service) compareTags(ctx context.Context, r *Rule) error {
	for page := (registry.Page[registry.Name]{Limit: registry.MaxPage}); ; {
		repos, err := s.catalog.Repositories(ctx, installation, page)
		if err != nil {
			return err
		}
		for _, repo := range repos.Items {
			if t, ok := r.match(string(repo)); ok {
				if err := s.compareRepository(ctx, t); err != nil {
					return err
				}
			}
		}
		if !repos.More || len(repos.Items) == 0 {
			return nil
		}
		page.After = repos.Items[len(repos.Items)-1]
	}
}

func (s *Service) compareRepository(ctx context.Context, t target) error {
	for page := (registry.Page[registry.Tag]{Limit: registry.MaxPage}); ; {
		tags, err := s.catalog.Tags(ctx, installation, t.repo, page)
		if errors.Is(err, registry.ErrNameUnknown) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, tag := range tags.Items {
			if t.content == nil || t.content.wants(string(tag)) {
				if err := s.compareTag(ctx, t, tag); err != nil {
					return err
				}
			}
		}
		if !tags.More || len(tags.Items) == 0 {
			return nil
		}
		page.After = tags.Items[len(tags.Items)-1]
	}
}
