package allinone

import (
	"context"
	"flag"
	"strconv"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// cacheCommand are the commands about content that was fetched from upstreams.
func cacheCommand(program string, parts Parts) cli.Command {
	name := program + " cache "
	var reason string
	return cli.Group(cli.Command{
		Name: "cache", Args: "COMMAND", Summary: "content of upstreams: how much there is, what stays, and what goes now",
		Example: name + "status config.json",
	}, cli.Command{
		Name: "status", Args: "FILE", Summary: "how much of each pool is cached content, and how much there may be",
		Example: name + "status config.json",
		Run:     onStore(parts, 0, 0, nil, cacheStatus),
	}, cli.Command{
		Name: "list", Args: "FILE REPO", Summary: "the cached images of a repository, when they were used last, and what pins them",
		Example: name + "list config.json hub/library/debian",
		Run:     onStore(parts, 1, 1, nil, cacheList),
	}, cli.Command{
		Name: "evict", Args: "FILE REPO[:TAG|@DIGEST]...", Summary: "remove cached images or blobs now, pinned or not; the next pull fetches them again",
		Example: name + "evict config.json hub/library/debian:12",
		Run:     onStore(parts, 1, 1000, nil, cacheEvict),
	}, cli.Command{
		Name: "pin", Args: "FILE PATTERN...", Summary: "keep what matches: REPOSITORIES, REPOSITORIES:TAGS or REPOSITORIES@DIGEST",
		Example: name + "pin --reason \"needed offline\" config.json 'hub/library/debian:12*'",
		Run: onStore(parts, 1, 1000, func(f *flag.FlagSet) { f.StringVar(&reason, "reason", "", "why, for people: a `TEXT`") },
			func(ctx context.Context, c *storeCall) error {
				for _, p := range c.args {
					if err := c.Catalog.SetPin(ctx, operator, registry.Pin{Pattern: p, Reason: reason}); err != nil {
						return err
					}
					c.out.row(map[string]any{"pinned": p}, p, "pinned")
				}
				return nil
			}),
	}, cli.Command{
		Name: "unpin", Args: "FILE PATTERN...", Summary: "take pins back",
		Example: name + "unpin config.json 'hub/library/debian:12*'",
		Run: onStore(parts, 1, 1000, nil, func(ctx context.Context, c *storeCall) error {
			for _, p := range c.args {
				if err := c.Catalog.ClearPin(ctx, operator, p); err != nil {
					return err
				}
				c.out.row(map[string]any{"unpinned": p}, p, "unpinned")
			}
			return nil
		}),
	}, cli.Command{
		Name: "pins", Args: "FILE", Summary: "list what is pinned, that of the config file first",
		Example: name + "pins config.json",
		Run: onStore(parts, 0, 0, nil, func(ctx context.Context, c *storeCall) error {
			pins, err := c.Catalog.Pins(ctx, operator)
			if err != nil {
				return err
			}
			c.out.header("PATTERN", "SINCE", "ACTOR", "REASON")
			for _, p := range pins {
				c.out.row(map[string]any{"pattern": p.Pattern, "since": instant(p.Since), "actor": p.Actor, "reason": p.Reason},
					p.Pattern, moment(p.Since), orDash(p.Actor), orDash(p.Reason))
			}
			return nil
		}),
	})
}

func cacheStatus(ctx context.Context, c *storeCall) error {
	all, err := c.Catalog.CacheUsage(ctx, operator)
	if err != nil {
		return err
	}
	c.out.header("POOL", "BYTES", "LIMIT", "MANIFESTS", "EVICTED", "BYTES EVICTED")
	for _, u := range all {
		limit := "-"
		if u.Limit > 0 {
			limit = strconv.FormatInt(u.Limit, 10)
		}
		c.out.row(map[string]any{"pool": u.Pool, "bytes": u.Bytes, "limit": u.Limit, "manifests": u.Manifests, "evicted": u.Evicted, "evictedBytes": u.EvictedBytes},
			orDash(string(u.Pool)), strconv.FormatInt(u.Bytes, 10), limit, strconv.FormatInt(u.Manifests, 10), strconv.FormatInt(u.Evicted, 10), strconv.FormatInt(u.EvictedBytes, 10))
	}
	return nil
}

func cacheList(ctx context.Context, c *storeCall) error {
	repo, ref, err := parseName(c.args[0])
	if err == nil && ref != (registry.Reference{}) {
		err = wrongUsage("%q: must be a repository", c.args[0])
	}
	if err != nil {
		return err
	}
	c.out.header("DIGEST", "BYTES", "USED", "FETCHED", "UPSTREAM", "TAGS", "PINNED BY")
	for p := (registry.Page[registry.Digest]{Limit: 1000}); ; {
		list, err := c.Catalog.CachedManifests(ctx, operator, repo, p)
		if err != nil {
			return err
		}
		for _, m := range list.Items {
			p.After = m.Digest
			c.out.row(map[string]any{
				"digest": m.Digest, "size": m.Size, "used": instant(m.Used), "fetched": instant(m.Fetched), "upstream": m.Upstream, "tags": m.Tags, "pinned": m.Pinned,
			}, m.Digest.String(), strconv.FormatInt(m.Size, 10), moment(m.Used), moment(m.Fetched), orDash(m.Upstream), orDash(joined(m.Tags)), orDash(m.Pinned))
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
	}
}

func joined(tags []registry.Tag) (text string) {
	for i, t := range tags {
		if i > 0 {
			text += ","
		}
		text += string(t)
	}
	return text
}

func cacheEvict(ctx context.Context, c *storeCall) error {
	for _, arg := range c.args {
		repo, ref, err := parseName(arg)
		if err != nil {
			return err
		}
		var sum registry.Eviction
		for more := true; more; more = sum.More {
			done, err := c.Catalog.EvictCached(ctx, operator, repo, ref)
			if err != nil {
				return err
			}
			sum = registry.Eviction{Manifests: sum.Manifests + done.Manifests, Blobs: sum.Blobs + done.Blobs, Bytes: sum.Bytes + done.Bytes, More: done.More}
		}
		c.out.row(map[string]any{"evicted": arg, "manifests": sum.Manifests, "blobs": sum.Blobs, "bytes": sum.Bytes},
			arg, strconv.FormatInt(sum.Manifests, 10)+" manifests", strconv.FormatInt(sum.Blobs, 10)+" blobs", strconv.FormatInt(sum.Bytes, 10)+" bytes that nothing needs now")
	}
	return nil
}
