package allinone

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// du is the command that says what repositories hold.
func du(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "du", Args: "FILE [REPO]",
		Summary: "bytes that repositories hold: all of it, what only they have, and what others have, too",
		Example: program + " du config.json\n" + program + " du --json config.json library/alpine",
		Run:     onStore(parts, 0, 1, nil, diskUsage),
	}
}

func diskUsage(ctx context.Context, c *storeCall) error {
	var total registry.Usage
	one := func(repo registry.Name) error {
		u, err := c.Catalog.Usage(ctx, operator, repo)
		if err != nil {
			return err
		}
		total.Manifests += u.Manifests
		total.Blobs += u.Blobs
		total.Logical += u.Logical
		total.Unique += u.Unique
		c.out.row(map[string]any{"repository": repo, "logical": u.Logical, "unique": u.Unique, "shared": u.Shared(), "manifests": u.Manifests, "blobs": u.Blobs},
			usageRow(string(repo), u)...)
		return nil
	}
	c.out.header("REPOSITORY", "LOGICAL", "UNIQUE", "SHARED", "MANIFESTS", "BLOBS")
	if len(c.args) > 0 {
		repo, ref, err := parseName(c.args[0])
		if err == nil && ref != (registry.Reference{}) {
			err = wrongUsage("%q: must be a repository", c.args[0])
		}
		if err != nil {
			return err
		}
		return one(repo)
	}
	err := eachRepository(ctx, c.Catalog, func(repo registry.Name) error {
		if err := one(repo); err != nil && !errors.Is(err, registry.ErrNameUnknown) { // it may have gone meanwhile
			return fmt.Errorf("%s: %w", repo, err)
		}
		return nil
	})
	if err == nil {
		c.out.header(usageRow("(sum)", total)...)
	}
	return err
}

func usageRow(name string, u registry.Usage) []string {
	row := []string{name}
	for _, n := range []int64{u.Logical, u.Unique, u.Shared(), u.Manifests, u.Blobs} {
		row = append(row, strconv.FormatInt(n, 10))
	}
	return row
}
