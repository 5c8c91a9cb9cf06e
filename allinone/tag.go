package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// tagCommand are the commands about the history of tags.
func tagCommand(program string, parts Parts) cli.Command {
	name := program + " tag "
	var limit int
	var to string
	return cli.Group(cli.Command{
		Name: "tag", Args: "COMMAND", Summary: "what became of a tag, and how to take it back",
		Example: name + "history config.json library/alpine:latest",
	}, cli.Command{
		Name: "history", Args: "FILE REPO:TAG", Summary: "the changes of a tag, the latest first and numbered 0",
		Example: name + "history config.json library/alpine:latest",
		Run: onStore(parts, 1, 1, func(f *flag.FlagSet) { f.IntVar(&limit, "limit", 100, "the latest `N` changes, at most 1000") },
			func(ctx context.Context, c *storeCall) error { return tagHistory(ctx, c, limit) }),
	}, cli.Command{
		Name: "rollback", Args: "FILE REPO:TAG", Summary: "let a tag point again to what it pointed to before; also one that was removed",
		Example: name + "rollback config.json library/alpine:latest\n" + name + "rollback --to 3 config.json library/alpine:latest",
		Run: onStore(parts, 1, 1, func(f *flag.FlagSet) {
			f.StringVar(&to, "to", "", "a `CHANGE` of the history by number, or a digest in it; the latest that differs from what is now if absent")
		}, func(ctx context.Context, c *storeCall) error { return rollback(ctx, c, to) }),
	})
}

func tagHistory(ctx context.Context, c *storeCall, limit int) error {
	repo, tag, err := parseTagged(c.args[0])
	if err != nil {
		return err
	}
	if limit < 1 || limit > 1000 {
		return wrongUsage("--limit must be 1 to 1000")
	}
	changes, err := c.Catalog.TagHistory(ctx, operator, repo, tag, limit)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return registry.ErrManifestUnknown.With("%s:%s never was", repo, tag)
	}
	c.out.header("CHANGE", "TIME", "ACTOR", "DIGEST")
	for i, ch := range changes {
		digest := ch.Digest.String()
		if digest == "" {
			digest = "(removed)"
		}
		c.out.row(map[string]any{"change": i, "time": instant(ch.At), "actor": ch.Actor, "digest": ch.Digest},
			strconv.Itoa(i), moment(ch.At), orDash(ch.Actor), digest)
	}
	return nil
}

func rollback(ctx context.Context, c *storeCall, to string) error {
	repo, tag, err := parseTagged(c.args[0])
	if err != nil {
		return err
	}
	changes, err := c.Catalog.TagHistory(ctx, operator, repo, tag, 1000)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return registry.ErrManifestUnknown.With("%s:%s never was", repo, tag)
	}
	digest, err := target(changes, to)
	if err != nil {
		return err
	}
	// Only if nobody has changed the tag since its history was read.
	now := registry.Condition{Match: changes[0].Digest, Absent: changes[0].Digest == ""}
	ch, err := c.Catalog.RollbackTag(ctx, operator, repo, tag, digest, now)
	if errors.Is(err, registry.ErrManifestUnknown) {
		// It may have been deleted, and not for good. That may set the tag, too.
		if c.Catalog.Undelete(ctx, operator, repo, registry.Reference{Digest: digest}) != nil {
			return err
		}
		if ch, err = c.Catalog.RollbackTag(ctx, operator, repo, tag, digest, now); errors.Is(err, registry.ErrPreconditionFailed) {
			ch, err = c.Catalog.RollbackTag(ctx, operator, repo, tag, digest, registry.Condition{Match: digest})
		}
	}
	if err != nil {
		return err
	}
	c.out.row(map[string]any{"repository": repo, "tag": tag, "digest": ch.Digest, "time": instant(ch.At)},
		fmt.Sprintf("%s:%s points to %s", repo, tag, ch.Digest))
	return nil
}

// target returns the digest that a rollback leads to.
func target(changes []registry.TagChange, to string) (registry.Digest, error) {
	if to == "" {
		for _, ch := range changes[1:] {
			if ch.Digest != "" && ch.Digest != changes[0].Digest {
				return ch.Digest, nil
			}
		}
		return "", registry.ErrManifestUnknown.With("the tag never pointed to anything else")
	}
	if n, err := strconv.Atoi(to); err == nil {
		if n < 0 || n >= len(changes) {
			return "", wrongUsage("--to %d: the history has changes 0 to %d", n, len(changes)-1)
		}
		if changes[n].Digest == "" {
			return "", wrongUsage("--to %d: that change removed the tag", n)
		}
		return changes[n].Digest, nil
	}
	d, err := registry.ParseDigest(to)
	if err != nil {
		return "", wrongUsage("--to %q: must be a number of the history or a digest", to)
	}
	return d, nil
}
