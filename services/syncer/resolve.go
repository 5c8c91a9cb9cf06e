package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

const (
	// defaultFresh is how long a tag is trusted if the rule does not say.
	defaultFresh = time.Minute
	// confirmTime is how long a request for a tag that is here waits to hear whether
	// it has moved.
	confirmTime = time.Second
	// missingTime is how long an upstream's "no such thing" is believed, and
	// maxMissing how much of that is remembered.
	missingTime = 30 * time.Second
	maxMissing  = 10_000
	// manifestTime bounds the fetch of one manifest.
	manifestTime = 90 * time.Second
)

type tagKey struct {
	repo registry.Name
	ref  registry.Reference
	blob bool // ref is a blob: what is none may be a manifest, and the other way round
}

// missing remembers what upstreams do not have.
type missing struct{ until map[tagKey]time.Time }

func (m *missing) has(k tagKey, now time.Time) bool { return now.Before(m.until[k]) }

func (m *missing) add(k tagKey, now time.Time) {
	if m.until == nil || len(m.until) >= maxMissing {
		m.until = make(map[tagKey]time.Time)
	}
	m.until[k] = now.Add(missingTime)
}

func (m *missing) drop(now time.Time) {
	for k, t := range m.until {
		if !now.Before(t) {
			delete(m.until, k)
		}
	}
}

// Route implements [registry.Puller].
func (s *Service) Route(ctx context.Context, host string, repo registry.Name) (registry.Name, error) {
	return s.route(ctx, host, repo)
}

// sources returns what repo may be fetched from now. [registry.ErrNameUnknown] if
// nothing covers it.
func (s *Service) sources(ctx context.Context, repo registry.Name) ([]target, error) {
	targets := s.onDemand(repo)
	if len(targets) == 0 {
		return nil, registry.ErrNameUnknown
	}
	claimed, err := s.isClaimed(ctx, repo)
	if err != nil {
		return nil, err
	}
	if claimed {
		return nil, registry.ErrNameUnknown
	}
	return targets, nil
}

// isClaimed reports whether nothing is to be fetched into repo, because it was
// pushed to: also before a rule covered it, or past the gateway. A repository that
// we have fetched tags into is ours until somebody pushes: a catalog that was
// rebuilt takes all it has for pushed.
func (s *Service) isClaimed(ctx context.Context, repo registry.Name) (bool, error) {
	if s.forwarded(repo) {
		return false, nil
	}
	claimed, known, err := s.claimOf(ctx, repo)
	if err != nil {
		return false, err
	}
	s.mu.Lock()
	known = known || s.ours[repo]
	s.mu.Unlock()
	if known {
		return claimed, nil
	}
	ours, err := s.store.mirrored(ctx, repo)
	if err != nil {
		return false, fmt.Errorf("reading what was fetched into a repository: %w", err)
	}
	if !ours {
		return s.claimPushed(ctx, repo)
	}
	s.mu.Lock()
	s.ours[repo] = true
	s.mu.Unlock()
	return false, nil
}

// claimPushed claims repo if the catalog has content in it that was pushed.
func (s *Service) claimPushed(ctx context.Context, repo registry.Name) (bool, error) {
	pushed, err := s.catalog.PushedTo(ctx, installation, repo)
	if err != nil {
		return false, fmt.Errorf("asking whether a repository was pushed to: %w", err)
	}
	if !pushed {
		return false, nil
	}
	return true, s.Claim(ctx, installation, repo)
}

// Resolve implements [registry.Puller].
func (s *Service) Resolve(ctx context.Context, _ registry.Actor, repo registry.Name, ref registry.Reference, local registry.Digest) (registry.Resolution, error) {
	targets, err := s.sources(ctx, repo)
	if err != nil {
		return registry.Resolution{}, err
	}
	key := tagKey{repo: repo, ref: ref}
	if local != "" {
		return s.confirm(ctx, key, targets, local)
	}
	s.mu.Lock()
	gone := s.missing.has(key, s.now())
	s.mu.Unlock()
	if gone {
		s.meters.negative.Inc()
		return registry.Resolution{}, registry.ErrManifestUnknown
	}
	fl := fly(s, &s.tags, key, func(ctx context.Context) (registry.Digest, error) { return s.fetch(ctx, key, targets, "") })
	if fl == nil {
		return registry.Resolution{}, errClosing
	}
	targets[0].rule.state.misses.Add(1)
	select {
	case <-fl.done:
		return registry.Resolution{Digest: fl.v}, fl.err
	case <-ctx.Done():
		return registry.Resolution{}, ctx.Err()
	}
}

