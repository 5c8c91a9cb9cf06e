package syncer

import (
	"context"
	"errors"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

type refKey struct {
	repo   registry.Name
	digest registry.Digest
}

const (
	// refsFresh is how long a list of referrers is trusted.
	refsFresh = time.Minute
	// referrersTime is how long a client waits for referrers, unless the upstream has
	// failed last: then it is confirmTime. They come in the background after that.
	referrersTime = 10 * time.Second
)

// FetchReferrers implements [registry.Puller].
func (s *Service) FetchReferrers(ctx context.Context, _ registry.Actor, repo registry.Name, d registry.Digest) error {
	targets, err := s.sources(ctx, repo)
	if err != nil {
		return err
	}
	k := refKey{repo, d}
	s.mu.Lock()
	fresh := s.now().Sub(s.refs[k]) < refsFresh
	s.mu.Unlock()
	if fresh {
		return nil
	}
	if down, _ := targets[0].rule.health(); down {
		return nil
	}
	_, shaky := targets[0].rule.health()
	fl := fly(s, &s.referring, k, func(ctx context.Context) (struct{}, error) {
		ctx, cancel := context.WithTimeout(ctx, manifestTime)
		defer cancel()
		err := s.each(targets, func(t target, h *upstream.Host) error { return s.referrers(ctx, t, h, d) })
		if err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
			s.log.Info("referrers could not be fetched", "repository", repo, "digest", d, "error", err)
			return struct{}{}, nil // what is here is listed
		}
		s.mu.Lock()
		s.refs[k] = s.now()
		s.mu.Unlock()
		return struct{}{}, nil
	})
	if fl == nil {
		return nil
	}
	wait := time.NewTimer(referrersTime)
	defer wait.Stop()
	if shaky {
		wait.Reset(s.patience)
	}
	select {
	case <-fl.done:
	case <-wait.C: // what is here is listed
		targets[0].rule.Hosts[0].Silent()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// maxReferrers is how many referrers of one manifest are fetched.
const maxReferrers = 1000

// referrers fetches the manifests whose subject is d from one host.
func (s *Service) referrers(ctx context.Context, t target, h *upstream.Host, d registry.Digest) error {
	list, err := h.Referrers(ctx, t.remote, d)
	if err != nil {
		return err
	}
	for i, desc := range list {
		if i == maxReferrers {
			return registry.ErrUnavailable.With("the upstream registry %s has more than %d referrers of one manifest", h.Name(), maxReferrers)
		}
		ref := registry.Reference{Digest: desc.Digest}
		_, err := s.catalog.Manifest(ctx, installation, t.repo, registry.ManifestQuery{Ref: ref, NoBytes: true})
		if err == nil {
			continue
		}
		m, err := h.Manifest(ctx, t.remote, ref)
		if err != nil {
			return err
		}
		info, err := registry.ParseManifest(m.MediaType, m.Bytes)
		if err != nil || info.Subject != d {
			continue // a list may say anything
		}
		if err := s.put(ctx, t, m, "", registry.Condition{}); err != nil {
			return err
		}
	}
	return nil
}
