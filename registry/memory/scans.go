package memory

import (
	"context"
	"io"
	"slices"
	"sync"

	"github.com/berth-registry/berth/registry"
)

// Scans is a [registry.Scans] that scans nothing: it knows what [Scans.Put] told it.
type Scans struct {
	mu     sync.Mutex
	images map[registry.Digest]scanned
	queue  []registry.Digest
}

type scanned struct {
	status   registry.ScanStatus
	findings []registry.ScanFinding
}

// NewScans returns one that knows no image.
func NewScans() *Scans { return &Scans{images: make(map[registry.Digest]scanned)} }

// Put records what became of an image. Counts are those of findings.
func (s *Scans) Put(status registry.ScanStatus, findings ...registry.ScanFinding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	findings = registry.MergeFindings(findings)
	status.Counts = registry.SeverityCounts{}
	for _, f := range findings {
		status.Counts[f.Severity]++
	}
	s.queue = slices.DeleteFunc(s.queue, func(d registry.Digest) bool { return d == status.Digest })
	s.images[status.Digest] = scanned{status, findings}
}

// ScanStatus implements [registry.ScanReports].
func (s *Scans) ScanStatus(ctx context.Context, _ registry.Name, d registry.Digest) (registry.ScanStatus, error) {
	if err := ctx.Err(); err != nil {
		return registry.ScanStatus{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.images[d]; !ok {
		s.images[d] = scanned{status: registry.ScanStatus{Digest: d, State: registry.ScanQueued}}
		s.queue = append(s.queue, d)
	}
	return s.images[d].status, nil
}

// ScanStatuses implements [registry.ScanReports].
func (s *Scans) ScanStatuses(ctx context.Context, images []registry.Digest) ([]registry.ScanStatus, error) {
	if err := checkImages(ctx, images); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]registry.ScanStatus, len(images))
	for i, d := range images {
		all[i] = s.images[d].status
		all[i].Digest = d
	}
	return all, nil
}

func checkImages(ctx context.Context, images []registry.Digest) error {
	if len(images) > registry.MaxScanned {
		return registry.ErrParameterInvalid.With("%d images at a time, %d may be", len(images), registry.MaxScanned)
	}
	return ctx.Err()
}

// Findings implements [registry.ScanReports].
func (s *Scans) Findings(ctx context.Context, d registry.Digest, q registry.FindingQuery) (registry.FindingPage, error) {
	return s.FindingsDiff(ctx, []registry.Digest{d}, nil, q)
}

// FindingsDiff implements [registry.Vulnerabilities].
func (s *Scans) FindingsDiff(ctx context.Context, more, less []registry.Digest, q registry.FindingQuery) (registry.FindingPage, error) {
	if err := checkImages(ctx, slices.Concat(more, less)); err != nil {
		return registry.FindingPage{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	of := func(images []registry.Digest) []registry.ScanFinding {
		var all [][]registry.ScanFinding
		for _, d := range images {
			all = append(all, s.images[d].findings)
		}
		return registry.MergeFindings(all...)
	}
	return q.Of(registry.WithoutFindings(of(more), of(less)))
}

func (x scanned) affection(id string) registry.Affection {
	switch {
	case !x.status.Scanned():
		return registry.NotScanned
	case slices.ContainsFunc(x.findings, func(f registry.ScanFinding) bool { return f.ID == id }):
		return registry.IsAffected
	}
	return registry.NotAffected
}

// AffectedImages implements [registry.Vulnerabilities].
func (s *Scans) AffectedImages(ctx context.Context, id string, p registry.Page[registry.Digest]) (list registry.List[registry.Digest], err error) {
	if err := ctx.Err(); err != nil {
		return list, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, x := range s.images {
		if d > p.After && x.affection(id) == registry.IsAffected {
			list.Items = append(list.Items, d)
		}
	}
	slices.Sort(list.Items)
	if limit := min(max(p.Limit, 1), registry.MaxPage); len(list.Items) > limit {
		list.Items, list.More = list.Items[:limit], true
	}
	return list, nil
}

// AffectedOf implements [registry.Vulnerabilities].
func (s *Scans) AffectedOf(ctx context.Context, id string, images []registry.Digest) ([]registry.Affection, error) {
	if err := checkImages(ctx, images); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]registry.Affection, len(images))
	for i, d := range images {
		all[i] = s.images[d].affection(id)
	}
	return all, nil
}

// SBOM implements [registry.Bills]: there is none.
func (s *Scans) SBOM(_ context.Context, _ registry.Name, _ registry.Digest, f registry.SBOMFormat) ([]byte, error) {
	if f.MediaType() == "" {
		return nil, registry.ErrParameterInvalid.With("%q is no format of bills of materials", f)
	}
	return nil, registry.ErrUnavailable.With("nothing can be scanned")
}

// AttachSBOM implements [registry.Bills]: there is none.
func (s *Scans) AttachSBOM(ctx context.Context, _ registry.Actor, repo registry.Name, d registry.Digest, f registry.SBOMFormat) (registry.Digest, error) {
	_, err := s.SBOM(ctx, repo, d, f)
	return "", err
}

// ScanNow implements [registry.ScanControl].
func (s *Scans) ScanNow(ctx context.Context, _ registry.Name, d registry.Digest) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.images[d]
	x.status.Digest, x.status.State, x.status.Reason = d, registry.ScanQueued, ""
	s.images[d] = x
	if !slices.Contains(s.queue, d) {
		s.queue = append(s.queue, d)
	}
	return nil
}

// ScanQueue implements [registry.ScanControl].
func (s *Scans) ScanQueue(ctx context.Context) (q registry.ScanQueue, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.images {
		switch x.status.State {
		case registry.ScanDone:
			q.Done++
		case registry.ScanFailed:
			q.Failed++
		case registry.ScanUnsupported:
			q.Unsupported++
		case registry.ScanQueued, registry.ScanRunning:
		}
	}
	q.Waiting = int64(len(s.queue))
	return q, ctx.Err()
}

// UpdateDB implements [registry.ScanControl]: there is none.
func (s *Scans) UpdateDB(context.Context) (registry.ScanDB, error) {
	return registry.ScanDB{}, registry.ErrUnsupported
}

// ImportDB implements [registry.ScanControl]: none is valid.
func (s *Scans) ImportDB(_ context.Context, r io.Reader) (registry.ScanDB, error) {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return registry.ScanDB{}, err
	}
	return registry.ScanDB{}, registry.ErrParameterInvalid.With("this is no vulnerability database")
}

// Check implements [registry.Checker].
func (s *Scans) Check(ctx context.Context) (registry.Health, error) {
	return registry.Health{}, ctx.Err()
}