// confirm answers for a manifest that is here.
func (s *Service) confirm(ctx context.Context, key tagKey, targets []target, local registry.Digest) (registry.Resolution, error) {
	res := registry.Resolution{Digest: local}
	if key.ref.Digest != "" {
		return res, nil
	}
	if owed, err := s.owes(ctx, key.repo, key.ref.Tag); err != nil {
		s.log.Warn("the syncer's database can't be read", "error", err)
		return res, nil // what is here is served
	} else if owed {
		return res, nil
	}
	was, err := s.store.tag(ctx, key.repo, key.ref.Tag)
	if err != nil {
		s.log.Warn("the syncer's database can't be read", "error", err)
		return res, nil // what is here is served
	}
	age := s.now().Sub(was.at)
	if age >= 0 && age < targets[0].rule.Fresh {
		s.meters.fresh.Inc()
		targets[0].rule.state.hits.Add(1)
		return res, nil
	}
	// If the first can't be asked, no other is.
	down, shaky := targets[0].rule.health()
	for _, t := range targets[1:] {
		_, sh := t.rule.health()
		shaky = shaky || sh
	}
	if down {
		s.meters.stale.Inc()
		targets[0].rule.state.hits.Add(1)
		res.Warning = staleText(targets[0].rule, was)
		return res, nil
	}
	fl := fly(s, &s.tags, key, func(ctx context.Context) (registry.Digest, error) { return s.fetch(ctx, key, targets, local) })
	if fl == nil {
		return res, nil
	}
	// Whoever failed last is not waited for.
	wait := time.NewTimer(s.patience)
	defer wait.Stop()
	if shaky {
		wait.Reset(0)
	}
	select {
	case <-fl.done:
	case <-wait.C:
		if !shaky {
			targets[0].rule.Hosts[0].Silent() // who comes next does not wait
		}
		s.meters.stale.Inc()
		targets[0].rule.state.hits.Add(1)
		res.Warning = staleText(targets[0].rule, was)
		return res, nil
	case <-ctx.Done():
		return res, ctx.Err()
	}
	switch {
	case fl.err == nil:
		s.meters.confirmed.Inc()
		targets[0].rule.state.hits.Add(1)
		res.Digest = fl.v
	case errors.Is(fl.err, errPushed):
	case errors.Is(fl.err, errHeld):
		targets[0].rule.state.hits.Add(1)
		res.Warning = "the upstream registry " + targets[0].rule.Host + " has moved this tag, which is not followed; this is what it was"
	case errors.Is(fl.err, registry.ErrManifestUnknown):
		// Gone upstream: nothing is ever removed here for that.
		res.Warning = "the tag is gone from the upstream registry " + targets[0].rule.Host + "; this is what it was"
	default:
		s.meters.stale.Inc()
		targets[0].rule.state.hits.Add(1)
		res.Warning = staleText(targets[0].rule, was)
	}
	return res, nil
}

func staleText(r *Rule, was seen) string {
	if was.at.IsZero() {
		return "the upstream registry " + r.Host + " can't be asked whether this is up to date"
	}
	return "the upstream registry " + r.Host + " can't be asked; this was up to date at " + was.at.UTC().Format(time.RFC3339)
}

// health says whether nothing may be asked of a rule's hosts now, and whether one of
// them failed last.
func (r *Rule) health() (down, shaky bool) {
	if r.state.paused.Load() {
		return true, false
	}
	down = true
	for _, h := range r.Hosts {
		down = down && h.Down()
	}
	return down, r.Hosts[0].Shaky()
}

