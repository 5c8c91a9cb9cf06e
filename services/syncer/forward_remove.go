package syncer

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

// removals returns the rows for a removal that is about to be made: those of rules that
// pass removals on. What is not here is not removed.
func (s *Service) removals(ctx context.Context, targets []target, repo registry.Name, p registry.AnnouncedPush, row forwardRow) ([]forwardRow, error) {
	row.deletion = true
	var rows []forwardRow
	for _, t := range targets {
		if !t.rule.Deletes {
			continue
		}
		row.rule = t.rule.Name
		if len(p.Tags) == 0 {
			rows = append(rows, row)
		}
		for _, tag := range p.Tags {
			if t.content != nil && !t.content.wants(string(tag)) {
				continue
			}
			m, err := s.catalog.Manifest(ctx, installation, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
			if gone(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("looking what a tag is that is to be removed: %w", err)
			}
			row.tag, row.digest = tag, m.Digest
			rows = append(rows, row)
		}
	}
	return rows, nil
}

// remove takes a tag, or a manifest, from the other registry. A tag that is something
// else there which it never was here stays, whatever the rule does about conflicts:
// nobody here has removed that.
func (d *delivery) remove(ctx context.Context) error {
	ref := registry.Reference{Digest: d.row.digest}
	if d.row.tag != "" {
		ref = registry.Reference{Tag: d.row.tag}
	}
	if d.row.state == registry.ForwardAnnounced {
		m, err := d.s.catalog.Manifest(ctx, installation, d.row.repo, registry.ManifestQuery{Ref: ref, NoBytes: true})
		if err == nil && m.Digest == d.row.digest {
			return endedError{registry.ForwardDropped, notRemoved}
		}
		if err != nil && !gone(err) {
			return fmt.Errorf("looking whether it was removed here: %w", err)
		}
	}
	theirs, err := d.h.TagDigest(ctx, d.to, ref, d.via())
	if err != nil {
		return refused(err)
	}
	if theirs == "" {
		return nil
	}
	var cond registry.Condition
	if d.row.tag != "" {
		if theirs != d.row.digest {
			switch was, err := d.wasHere(ctx, theirs); {
			case err != nil && !gone(err):
				return err
			case !was:
				return endedError{registry.ForwardKept, fmt.Sprintf("the tag is %s there, which it never was here", theirs)}
			}
		}
		cond.Match = theirs
	}
	if err := d.mayArrive(ctx); err != nil {
		return err
	}
	return refused(d.h.DeleteManifest(ctx, d.to, ref, cond, d.via()))
}
