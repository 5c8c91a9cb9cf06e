package syncer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Prune says what becomes of mirrored tags that are gone upstream. The zero value lets
// them stay.
type Prune struct {
	On     bool
	DryRun bool          // they are only told of
	Grace  time.Duration // how long they stay
}

// The values of [registry.MirrorRule.Prune].
const (
	pruneOn  = "on"
	pruneDry = "dry-run"
)

func (p Prune) String() string {
	switch {
	case !p.On:
		return ""
	case p.DryRun:
		return pruneDry
	}
	return pruneOn
}

// maxGone is how many tags of a repository are taken for gone at once.
const maxGone = 10_000

// prune removes tags of a repository that were fetched by its rule and that its
// upstream has no more: listed is the complete list of those it has. What is missing
// there is noted, and goes when it was missing for the rule's grace and the upstream
// says to the question for the tag itself that it has none. An empty list is believed
// by nobody.
func (s *Service) prune(ctx context.Context, t target, listed map[string]bool) error {
	if !t.rule.Prune.On {
		return nil
	}
	missing, err := s.mirroredWithout(ctx, t, listed)
	if err != nil {
		return fmt.Errorf("reading what was mirrored: %w", err)
	}
	if len(listed) == 0 {
		if len(missing) > 0 {
			s.log.Warn("the upstream lists no tags at all: nothing is removed for that", "rule", t.rule.Name, "repository", t.repo, "tags", len(missing))
		}
		return nil
	}
	since, err := s.store.noteGone(ctx, t.rule.Name, t.repo, missing, s.now())
	if err != nil {
		return fmt.Errorf("noting what is gone upstream: %w", err)
	}
	for _, tag := range slices.Sorted(maps.Keys(since)) {
		if s.now().Sub(since[tag]) < t.rule.Prune.Grace {
			continue
		}
		if err := s.pruneTag(ctx, t, tag, missing[tag]); err != nil {
			return fmt.Errorf("removing %s, which is gone upstream: %w", tag, err)
		}
	}
	return nil
}

// pruneTold does so with one tag, which its upstream says it does not have. It returns when
// the grace ends, the zero time if there is nothing left to do.
func (s *Service) pruneTold(ctx context.Context, t target, tag registry.Tag) (next time.Time, err error) {
	if !t.rule.Prune.On {
		return next, nil
	}
	d, err := s.mirrored(ctx, t, tag)
	if err != nil {
		return next, fmt.Errorf("reading what was mirrored: %w", err)
	}
	if d == "" {
		return next, nil
	}
	since, err := s.store.noteGoneTag(ctx, t.rule.Name, t.repo, tag, d, s.now())
	if err != nil {
		return next, fmt.Errorf("noting what is gone upstream: %w", err)
	}
	if end := since.Add(t.rule.Prune.Grace); s.now().Before(end) {
		return end, nil
	}
	if err := s.pruneTag(ctx, t, tag, d); err != nil {
		return next, fmt.Errorf("removing %s, which is gone upstream: %w", tag, err)
	}
	return next, nil
}