// each calls f for the hosts of the targets, in order, until one has an answer. The
// next rule is asked only if one says that it does not have it, or refuses us, which
// is how Docker Hub says that. One that can't be asked is no reason to take what
// another registry has of that name. What was not "unknown" is returned.
func (s *Service) each(targets []target, f func(t target, h *upstream.Host) error) error {
	var worst error
	unknown := error(registry.ErrManifestUnknown)
	for _, t := range targets {
		if t.rule.state.paused.Load() {
			return cmp.Or(worst, error(registry.ErrUnavailable.With("the upstream registry %s is not asked: its rule is paused", t.rule.Host)))
		}
		if worst != nil && !errors.Is(worst, registry.ErrDenied) {
			break
		}
		for _, h := range t.rule.Hosts {
			err := f(t, h)
			if err == nil {
				return nil
			}
			if errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrBlobUnknown) {
				unknown = err
				break // a mirror has no more than its original
			}
			if errors.Is(err, errMounted) || errors.Is(err, context.Canceled) || errors.Is(err, errUnsigned) || errors.Is(err, errPushed) || errors.Is(err, errHeld) {
				return err
			}
			t.rule.note(err)
			if worst == nil || errors.Is(worst, registry.ErrDenied) {
				worst = err
			}
		}
	}
	if worst != nil {
		return worst
	}
	return unknown
}

// note keeps the last error of a rule for people.
func (r *Rule) note(err error) {
	text := err.Error()
	r.state.lastErr.Store(&text)
}

// fetch brings what key names upstream into the catalog. local is what the catalog
// has, "" if nothing.
func (s *Service) fetch(ctx context.Context, key tagKey, targets []target, local registry.Digest) (registry.Digest, error) {
	ctx, cancel := context.WithTimeout(ctx, manifestTime)
	defer cancel()
	var d registry.Digest
	err := s.each(targets, func(t target, h *upstream.Host) (err error) {
		d, err = s.fetchFrom(ctx, t, h, key, local)
		return err
	})
	if errors.Is(err, registry.ErrManifestUnknown) {
		s.mu.Lock()
		s.missing.add(key, s.now())
		s.mu.Unlock()
		if key.ref.Tag != "" && local != "" { // do not ask again at once
			err = errors.Join(err, s.store.setTag(ctx, key.repo, key.ref.Tag, seen{"", s.now()}))
		}
	}
	if errors.Is(err, errHeld) && local != "" { // do not ask again at once
		err = errors.Join(err, s.store.setTag(ctx, key.repo, key.ref.Tag, seen{local, s.now()}))
	}
	if err == nil && key.ref.Tag != "" {
		if err := s.store.setTag(ctx, key.repo, key.ref.Tag, seen{d, s.now()}); err != nil {
			s.log.Warn("the syncer's database can't be written", "error", err)
		}
	}
	return d, err
}

// fetchFrom asks one host. A tag that is here is compared first, which registries
// count as no pull.
func (s *Service) fetchFrom(ctx context.Context, t target, h *upstream.Host, key tagKey, local registry.Digest) (registry.Digest, error) {
	ref := key.ref
	if ref.Tag != "" && local != "" {
		d, err := h.HeadManifest(ctx, t.remote, ref)
		if err != nil {
			return "", err
		}
		if d == local {
			return d, nil
		}
		if d != "" {
			// The tag may have moved to what is here already.
			m, err := s.catalog.Manifest(ctx, installation, key.repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
			if err == nil {
				return s.putTag(ctx, t, m, ref.Tag, local)
			}
			ref = registry.Reference{Digest: d}
		}
	}
	m, err := h.Manifest(ctx, t.remote, ref)
	if err != nil {
		return "", err
	}
	t.rule.state.bytes.Add(m.Size)
	s.meters.manifests.Inc()
	if key.ref.Tag == "" {
		return m.Digest, s.put(ctx, t, m, "", registry.Condition{})
	}
	return s.putTag(ctx, t, m, key.ref.Tag, local)
}
