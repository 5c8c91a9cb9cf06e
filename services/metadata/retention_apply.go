package metadata

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// retainer is who removes tags by the policies, in their history.
var retainer = registry.Actor{ID: "retention"}

// retentionBatch is how many tags one transaction removes.
const retentionBatch = 50

// ExplainRetention says what the policies say of a repository now.
func (c *Catalog) ExplainRetention(ctx context.Context, a registry.Actor, repo registry.Name, only registry.Reference, p registry.Page[string]) (registry.List[registry.RetentionDecision], error) {
	none := registry.List[registry.RetentionDecision]{}
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return none, err
	}
	policy := c.retention(repo).For(repo)
	after := p.After
	var all []registry.RetentionDecision
	if !strings.Contains(after, ":") { // it is a tag, or nothing
		tags, err := c.tagImages(ctx, id, repo)
		if err != nil {
			return none, err
		}
		all, after = behind(policy.Tags(c.opt.Now(), tags), after), ""
	}
	if len(all) <= limit && only.Tag == "" {
		untagged, err := c.untaggedImages(ctx, id)
		if err != nil {
			return none, err
		}
		all = append(all, behind(policy.Untagged(c.opt.Now(), untagged), after)...)
	}
	if only != (registry.Reference{}) {
		all = slices.DeleteFunc(all, func(d registry.RetentionDecision) bool {
			return d.Tag != only.Tag && only.Tag != "" || d.Digest != only.Digest && only.Digest != ""
		})
	}
	n := min(limit, len(all))
	return registry.List[registry.RetentionDecision]{Items: all[:n], More: n < len(all)}, nil
}

// behind returns the decisions whose key is greater than after.
func behind(all []registry.RetentionDecision, after string) []registry.RetentionDecision {
	i, found := slices.BinarySearchFunc(all, after, func(d registry.RetentionDecision, key string) int { return strings.Compare(d.Key(), key) })
	if found {
		i++
	}
	return all[i:]
}

// ApplyRetention removes tags of repo that the policies do not keep.
func (c *Catalog) ApplyRetention(ctx context.Context, a registry.Actor, repo registry.Name) (registry.RetentionReport, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return registry.RetentionReport{}, err
	}
	if err := c.readOnly(repo); err != nil {
		return registry.RetentionReport{}, err
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return registry.RetentionReport{}, err
	}
	return c.retain(ctx, id, repo)
}

// retain applies the policies to the tags of a repository.
func (c *Catalog) retain(ctx context.Context, id int64, repo registry.Name) (registry.RetentionReport, error) {
	report := registry.RetentionReport{DryRun: c.retention(repo).DryRun}
	images, err := c.tagImages(ctx, id, repo)
	if err != nil {
		return report, err
	}
	policy := c.retention(repo).For(repo)
	if !policy.DeletesTags() && !report.DryRun {
		report.Kept = int64(len(images))
		return report, nil
	}
	var gone []registry.RetentionDecision
	for _, d := range policy.Tags(c.opt.Now(), images) {
		c.logDecision(ctx, repo, d, report.DryRun)
		if d.Keep {
			report.Kept++
		} else {
			gone = append(gone, d)
		}
	}
	if report.DryRun {
		report.Deleted = int64(len(gone))
		return report, nil
	}
	for part := range slices.Chunk(gone, retentionBatch) {
		n, err := c.removeTags(ctx, id, repo, part)
		report.Deleted += n
		report.Kept += int64(len(part)) - n
		if err != nil {
			return report, err
		}
	}
	return report, nil
}

// removeTags removes those of the tags that still point where they did, and
// returns how many. None does if the repository was deleted since, whether or not
// there is one of its name.
func (c *Catalog) removeTags(ctx context.Context, listed int64, repo registry.Name, all []registry.RetentionDecision) (n int64, err error) {
	locks := []sqldb.Lock{usesRepo(repo)}
	tags := make([]registry.Tag, len(all))
	for i, d := range all {
		tags[i] = d.Tag
	}
	locks = append(locks, decidesTags(repo, tags...)...)
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		n = 0
		if err := tx.Lock(locks...); err != nil {
			return err
		}
		id, err := repoID(tx, repo)
		if errors.Is(err, registry.ErrNameUnknown) || err == nil && id != listed {
			return nil
		}
		if err != nil {
			return err
		}
		ch := c.change()
		for _, d := range all {
			now, err := tagDigest(tx, id, d.Tag)
			if err != nil {
				return err
			}
			was, err := pack(d.Digest)
			if err != nil {
				return err
			}
			if !bytes.Equal(now, was) {
				continue
			}
			if err := c.removeTag(tx, id, d.Tag, retainer); err != nil {
				return err
			}
			if err := c.untagged(tx, ch, id, repo, was); err != nil {
				return err
			}
			ch.tags = append(ch.tags, rowKey{repo, string(d.Tag)})
			n++
		}
		ch.attach(tx)
		return nil
	})
	if err != nil {
		return 0, err
	}
	c.meters.retired.Add(n)
	return n, nil
}

// logDecision writes what zot writes. What is kept is of interest only while
// somebody tries out policies.
func (c *Catalog) logDecision(ctx context.Context, repo registry.Name, d registry.RetentionDecision, dryRun bool) {
	level, decision := slog.LevelInfo, "delete"
	if d.Keep {
		decision = "keep"
		if !dryRun {
			level = slog.LevelDebug
		}
	}
	if !c.log.Enabled(ctx, level) {
		return
	}
	c.log.Log(ctx, level, "applied policy", "module", "retention", "dry-run", dryRun, "repository", repo, "digest", d.Digest, "tag", d.Tag,
		"lastPullTimestamp", logTime(d.Pulled), "pushTimestamp", logTime(d.Pushed), "policy", d.Policy, "entry", d.Entry,
		"decision", decision, "reason", d.Reason)
}

// logTime returns a time for a log, the zero time if it is not known.
func logTime(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
