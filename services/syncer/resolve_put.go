package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
)

// errPushed says that somebody has pushed into the repository meanwhile.
var errPushed = errors.New("the repository was pushed to")

// putTag stores a manifest and lets a tag point to it that points to local, "" if
// it is not here. It returns what the tag points to: what was pushed meanwhile
// stays.
func (s *Service) putTag(ctx context.Context, t target, m registry.Manifest, tag registry.Tag, local registry.Digest) (registry.Digest, error) {
	if local != m.Digest {
		if err := s.mayFollow(ctx, t, tag, m.Digest); err != nil {
			return "", err
		}
	}
	if local != "" && local != m.Digest {
		if err := s.mayMove(ctx, t.repo, tag, local); err != nil {
			return "", err
		}
	}
	err := s.put(ctx, t, m, tag, registry.Condition{Match: local, Absent: local == ""})
	if !errors.Is(err, registry.ErrPreconditionFailed) {
		return m.Digest, err
	}
	now, err := s.catalog.Manifest(ctx, installation, t.repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
	switch {
	case err == nil && now.Digest == m.Digest:
		return m.Digest, nil
	case errors.Is(err, registry.ErrManifestUnknown): // what it points to is damaged
		if err = s.mayMove(ctx, t.repo, tag, ""); err == nil {
			err = s.put(ctx, t, m, tag, registry.Condition{})
		}
		return m.Digest, err
	case err == nil: // somebody was faster: it is a push, or as new as ours
		return now.Digest, s.mayMove(ctx, t.repo, tag, now.Digest)
	}
	return "", registry.ErrUnavailable.With("the tag was changed while it was being fetched").Because(err)
}

// mayMove is errPushed if a tag points to what is not from us, in a repository
// that was pushed to.
func (s *Service) mayMove(ctx context.Context, repo registry.Name, tag registry.Tag, local registry.Digest) error {
	if s.forwarded(repo) {
		owed, err := s.owes(ctx, repo, tag)
		if err == nil && owed {
			err = registry.ErrNameUnknown.Because(errPushed)
		}
		return err
	}
	claimed, known, err := s.claimOf(ctx, repo)
	if err != nil {
		return err
	}
	if !known {
		was, err := s.store.tag(ctx, repo, tag)
		if err != nil {
			return fmt.Errorf("reading what was fetched into a repository: %w", err)
		}
		if was.digest != local {
			if claimed, err = s.claimPushed(ctx, repo); err != nil {
				return err
			}
		}
	}
	if claimed {
		return registry.ErrNameUnknown.Because(errPushed)
	}
	return nil
}

// put stores a manifest as it came, and sets a tag unless it is "". What it refers
// to may be missing.
func (s *Service) put(ctx context.Context, t target, m registry.Manifest, tag registry.Tag, c registry.Condition) error {
	p := registry.ManifestPut{Digest: m.Digest, MediaType: m.MediaType, Bytes: m.Bytes}
	if tag != "" {
		p.Tags, p.If = []registry.Tag{tag}, c
	}
	if _, err := s.catalog.PutCached(ctx, installation, t.repo, p, t.origin()); err != nil {
		return fmt.Errorf("storing a manifest of %s: %w", t.repo, err)
	}
	return nil
}

// costly is how much longer than other content that of an upstream stays in a cache
// which counts pulls, or takes long because of a limit.
const costly = 24 * time.Hour

// origin says where content is from, for the cache's sake.
func (t target) origin() registry.Origin {
	o := registry.Origin{Upstream: t.rule.Hosts[0].Name() + "/" + t.remote}
	if len(o.Upstream) > registry.MaxUpstream {
		o.Upstream = o.Upstream[:registry.MaxUpstream]
	}
	if t.rule.Rate > 0 || t.rule.Monthly > 0 || len(t.rule.Windows) > 0 || t.rule.Hosts[0].Budget() >= 0 {
		o.Cost = costly.Microseconds()
	}
	return o
}

// Covers implements [registry.PushRules].
func (s *Service) Covers(ctx context.Context, repo registry.Name) (registry.Coverage, error) {
	all := s.targets(repo)
	if len(all) == 0 {
		return registry.Coverage{}, nil
	}
	rule := mirrorRule(all)
	c := registry.Coverage{Rule: rule.Name, Push: rule.Push, Forward: len(s.forwardTargets(repo)) > 0}
	claimed, _, err := s.claimOf(ctx, repo)
	c.Claimed = claimed && !rule.forwards()
	return c, err
}

// Claim implements [registry.PushRules].
func (s *Service) Claim(ctx context.Context, a registry.Actor, repo registry.Name) error {
	claimed, _, err := s.claimOf(ctx, repo)
	if err != nil || claimed {
		return err
	}
	if err := s.store.claim(ctx, repo, a.ID, s.now()); err != nil {
		return fmt.Errorf("noting that a repository is pushed to: %w", err)
	}
	s.mu.Lock()
	s.claimed[repo] = true
	delete(s.ours, repo)
	s.mu.Unlock()
	s.log.Info("a mirrored repository is pushed to: nothing is fetched into it from now on", "repository", repo, "actor", a.ID)
	return nil
}
