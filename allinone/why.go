package allinone

import (
	"context"
	"flag"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/services/gateway/gate"
)

// whyCommand tells whether an image may be pulled, and why not.
func whyCommand(program string, parts Parts) cli.Command {
	var user, groups string
	return cli.Command{
		Name: "why", Args: "FILE REPO:TAG", Summary: "whether a gate lets an image be pulled, and why not; exits 1 if not",
		Example: program + " why config.json library/alpine:latest\n" + program + " why --user ci config.json library/alpine:latest",
		Run: onStore(parts, 1, 1, func(f *flag.FlagSet) {
			f.StringVar(&user, "user", "", "the `USER` who pulls; anybody for whom there is no exception if absent")
			f.StringVar(&groups, "groups", "", "`GROUPS` of the user, with commas")
		}, func(ctx context.Context, c *storeCall) error {
			who := registry.Actor{ID: user}
			if groups != "" {
				who.Groups = strings.Split(groups, ",")
			}
			return why(ctx, c, who)
		}),
	}
}

func why(ctx context.Context, c *storeCall, who registry.Actor) error {
	repo, ref, err := parseName(c.args[0])
	if err != nil {
		return err
	}
	if ref == (registry.Reference{}) {
		return wrongUsage("%q: must be REPO:TAG or REPO@DIGEST", c.args[0])
	}
	m, err := c.Catalog.Manifest(ctx, operator, repo, registry.ManifestQuery{Ref: ref})
	if err != nil {
		return err
	}
	g, err := gate.New(c.cfg, gate.Deps{Catalog: c.Catalog, Blobs: c.Blobs, Scans: c.Scans})
	if err != nil {
		return err
	}
	v, err := g.Judge(ctx, operator, who, repo, m)
	if err != nil {
		return err
	}
	answer := "may be pulled"
	if v.Denied != "" {
		answer = "can't be pulled: " + v.Denied
	}
	c.out.row(map[string]any{"repository": repo, "digest": m.Digest, "denied": v.Denied, "warnings": v.Warnings, "steps": v.Steps}, c.args[0]+" "+answer)
	if c.out.json == nil {
		for _, s := range append(v.Steps, v.Warnings...) {
			c.out.row(nil, "  "+s)
		}
		if len(g.Tools()) > 0 {
			if err := showSignatures(ctx, c, g, repo, m.Digest); err != nil {
				return err
			}
		}
	}
	if v.Denied != "" {
		return registry.ErrDenied.With("%s", v.Denied)
	}
	return nil
}

func showSignatures(ctx context.Context, c *storeCall, g *gate.Gate, repo registry.Name, d registry.Digest) error {
	all, err := g.SignaturesOf(ctx, operator, repo, d)
	if err != nil {
		return err
	}
	for _, s := range all {
		state := "trusted, by " + strings.TrimSpace(strings.ReplaceAll(s.Author, "\n", " "))
		if !s.Trusted {
			state = "not trusted: " + s.Problem
		}
		c.out.row(nil, "  signature of "+s.Tool+" in "+string(s.Manifest)+": "+state)
	}
	return nil
}

// trustCommand shows and changes what signatures are verified with.
func trustCommand(program string, parts Parts) cli.Command {
	var remove string
	return cli.Command{
		Name: "trust", Args: "FILE", Summary: "the keys and certificates that signatures are verified with",
		Example: program + " trust config.json\n" + program + " trust --remove 0a1b… config.json",
		Run: onStore(parts, 0, 0, func(f *flag.FlagSet) { f.StringVar(&remove, "remove", "", "trust the key with this `ID` no longer") },
			func(ctx context.Context, c *storeCall) error {
				if remove != "" {
					return c.Catalog.RemoveTrusted(ctx, operator, remove)
				}
				all, err := c.Catalog.Trusted(ctx)
				if err != nil {
					return err
				}
				c.out.header("ID", "TOOL", "STORE", "ADDED", "BY")
				for _, k := range all {
					c.out.row(map[string]any{"id": k.ID, "tool": k.Tool, "store": k.Store, "pem": k.PEM, "added": instant(k.Since), "by": k.Actor},
						k.ID, k.Tool, orDash(k.Store), moment(k.Since), orDash(k.Actor))
				}
				return nil
			}),
	}
}
