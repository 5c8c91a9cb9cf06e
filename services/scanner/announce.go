package scanner

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/berth-registry/berth/registry"
)

// summary is what [registry.ImageScanned] tells of an image, by zot's names.
type summary struct {
	Count         int64  `json:"count"`
	FixableCount  int64  `json:"fixableCount"` // for which there is a version without it, of a package at least
	UnknownCount  int64  `json:"unknownCount"`
	LowCount      int64  `json:"lowCount"`
	MediumCount   int64  `json:"mediumCount"`
	HighCount     int64  `json:"highCount"`
	CriticalCount int64  `json:"criticalCount"`
	MaxSeverity   string `json:"maxSeverity"`
}

// count counts what was found.
func count(found []registry.ScanFinding) (c registry.SeverityCounts) {
	for _, f := range found {
		c[f.Severity]++
	}
	return c
}

func summarize(found []registry.ScanFinding) summary {
	c := count(found)
	var fixable int64
	for _, f := range found {
		for _, p := range f.Packages {
			if p.Fixed != "" {
				fixable++
				break
			}
		}
	}
	return summary{
		Count: c.Total(), FixableCount: fixable, UnknownCount: c[registry.SeverityUnknown], LowCount: c[registry.SeverityLow],
		MediumCount: c[registry.SeverityMedium], HighCount: c[registry.SeverityHigh], CriticalCount: c[registry.SeverityCritical], MaxSeverity: c.Max(),
	}
}

// announce has others told what was found in an image at a time. If the catalog does
// not take that, there is a log line: the result stays, and whoever asks gets it.
func (s *Service) announce(ctx context.Context, repo registry.Name, d registry.Digest, at int64, found []registry.ScanFinding) {
	err := s.announcing(ctx, repo, d, at, found)
	if err != nil && ctx.Err() == nil {
		s.log.Warn("that an image was scanned could not be announced", "repository", repo, "digest", d, "error", err)
	}
}

func (s *Service) announcing(ctx context.Context, repo registry.Name, d registry.Digest, at int64, found []registry.ScanFinding) error {
	m, err := s.catalog.Manifest(ctx, installation, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
	if errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrNameUnknown) {
		return nil // it is gone by now
	}
	if err != nil {
		return err
	}
	b, err := json.Marshal(summarize(found))
	if err != nil {
		return err
	}
	return s.catalog.Announce(ctx, []registry.Announcement{{
		ID: registry.NewAuditID(at), Type: registry.ImageScanned, At: at, Repo: repo, Reference: string(d), Digest: d, MediaType: m.MediaType,
		Data: map[string]json.RawMessage{"summary": b},
	}})
}
