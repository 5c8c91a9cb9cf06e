package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// gcWait is how long gc waits for something that is about to become due: longer
// than what was condemned waits to be given up.
const gcWait = 90 * time.Second

// gcCommands are the commands about what goes, and what comes back.
func gcCommands(program string, parts Parts) []cli.Command {
	name := program + " "
	var dry, list bool
	return []cli.Command{
		{
			Name: "gc", Args: "FILE", Summary: "remove what nothing needs and what may go now, or tell what will go and why",
			Example: name + "gc config.json\n" + name + "gc --dry-run config.json",
			Run: onStore(parts, 0, 0, func(f *flag.FlagSet) {
				f.BoolVar(&dry, "dry-run", false, "remove nothing: tell what will go, when, and why")
			},
				func(ctx context.Context, c *storeCall) error {
					if dry {
						return plan(ctx, c)
					}
					return collect(ctx, c)
				}),
		},
		{
			Name: "delete", Args: "FILE REPO[:TAG|@DIGEST]...", Summary: "delete tags, manifests or whole repositories; undelete brings them back",
			Example: name + "delete config.json team/app:v1\n" + name + "delete config.json team/app",
			Run:     onStore(parts, 1, 1000, nil, eachNamed("deleted", deleteNamed)),
		},
		{
			Name: "undelete", Args: "FILE [REPO[:TAG|@DIGEST]...]", Summary: "bring back what was deleted, or list what can be brought back",
			Example: name + "undelete config.json team/app:v1\n" + name + "undelete --list config.json",
			Run: onStore(parts, 0, 1000, func(f *flag.FlagSet) {
				f.BoolVar(&list, "list", false, "list what can be brought back, of the repositories named or of all")
			},
				func(ctx context.Context, c *storeCall) error {
					if list {
						return listDeleted(ctx, c)
					}
					if len(c.args) == 0 {
						return wrongUsage("undelete: name what to bring back, or use --list")
					}
					return eachNamed("restored", undeleteNamed)(ctx, c)
				}),
		},
		{
			Name: "purge", Args: "FILE [REPO...]", Summary: "give up what was deleted, in some repositories or in all: it can't be brought back any more",
			Example: name + "purge config.json team/app\n" + name + "purge config.json",
			Run:     onStore(parts, 0, 1000, nil, purge),
		},
	}
}

// eachNamed calls do for each argument, and says that it was done.
func eachNamed(done string, do func(context.Context, registry.Catalog, registry.Name, registry.Reference) error) func(context.Context, *storeCall) error {
	return func(ctx context.Context, c *storeCall) error {
		for _, arg := range c.args {
			repo, ref, err := parseName(arg)
			if err != nil {
				return err
			}
			if err := do(ctx, c.Catalog, repo, ref); err != nil {
				return fmt.Errorf("%s: %w", arg, err)
			}
			c.out.row(map[string]any{done: arg}, arg, done)
		}
		return nil
	}
}

func deleteNamed(ctx context.Context, c registry.Catalog, repo registry.Name, ref registry.Reference) error {
	switch {
	case ref.Tag != "":
		return c.DeleteTag(ctx, operator, repo, ref.Tag, registry.Condition{})
	case ref.Digest != "":
		return c.DeleteManifest(ctx, operator, repo, ref.Digest)
	}
	return c.DeleteRepository(ctx, operator, repo)
}

func undeleteNamed(ctx context.Context, c registry.Catalog, repo registry.Name, ref registry.Reference) error {
	return c.Undelete(ctx, operator, repo, ref)
}

func purge(ctx context.Context, c *storeCall) error {
	names := []registry.Name{""}
	if len(c.args) > 0 {
		names = nil
	}
	for _, arg := range c.args {
		repo, err := registry.ParseName(arg)
		if err != nil {
			return wrongUsage("%q: %w", arg, err)
		}
		names = append(names, repo)
	}
	for _, repo := range names {
		if err := c.Catalog.Purge(ctx, operator, repo); err != nil {
			return err
		}
		what := string(repo)
		if what == "" {
			what = "everything"
		}
		c.out.row(map[string]any{"purged": repo}, what, "purged")
	}
	c.out.say("what nobody was promised goes with the next collection, or now with the command gc")
	return nil
}

