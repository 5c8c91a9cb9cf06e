package ctl

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
)

// pageSize is how many entries of a list are asked for at once.
const pageSize = 1000

// at returns a time for people, "-" if it is none.
func at(micros int64) string {
	if micros == 0 {
		return "-"
	}
	return time.UnixMicro(micros).UTC().Format(time.RFC3339)
}

func deleted(ctx context.Context, c *call) error {
	c.out.header("DELETED", "UNTIL", "ACTOR", "NAME", "TAGS")
	n := 0
	for p := (registry.Page[registry.Cursor]{Limit: pageSize}); ; {
		list, err := c.Catalog.Deleted(ctx, operator, "", p)
		if err != nil {
			return err
		}
		for _, d := range list.Items {
			if n++; c.flags.limit > 0 && n > c.flags.limit {
				return nil
			}
			p.After = d.Cursor
			tags := make([]string, len(d.Tags))
			for i, t := range d.Tags {
				tags[i] = string(t)
			}
			c.out.row(map[string]any{"repository": d.Repo, "digest": d.Digest, "tag": d.Tag, "tags": tags, "size": d.Size, "actor": d.Actor, "deleted": at(d.At), "until": at(d.Until)},
				at(d.At), at(d.Until), orDash(d.Actor), d.Subject(), orDash(strings.Join(tags, ",")))
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
	}
}

func undelete(ctx context.Context, c *call) error {
	repo, ref, err := parse(c.args[0])
	if err != nil {
		return err
	}
	if err := c.Catalog.Undelete(ctx, operator, repo, ref); err != nil {
		return err
	}
	c.out.done(map[string]any{"restored": c.args[0]}, "restored %s", c.args[0])
	return nil
}

func deleteRepository(ctx context.Context, c *call) error {
	repo, ref, err := parse(c.args[0])
	if err == nil && ref != (registry.Reference{}) {
		err = usage("%q: must be a repository", c.args[0])
	}
	if err != nil {
		return err
	}
	if err := c.Catalog.DeleteRepository(ctx, operator, repo); err != nil {
		return err
	}
	c.out.done(map[string]any{"deleted": repo}, "deleted %s", repo)
	return nil
}

func purge(ctx context.Context, c *call) error {
	var repo registry.Name
	if c.args[0] != "*" {
		var err error
		if repo, err = registry.ParseName(c.args[0]); err != nil {
			return usage("%q: %w", c.args[0], err)
		}
	}
	if err := c.Catalog.Purge(ctx, operator, repo); err != nil {
		return err
	}
	c.out.done(map[string]any{"purged": c.args[0]}, "purged %s", c.args[0])
	return nil
}

func rollback(ctx context.Context, c *call) error {
	repo, ref, err := parse(c.args[0])
	if err != nil {
		return err
	}
	if ref.Tag == "" {
		return usage("%q: must be REPO:TAG", c.args[0])
	}
	to, err := registry.ParseDigest(c.args[1])
	if err != nil {
		return usage("%q: %w", c.args[1], err)
	}
	if _, err := c.Catalog.RollbackTag(ctx, operator, repo, ref.Tag, to, registry.Condition{}); err != nil {
		return err
	}
	c.out.done(map[string]any{"repository": repo, "tag": ref.Tag, "digest": to}, "%s:%s points to %s", repo, ref.Tag, to)
	return nil
}

func collect(ctx context.Context, c *call) error {
	var sum registry.Collection
	for more := true; more; more = sum.More {
		done, err := c.Catalog.Collect(ctx, operator)
		if err != nil {
			return err
		}
		sum.Reviews += done.Reviews
		sum.Manifests += done.Manifests
		sum.Links += done.Links
		sum.Blobs += done.Blobs
		sum.Repositories += done.Repositories
		sum.Bytes += done.Bytes
		sum.More, sum.Next = done.More, done.Next
	}
	c.out.done(map[string]any{
		"reviews": sum.Reviews, "manifests": sum.Manifests, "links": sum.Links, "blobs": sum.Blobs, "repositories": sum.Repositories, "bytes": sum.Bytes, "next": at(sum.Next),
	}, "removed %d manifests, %d blobs from repositories, %d blobs (%d bytes), %d repositories; next review %s",
		sum.Manifests, sum.Links, sum.Blobs, sum.Bytes, sum.Repositories, at(sum.Next))
	return nil
}

func plan(ctx context.Context, c *call) error {
	c.out.header("WHEN", "KIND", "REPOSITORY", "DIGEST", "BYTES", "WHY")
	n := 0
	for p := (registry.Page[registry.Cursor]{Limit: pageSize}); ; {
		list, err := c.Catalog.Plan(ctx, operator, p)
		if err != nil {
			return err
		}
		for _, d := range list.Items {
			if n++; c.flags.limit > 0 && n > c.flags.limit {
				return nil
			}
			p.After = d.Cursor
			c.out.row(map[string]any{"time": at(d.At), "kind": d.Kind, "repository": d.Repo, "pool": d.Pool, "digest": d.Digest, "size": d.Size, "reason": d.Reason},
				at(d.At), d.Kind, orDash(string(d.Repo)), orDash(d.Digest.String()), strconv.FormatInt(d.Size, 10), d.Reason)
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
	}
}

func scrub(ctx context.Context, c *call) error {
	if c.flags.start {
		if err := c.Catalog.StartScrub(ctx, operator); err != nil {
			return err
		}
	}
	s, err := c.Catalog.ScrubStatus(ctx, operator)
	if err != nil {
		return err
	}
	c.out.pairs(map[string]any{
		"requested": at(s.Requested), "oldest": at(s.Oldest), "waiting": s.Waiting, "blobs": s.Blobs, "bytes": s.Bytes, "manifests": s.Manifests, "damaged": s.Damaged,
	}, "asked for", at(s.Requested), "all blobs looked at since", at(s.Oldest), "something is due", strconv.FormatBool(s.Waiting),
		"blobs", strconv.FormatInt(s.Blobs, 10), "bytes", strconv.FormatInt(s.Bytes, 10), "manifests", strconv.FormatInt(s.Manifests, 10), "damaged", strconv.FormatInt(s.Damaged, 10))
	return nil
}

func damages(ctx context.Context, c *call) error {
	c.out.header("FOUND", "DIGEST", "REPOSITORIES", "BYTES", "WHAT")
	n := 0
	for after := (*registry.Damage)(nil); ; {
		list, err := c.Catalog.Damages(ctx, operator, after, pageSize)
		if err != nil {
			return err
		}
		for i, d := range list {
			n++
			after = &list[i]
			repos := []string{string(d.Repo)}
			if d.Repo == "" {
				repos = nil
				for _, r := range d.Repos {
					repos = append(repos, string(r))
				}
			}
			c.out.row(map[string]any{"digest": d.Digest, "repositories": repos, "pool": d.Pool, "size": d.Size, "found": at(d.Found), "reason": d.Reason},
				at(d.Found), d.Digest.String(), orDash(strings.Join(repos, ",")), strconv.FormatInt(d.Size, 10), d.Reason)
		}
		if len(list) < pageSize {
			break
		}
	}
	if n > 0 {
		return daemon.Exit{Code: exitRefused}
	}
	return nil
}
