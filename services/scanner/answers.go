package scanner

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/registry"
)

func checkImages(images ...[]registry.Digest) error {
	n := 0
	for _, i := range images {
		n += len(i)
	}
	if n > registry.MaxScanned {
		return registry.ErrParameterInvalid.With("%d images at a time, %d may be", n, registry.MaxScanned)
	}
	return nil
}

// ScanStatus implements [registry.ScanReports].
func (s *Service) ScanStatus(ctx context.Context, repo registry.Name, d registry.Digest) (registry.ScanStatus, error) {
	all, err := s.store.statuses(ctx, []registry.Digest{d})
	if err != nil {
		return registry.ScanStatus{}, fmt.Errorf("reading a scan's status: %w", err)
	}
	st, ok := all[d]
	if ok && (st.State != registry.ScanQueued || st.Reason != "") {
		return st, nil
	}
	if !ok {
		st = registry.ScanStatus{Digest: d, State: registry.ScanQueued}
	} else if waits, err := s.store.waits(ctx, d, rankAsked, s.now()-day); err != nil {
		return registry.ScanStatus{}, fmt.Errorf("looking for an image in the queue: %w", err)
	} else if waits {
		return st, nil
	}
	if err := s.store.hasten(ctx, job{repo: repo, digest: d}, rankAsked, s.now(), false); err != nil {
		return registry.ScanStatus{}, fmt.Errorf("queueing an image: %w", err)
	}
	poke(s.wake)
	return st, nil
}

// ScanStatuses implements [registry.ScanReports].
func (s *Service) ScanStatuses(ctx context.Context, images []registry.Digest) ([]registry.ScanStatus, error) {
	if err := checkImages(images); err != nil {
		return nil, err
	}
	known, err := s.store.statuses(ctx, images)
	if err != nil {
		return nil, fmt.Errorf("reading the status of scans: %w", err)
	}
	all := make([]registry.ScanStatus, len(images))
	for i, d := range images {
		all[i] = known[d]
		all[i].Digest = d
	}
	return all, nil
}

// Findings implements [registry.ScanReports].
func (s *Service) Findings(ctx context.Context, d registry.Digest, q registry.FindingQuery) (registry.FindingPage, error) {
	return s.FindingsDiff(ctx, []registry.Digest{d}, nil, q)
}

// FindingsDiff implements [registry.Vulnerabilities].
func (s *Service) FindingsDiff(ctx context.Context, more, less []registry.Digest, q registry.FindingQuery) (registry.FindingPage, error) {
	if err := cmp.Or(q.Check(), checkImages(more, less)); err != nil {
		return registry.FindingPage{}, err
	}
	found, err := s.store.findings(ctx, more)
	if err != nil {
		return registry.FindingPage{}, fmt.Errorf("reading findings: %w", err)
	}
	if len(less) > 0 {
		others, err := s.store.findings(ctx, less)
		if err != nil {
			return registry.FindingPage{}, fmt.Errorf("reading findings: %w", err)
		}
		found = registry.WithoutFindings(found, others)
	}
	return q.Of(found)
}

// AffectedImages implements [registry.Vulnerabilities].
func (s *Service) AffectedImages(ctx context.Context, id string, p registry.Page[registry.Digest]) (list registry.List[registry.Digest], err error) {
	limit := min(max(p.Limit, 1), registry.MaxPage)
	all, err := s.store.affected(ctx, id, p.After, limit+1)
	if err != nil {
		return list, fmt.Errorf("listing affected images: %w", err)
	}
	list.Items = all[:min(limit, len(all))]
	list.More = len(all) > limit
	return list, nil
}

// AffectedOf implements [registry.Vulnerabilities].
func (s *Service) AffectedOf(ctx context.Context, id string, images []registry.Digest) ([]registry.Affection, error) {
	if err := checkImages(images); err != nil {
		return nil, err
	}
	states, err := s.store.statuses(ctx, images)
	if err != nil {
		return nil, fmt.Errorf("reading the status of scans: %w", err)
	}
	has, err := s.store.affectedOf(ctx, id, images)
	if err != nil {
		return nil, fmt.Errorf("looking for affected images: %w", err)
	}
	all := make([]registry.Affection, len(images))
	for i, d := range images {
		switch {
		case !states[d].Scanned():
		case has[d]:
			all[i] = registry.IsAffected
		default:
			all[i] = registry.NotAffected
		}
	}
	return all, nil
}

// ScanNow implements [registry.ScanControl].
func (s *Service) ScanNow(ctx context.Context, repo registry.Name, d registry.Digest) error {
	if err := s.store.hasten(ctx, job{repo: repo, digest: d}, rankNow, s.now(), true); err != nil {
		return fmt.Errorf("queueing an image: %w", err)
	}
	poke(s.wake)
	return nil
}

// ScanQueue implements [registry.ScanControl].
func (s *Service) ScanQueue(ctx context.Context) (registry.ScanQueue, error) {
	q := registry.ScanQueue{DB: s.vulns.Current()}
	states, stale, err := s.store.counts(ctx, q.DB.Version)
	if err != nil {
		return registry.ScanQueue{}, fmt.Errorf("counting scans: %w", err)
	}
	q.Waiting, q.Stale = states[string(registry.ScanQueued)], stale
	q.Done, q.Failed, q.Unsupported = states[string(registry.ScanDone)], states[string(registry.ScanFailed)], states[string(registry.ScanUnsupported)]
	s.mu.Lock()
	defer s.mu.Unlock()
	q.DB.Error = s.dbErr
	for _, r := range s.running {
		q.Running = append(q.Running, registry.RunningScan{
			Digest: r.digest, Repository: r.repo, Layers: r.layers.Load(), LayersDone: r.done.Load(), Bytes: r.bytes.Load(), Since: r.since,
		})
	}
	slices.SortFunc(q.Running, func(a, b registry.RunningScan) int { return cmp.Compare(a.Digest, b.Digest) })
	return q, nil
}
