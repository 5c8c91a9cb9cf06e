package metadata

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/retention"
)

// retainedAgain is how long it takes until a manifest that only a policy keeps is
// looked at again.
const retainedAgain = time.Hour

// retained notes which of the manifests that are reviewed the retention policies
// keep, should nothing else do so.
func (c *Catalog) retained(ctx context.Context, all []due) error {
	facts, err := c.reviewFacts(ctx, all)
	if err != nil {
		return err
	}
	groups := make(map[int64][]registry.RetentionDecision) // of repositories where one depends on others
	for i := range all {
		d := &all[i]
		if d.kind != reviewManifest {
			continue
		}
		if d.retained = facts[i].cached; d.retained {
			continue
		}
		digest, err := unpack(d.packed)
		if err != nil {
			return err
		}
		decisions, ok := groups[d.repoID]
		if policy := c.retention(d.repo).For(d.repo); policy.Plain() {
			decisions = policy.Untagged(c.opt.Now(), facts[i].images)
		} else if !ok {
			images, err := c.untaggedImages(ctx, d.repoID)
			if err != nil {
				return err
			}
			decisions = policy.Untagged(c.opt.Now(), images)
			groups[d.repoID] = decisions
		}
		for _, x := range decisions {
			if x.Digest == digest {
				d.retained = x.Keep
				c.logDecision(ctx, d.repo, x, false)
			}
		}
	}
	return nil
}

// reviewFact is what policies have to know of a manifest that is reviewed.
type reviewFact struct {
	cached bool              // the least recently used go when there are too many
	images []retention.Image // itself; none if it is needed, not there, or one of many that are looked at together
}

// reviewFacts reads what policies have to know of reviewed manifests, all at once.
func (c *Catalog) reviewFacts(ctx context.Context, all []due) ([]reviewFact, error) {
	facts := make([]reviewFact, len(all))
	var look []sqldb.Statement
	for i, d := range all {
		if d.kind != reviewManifest {
			continue
		}
		f := &facts[i]
		if c.policies.Load().cache.limit(d.pool) > 0 {
			look = append(look, sqldb.Statement{Text: sqlIsCached, Args: []any{d.repoID, d.packed}, Row: func(func(...any) error) error {
				f.cached = true
				return nil
			}})
		}
		if c.retention(d.repo).For(d.repo).Plain() {
			look = append(look, sqldb.Statement{Text: sqlManifestFact, Args: []any{d.repoID, d.packed}, Row: func(scan func(...any) error) error {
				f.images = nil
				var packed []byte
				return scanUntagged(scan, &packed, &f.images)
			}})
		}
	}
	if err := c.db.Reads(ctx, look...); err != nil {
		return nil, fmt.Errorf("reading what is known of manifests: %w", err)
	}
	return facts, nil
}
