package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// retentionCommand are the commands about which tags are kept.
func retentionCommand(program string, parts Parts) cli.Command {
	name := program + " retention "
	var dryRun bool
	return cli.Group(cli.Command{
		Name: "retention", Args: "COMMAND", Summary: "which tags the policies of storage.retention keep, and why",
		Example: name + "explain config.json library/alpine",
	}, cli.Command{
		Name: "explain", Args: "FILE REPO[:TAG|@DIGEST]",
		Summary: "say of each tag and untagged manifest whether it stays, by which policy, entry and rule; changes nothing",
		Example: name + "explain config.json library/alpine\n" + name + "explain --json config.json library/alpine:3.20",
		Run:     onStore(parts, 1, 1, nil, explainRetention),
	}, cli.Command{
		Name: "run", Args: "FILE [REPO]",
		Summary: "remove tags that the policies do not keep, in one repository or all, now instead of at the next run",
		Example: name + "run --dry-run config.json\n" + name + "run config.json library/alpine",
		Run: onStore(parts, 0, 1, func(f *flag.FlagSet) {
			f.BoolVar(&dryRun, "dry-run", false, "list what would be removed, and remove nothing")
		}, func(ctx context.Context, c *storeCall) error { return runRetention(ctx, c, dryRun) }),
	})
}

// decisionJSON is a decision for scripts.
type decisionJSON struct {
	Repository registry.Name   `json:"repository"`
	Tag        registry.Tag    `json:"tag,omitempty"`
	Digest     registry.Digest `json:"digest"`
	Decision   string          `json:"decision"`
	Policy     int             `json:"policy,omitempty"`
	Entry      int             `json:"entry,omitempty"`
	Rule       string          `json:"rule,omitempty"`
	Reason     string          `json:"reason"`
	Pushed     any             `json:"pushed,omitempty"`
	Pulled     any             `json:"pulled,omitempty"`
}

// decisions calls f for each decision about a repository.
func decisions(ctx context.Context, c registry.Retention, repo registry.Name, only registry.Reference, f func(registry.RetentionDecision)) error {
	for p := (registry.Page[string]{Limit: 1000}); ; {
		list, err := c.ExplainRetention(ctx, operator, repo, only, p)
		if err != nil {
			return err
		}
		for _, d := range list.Items {
			f(d)
			p.After = d.Key()
		}
		if !list.More {
			return nil
		}
	}
}

func (r *report) decision(repo registry.Name, d registry.RetentionDecision) {
	decision, place, policy := "delete", "untagged", "-"
	if d.Keep {
		decision = "keep"
	}
	if d.Tag != "" {
		place = string(d.Tag)
	}
	if d.Policy > 0 {
		policy = fmt.Sprint(d.Policy)
		if d.Entry > 0 {
			policy += fmt.Sprintf(".%d", d.Entry)
		}
	}
	j := decisionJSON{Repository: repo, Tag: d.Tag, Digest: d.Digest, Decision: decision, Policy: d.Policy, Entry: d.Entry, Rule: d.Rule, Reason: d.Reason}
	if t := instant(d.Pushed); t != nil {
		j.Pushed = t
	}
	if t := instant(d.Pulled); t != nil {
		j.Pulled = t
	}
	r.row(j, string(repo), place, d.Digest.String(), decision, policy, orDash(d.Rule), moment(d.Pushed), moment(d.Pulled), d.Reason)
}

func (r *report) decisionHeader() {
	r.header("REPOSITORY", "TAG", "DIGEST", "DECISION", "POLICY", "RULE", "PUSHED", "PULLED", "REASON")
}

func explainRetention(ctx context.Context, c *storeCall) error {
	repo, only, err := parseName(c.args[0])
	if err != nil {
		return err
	}
	c.out.decisionHeader()
	n := 0
	err = decisions(ctx, c.Catalog, repo, only, func(d registry.RetentionDecision) {
		n++
		c.out.decision(repo, d)
	})
	if err == nil && n == 0 && only != (registry.Reference{}) {
		return registry.ErrManifestUnknown.With("%s is no tag, and no manifest that nothing else needs", only)
	}
	return err
}

func runRetention(ctx context.Context, c *storeCall, dryRun bool) error {
	one := func(repo registry.Name) error { return retainNow(ctx, c, repo) }
	if dryRun {
		c.out.decisionHeader()
		one = func(repo registry.Name) error {
			return decisions(ctx, c.Catalog, repo, registry.Reference{}, func(d registry.RetentionDecision) {
				if !d.Keep {
					c.out.decision(repo, d)
				}
			})
		}
	} else {
		c.out.header("REPOSITORY", "KEPT", "REMOVED")
	}
	if len(c.args) == 0 {
		return eachRepository(ctx, c.Catalog, func(repo registry.Name) error {
			err := one(repo)
			if errors.Is(err, registry.ErrNameUnknown) { // it has gone meanwhile
				return nil
			}
			return err
		})
	}
	repo, ref, err := parseName(c.args[0])
	if err == nil && ref != (registry.Reference{}) {
		err = wrongUsage("%q: must be a repository", c.args[0])
	}
	if err != nil {
		return err
	}
	return one(repo)
}

func retainNow(ctx context.Context, c *storeCall, repo registry.Name) error {
	r, err := c.Catalog.ApplyRetention(ctx, operator, repo)
	if errors.Is(err, registry.ErrUnsupported) {
		c.out.row(map[string]any{"repository": repo, "skipped": registry.AsError(err).Text()}, string(repo), "-", "read-only")
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", repo, err)
	}
	removed := fmt.Sprint(r.Deleted)
	if r.DryRun {
		removed = fmt.Sprintf("0 (%d if storage.retention.dryRun were off)", r.Deleted)
	}
	c.out.row(map[string]any{"repository": repo, "kept": r.Kept, "removed": r.Deleted, "dryRun": r.DryRun}, string(repo), fmt.Sprint(r.Kept), removed)
	return nil
}