// collect collects until nothing is due, nor will be in a moment.
func collect(ctx context.Context, c *storeCall) error {
	var sum registry.Collection
	begin := time.Now()
	for {
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
		sum.Next = done.Next
		wait := time.Until(time.UnixMicro(done.Next))
		if done.More || done.Next != 0 && wait < gcWait && time.Since(begin) < 10*gcWait {
			if done.More {
				wait = 0
			}
			if err := pause(ctx, max(wait, 0)); err != nil {
				return err
			}
			continue
		}
		break
	}
	c.out.row(map[string]any{
		"reviews": sum.Reviews, "manifests": sum.Manifests, "links": sum.Links, "blobs": sum.Blobs,
		"repositories": sum.Repositories, "bytes": sum.Bytes, "next": instant(sum.Next),
	}, fmt.Sprintf("removed %d manifests, %d blobs from repositories, %d blobs (%d bytes), %d repositories; next review %s",
		sum.Manifests, sum.Links, sum.Blobs, sum.Bytes, sum.Repositories, moment(sum.Next)))
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errNoCursor says that a list does not go on.
var errNoCursor = errors.New("the list does not go on")

func plan(ctx context.Context, c *storeCall) error {
	c.out.header("WHEN", "KIND", "REPOSITORY", "DIGEST", "BYTES", "WHY")
	for p := (registry.Page[registry.Cursor]{Limit: 1000}); ; {
		list, err := c.Catalog.Plan(ctx, operator, p)
		if err != nil {
			return err
		}
		for _, d := range list.Items {
			p.After = d.Cursor
			c.out.row(map[string]any{
				"time": instant(d.At), "kind": d.Kind, "repository": d.Repo, "pool": d.Pool, "digest": d.Digest, "size": d.Size, "reason": d.Reason,
			}, moment(d.At), d.Kind, orDash(string(d.Repo)), orDash(d.Digest.String()), strconv.FormatInt(d.Size, 10), d.Reason)
		}
		if !list.More {
			return nil
		}
		if len(list.Items) == 0 {
			return errNoCursor
		}
	}
}

func listDeleted(ctx context.Context, c *storeCall) error {
	repos := []registry.Name{""}
	if len(c.args) > 0 {
		repos = nil
	}
	for _, arg := range c.args {
		repo, err := registry.ParseName(arg)
		if err != nil {
			return wrongUsage("%q: %w", arg, err)
		}
		repos = append(repos, repo)
	}
	c.out.header("DELETED", "UNTIL", "ACTOR", "NAME", "TAGS")
	for _, repo := range repos {
		if err := listDeletedOf(ctx, c, repo); err != nil {
			return err
		}
	}
	return nil
}

func listDeletedOf(ctx context.Context, c *storeCall, repo registry.Name) error {
	for p := (registry.Page[registry.Cursor]{Limit: 1000}); ; {
		list, err := c.Catalog.Deleted(ctx, operator, repo, p)
		if err != nil {
			return err
		}
		for _, d := range list.Items {
			p.After = d.Cursor
			tags := make([]string, len(d.Tags))
			for i, t := range d.Tags {
				tags[i] = string(t)
			}
			c.out.row(map[string]any{
				"repository": d.Repo, "digest": d.Digest, "tag": d.Tag, "tags": tags, "size": d.Size, "actor": d.Actor, "deleted": instant(d.At), "until": instant(d.Until),
			}, moment(d.At), moment(d.Until), orDash(d.Actor), d.Subject(), orDash(strings.Join(tags, " ")))
		}
		if !list.More {
			return nil
		}
		if len(list.Items) == 0 {
			return errNoCursor
		}
	}
}
