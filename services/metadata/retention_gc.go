package metadata

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata/retention"
)

// retainedAgain is how long it takes until a manifest that only a policy keeps is
// looked at again.
const retainedAgain = time.Hour

// retained notes which of the manifests that are reviewed the retention policies
// keep, should nothing else do so.
func (c *Catalog) retained(ctx context.Context, all []due) error {
	groups := make(map[int64][]registry.RetentionDecision) // of repositories where one depends on others
	for i := range all {
		d := &all[i]
		if d.kind != reviewManifest {
			continue
		}
		digest, err := unpack(d.packed)
		if err != nil {
			return err
		}
		if c.opt.Cache.limit(d.pool) > 0 { // the least recently used go when there are too many
			if d.retained, err = exists(c.db.QueryRow(ctx, sqlIsCached, d.repoID, d.packed)); err != nil {
				return err
			}
			if d.retained {
				continue
			}
		}
		decisions, ok := groups[d.repoID]
		if !ok {
			policy := c.retention(d.repo).For(d.repo)
			var images []retention.Image
			if policy.Plain() {
				images, err = c.untaggedImage(ctx, d.repoID, digest)
			} else {
				images, err = c.untaggedImages(ctx, d.repoID)
			}
			if err != nil {
				return err
			}
			decisions = policy.Untagged(c.opt.Now(), images)
			if !policy.Plain() {
				groups[d.repoID] = decisions
			}
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