// mirrored returns what a tag is that was fetched by a rule, "" if it was not, or is
// pinned.
func (s *Service) mirrored(ctx context.Context, t target, tag registry.Tag) (registry.Digest, error) {
	is, err := s.catalog.Manifest(ctx, installation, t.repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
	if gone(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	// The repository may have a hundred thousand.
	list, err := s.catalog.CachedManifests(ctx, installation, t.repo, registry.Page[registry.Digest]{After: before(is.Digest), Limit: 1})
	if err != nil && !gone(err) {
		return "", err
	}
	for _, m := range list.Items {
		if m.Digest == is.Digest && m.Pinned == "" && m.Upstream == t.origin().Upstream {
			return m.Digest, nil
		}
	}
	return "", nil
}

// before returns the digest that is right before another in order, "" if none is.
func before(d registry.Digest) registry.Digest {
	text := []byte(d)
	for i := len(text) - 1; text[i] != ':'; i-- {
		switch text[i] {
		case '0':
			text[i] = 'f'
			continue
		case 'a':
			text[i] = '9'
		default:
			text[i]--
		}
		return registry.Digest(text)
	}
	return ""
}

// mirroredWithout returns the tags that were fetched by a rule and that are not listed,
// but for pinned ones.
func (s *Service) mirroredWithout(ctx context.Context, t target, listed map[string]bool) (map[registry.Tag]registry.Digest, error) {
	missing := make(map[registry.Tag]registry.Digest)
	from := t.origin().Upstream
	for page := (registry.Page[registry.Digest]{Limit: registry.MaxPage}); ; {
		list, err := s.catalog.CachedManifests(ctx, installation, t.repo, page)
		if errors.Is(err, registry.ErrNameUnknown) {
			return missing, nil
		}
		if err != nil {
			return nil, err
		}
		for _, m := range list.Items {
			page.After = m.Digest
			if m.Pinned != "" || m.Upstream != from {
				continue
			}
			for _, tag := range m.Tags {
				if !listed[string(tag)] && len(missing) < maxGone {
					missing[tag] = m.Digest
				}
			}
		}
		if !list.More || len(list.Items) == 0 {
			return missing, nil
		}
	}
}

// lacksTag reports whether the upstream itself, and no mirror of it, says that it has no
// such tag.
func (t target) lacksTag(ctx context.Context, tag registry.Tag) (bool, error) {
	_, err := t.rule.Hosts[0].HeadManifest(ctx, t.remote, registry.Reference{Tag: tag})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return true, nil
	}
	return false, err
}

// pruneTag removes a tag, if no upstream that the repository is fetched from has it.
func (s *Service) pruneTag(ctx context.Context, t target, tag registry.Tag, d registry.Digest) error {
	if owed, err := s.owes(ctx, t.repo, tag); err != nil || owed {
		return err
	}
	switch missing, err := t.lacksTag(ctx, tag); {
	case err != nil:
		return err
	case !missing: // its list is not all it has
		return s.store.dropGone(ctx, t.rule.Name, t.repo, tag)
	}
	for _, other := range s.targets(t.repo) {
		if other.rule == t.rule || !other.rule.pulls() {
			continue
		}
		if missing, err := other.lacksTag(ctx, tag); err != nil || !missing {
			return nil //nolint:nilerr // it has it, or can't be asked
		}
	}
	if t.rule.Prune.DryRun {
		s.log.Info("a mirrored tag is gone upstream and would be removed", "rule", t.rule.Name, "repository", t.repo, "tag", tag, "digest", d)
		return nil
	}
	err := s.catalog.UntagCached(ctx, installation, t.repo, tag, d)
	switch {
	case errors.Is(err, registry.ErrDenied), errors.Is(err, registry.ErrUnsupported): // immutable, or in maintenance
		s.log.Info("a mirrored tag is gone upstream and stays", "rule", t.rule.Name, "repository", t.repo, "tag", tag, "error", err)
		return nil
	case errors.Is(err, registry.ErrInUse), errors.Is(err, registry.ErrPreconditionFailed), gone(err): // it is not what was fetched any more
		return s.store.dropGone(ctx, t.rule.Name, t.repo, tag)
	case err != nil:
		return err
	}
	s.log.Info("a mirrored tag is gone upstream and was removed", "rule", t.rule.Name, "repository", t.repo, "tag", tag, "digest", d)
	s.meters.pruned.Inc()
	t.rule.state.pruned.Add(1)
	at := time.Now().UnixMicro()
	err = s.catalog.RecordAudit(ctx, []registry.AuditEvent{{
		ID: registry.NewAuditID(at), At: at, Actor: installation.ID, Action: "mirror.prune", Object: string(t.repo) + ":" + string(tag), Status: 202, Result: "ok",
	}})
	if err != nil && ctx.Err() == nil {
		s.log.Error("that a tag was removed is not in the audit log", "repository", t.repo, "tag", tag, "digest", d, "error", err)
	}
	return s.store.dropGone(ctx, t.rule.Name, t.repo, tag)
}

// maxGoneTold is how many tags that are to go Explain names.
const maxGoneTold = 20

// explainPrune tells what a rule does about tags that are gone upstream.
func (s *Service) explainPrune(ctx context.Context, t target) ([]string, error) {
	p := t.rule.Prune
	if !p.On {
		return nil, nil
	}
	what, after := "are removed here", "it goes after"
	if p.DryRun {
		what, after = "would be removed here, were it no dry run", "it would go after"
	}
	say := []string{fmt.Sprintf("Tags that it fetched and that are gone from %s for %v %s; what was pushed or is pinned stays.", t.rule.Hosts[0].URL(), p.Grace, what)}
	all, err := s.store.gone(ctx, t.rule.Name, t.repo)
	if err != nil {
		return nil, fmt.Errorf("reading what is gone upstream: %w", err)
	}
	for i, tag := range slices.Sorted(maps.Keys(all)) {
		if i == maxGoneTold {
			return append(say, fmt.Sprintf("%d more are gone.", len(all)-i)), nil
		}
		at := all[tag].since
		say = append(say, fmt.Sprintf("%s is gone since %s: %s %s.", tag, at.UTC().Format(time.DateTime), after, at.Add(p.Grace).UTC().Format(time.DateTime)))
	}
	return say, nil
}
