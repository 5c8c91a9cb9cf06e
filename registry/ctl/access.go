package ctl

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// AccessCommands are commands about the rules that hold, for the group "access" of a
// program.
func AccessCommands(program string) []cli.Command {
	name := program + " access "
	return []cli.Command{
		command("show", "", "print the access rules that hold, as JSON", name+"show --config config.json", 0, showAccess),
		command("review", "FILE", "say what the access rules of another config file would change, for the users and repositories there are; exit code 1 if they would", name+"review --config config.json new.json", 1, reviewAccess),
	}
}

func showAccess(ctx context.Context, c *call) error {
	rules, err := c.Catalog.AccessRules(ctx, operator)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(rules, "", "  ")
	if err != nil {
		return err
	}
	return c.out.raw(append(b, '\n'))
}

func reviewAccess(ctx context.Context, c *call) error {
	next, _, err := config.Load(c.args[0])
	if err != nil {
		return usage("%w", err)
	}
	r, err := c.Catalog.ReviewAccess(ctx, operator, next.HTTP.AccessControl)
	if err != nil {
		return err
	}
	c.out.header("WHO", "GAINS", "LOSES", "REPOSITORIES", "SUCH AS")
	for _, x := range r.Changes {
		examples := make([]string, len(x.Examples))
		for i, n := range x.Examples {
			examples[i] = string(n)
		}
		who, where := strings.TrimSpace(string(x.Kind)+" "+x.Name), strconv.FormatInt(x.Repositories, 10)
		if x.Repositories == 0 {
			where = "the store"
		}
		c.out.row(map[string]any{
			"kind": x.Kind, "name": x.Name, "gains": x.Gains.Names(), "loses": x.Loses.Names(), "repositories": x.Repositories, "examples": examples,
		}, who, orNone(x.Gains), orNone(x.Loses), where, orDash(strings.Join(examples[:min(len(examples), 3)], " ")))
	}
	switch {
	case r.More:
		return daemon.Exit{Code: exitRefused, Err: errors.New("there are more changes than these")}
	case len(r.Changes) > 0:
		return daemon.Exit{Code: exitRefused, Err: errors.New("these rules let people do other things than those that hold")}
	}
	return nil
}

func orNone(a registry.Actions) string { return orDash(strings.Join(a.Names(), ",")) }
