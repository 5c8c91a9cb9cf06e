package allinone

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// syncCommand are the commands about mirrored registries. They need the process that
// mirrors.
func syncCommand(program string, parts Parts) cli.Command {
	name := program + " sync "
	onMirror := func(run func(context.Context, *storeCall, registry.Mirror) error) func(context.Context, *storeCall) error {
		return func(ctx context.Context, c *storeCall) error {
			if c.Mirror == nil {
				return errors.New("no process that mirrors could be reached: is the registry running?")
			}
			return run(ctx, c, c.Mirror)
		}
	}
	// A rule that is not named is all of them.
	pausing := func(what string, paused bool) func(context.Context, *storeCall) error {
		return onMirror(func(ctx context.Context, c *storeCall, m registry.Mirror) error {
			rule, name := registry.AllRules, "all rules"
			if len(c.args) > 0 {
				rule, name = c.args[0], c.args[0]
			}
			if err := m.Pause(ctx, rule, paused); err != nil {
				return err
			}
			c.out.say("%s: %s", name, what)
			return nil
		})
	}
	ruled := func(what string, do func(context.Context, registry.Mirror, string) error) func(context.Context, *storeCall) error {
		return onMirror(func(ctx context.Context, c *storeCall, m registry.Mirror) error {
			if err := do(ctx, m, c.args[0]); err != nil {
				return err
			}
			c.out.say("%s: %s", c.args[0], what)
			return nil
		})
	}
	return cli.Group(cli.Command{
		Name: "sync", Args: "COMMAND", Summary: "other registries that are mirrored: rules, progress, why",
		Example: name + "rules config.json",
	}, cli.Command{
		Name: "rules", Args: "FILE", Summary: "the rules, in the order they are looked at, and what became of them",
		Example: name + "rules config.json", Run: onStore(parts, 0, 0, nil, onMirror(listRules)),
	}, cli.Command{
		Name: "status", Args: "FILE [REPO]", Summary: "the blobs that are being fetched, in bytes; or how much of each tag and platform of a repository is here",
		Example: name + "status config.json library/nginx", Run: onStore(parts, 0, 1, nil, onMirror(mirrorStatus)),
	}, cli.Command{
		Name: "explain", Args: "FILE REPO", Summary: "what the rules say of a repository: whom a pull asks for what, and what a push means",
		Example: name + "explain config.json library/nginx", Run: onStore(parts, 1, 1, nil, onMirror(explainMirror)),
	}, cli.Command{
		Name: "test", Args: "FILE RULE", Summary: "ask the upstream of a rule: its name, the connection, credentials, budget",
		Example: name + "test config.json docker.io", Run: onStore(parts, 1, 1, nil, onMirror(examineRule)),
	}, cli.Command{
		Name: "trigger", Args: "FILE RULE", Summary: "start the scheduled copy of a rule now",
		Example: name + "trigger config.json docker.io",
		Run:     onStore(parts, 1, 1, nil, ruled("started", func(ctx context.Context, m registry.Mirror, rule string) error { return m.Trigger(ctx, rule) })),
	}, cli.Command{
		Name: "pause", Args: "FILE [RULE]", Summary: "ask the upstream of a rule, or of all, for nothing; what is here is served",
		Example: name + "pause config.json docker.io", Run: onStore(parts, 0, 1, nil, pausing("paused", true)),
	}, cli.Command{
		Name: "resume", Args: "FILE [RULE]", Summary: "let a paused rule, or all, ask its upstream again",
		Example: name + "resume config.json docker.io", Run: onStore(parts, 0, 1, nil, pausing("resumed", false)),
	}, cli.Command{
		Name: "forwards", Args: "FILE [RULE]", Summary: "pushes that are passed on to other registries: what waits, and what became of the last of each tag",
		Example: name + "forwards config.json", Run: onStore(parts, 0, 1, nil, onMirror(listForwards)),
	}, cli.Command{
		Name: "retry", Args: "FILE RULE", Summary: "pass on now what waits for a rule's next attempt, and what was refused or kept back",
		Example: name + "retry config.json registry.example.com",
		Run:     onStore(parts, 1, 1, nil, ruled("tries again", func(ctx context.Context, m registry.Mirror, rule string) error { return m.Reforward(ctx, rule) })),
	}, cli.Command{
		Name: "drop", Args: "FILE NUMBER", Summary: "give a push up that waits to be passed on, or forget what became of one; it stays here",
		Example: name + "drop config.json 17", Run: onStore(parts, 1, 1, nil, onMirror(dropForward)),
	}, cli.Command{
		Name: "client-config", Args: "FILE CLIENT [URL]", Summary: "what containerd, k3s, docker or podman has to be told to pull from here; URL is where clients reach the registry",
		Example: name + "client-config config.json containerd https://mirror.example.com", Run: clientConfig,
	}, cli.Command{
		Name: "forget", Args: "FILE REPO", Summary: "forget when tags of a repository were compared, and that it was pushed to; what is stored stays",
		Example: name + "forget config.json library/nginx", Run: onStore(parts, 1, 1, nil, onMirror(forgetMirror)),
	})
}

func listRules(ctx context.Context, c *storeCall, m registry.Mirror) error {
	rules, err := m.MirrorRules(ctx)
	if err != nil {
		return err
	}
	c.out.header("RULE", "UPSTREAM", "ON DEMAND", "EVERY", "PUSH", "STATE", "LAST RUN", "TAGS", "REQUESTS", "BYTES", "BYTES/S", "OF", "MONTH", "OF", "HITS", "SAVED", "OF ALL", "PULLS LEFT", "LAST ERROR")
	for _, r := range rules {
		every, left, state, url := "-", "-", "idle", ""
		if r.Interval > 0 {
			every = r.Interval.String()
		}
		if r.Budget >= 0 {
			left = strconv.FormatInt(r.Budget, 10)
		}
		switch {
		case r.Paused:
			state = "paused"
		case r.Down:
			state = "down"
		case r.Waits != "":
			state = "waits"
			if r.LastError == "" {
				r.LastError = r.Waits
			}
		case r.Running:
			state = "copying"
		}
		if len(r.URLs) > 0 {
			url = r.URLs[0]
		}
		c.out.row(r, r.Name, url, strconv.FormatBool(r.OnDemand), every, string(r.Push), state, moment(r.LastRun),
			fmt.Sprintf("%d/%d", r.Done, r.Total), strconv.FormatInt(r.Requests, 10), strconv.FormatInt(r.Bytes, 10),
			strconv.FormatInt(r.Speed, 10), limit(r.Rate), strconv.FormatInt(r.MonthBytes, 10), limit(r.MonthLimit), share(r.Hits, r.Hits+r.Misses),
			strconv.FormatInt(r.Saved, 10), share(r.Saved, r.Saved+r.Bytes), left, orDash(r.LastError))
	}
	return nil
}

// share returns which part of all n is, as text.
func share(n, all int64) string {
	if all <= 0 {
		return "-"
	}
	return strconv.FormatInt(int64(float64(n)/float64(all)*100), 10) + "%"
}

// limit returns a limit as text.
func limit(n int64) string {
	if n <= 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

func mirrorStatus(ctx context.Context, c *storeCall, m registry.Mirror) error {
	if len(c.args) == 0 {
		return listFills(ctx, c, m)
	}
	repo, err := registry.ParseName(c.args[0])
	if err != nil {
		return wrongUsage("%q: %w", c.args[0], err)
	}
	c.out.header("TAG", "PLATFORM", "STATE", "BYTES", "OF", "DIGEST")
	for p := (registry.Page[registry.Tag]{Limit: registry.MaxPage}); ; {
		list, err := m.Presence(ctx, repo, p)
		if err != nil {
			return err
		}
		for _, t := range list.Items {
			p.After = t.Tag
			if c.out.json != nil {
				c.out.row(t)
				continue
			}
			for _, x := range t.Platforms {
				c.out.row(nil, string(t.Tag), orDash(x.Platform), string(x.State), strconv.FormatInt(x.Have, 10), strconv.FormatInt(x.Size, 10), string(x.Digest))
			}
		}
		if !list.More || len(list.Items) == 0 {
			return nil
		}
	}
}

func listFills(ctx context.Context, c *storeCall, m registry.Mirror) error {
	fills, err := m.Fills(ctx)
	if err != nil {
		return err
	}
	c.out.header("DIGEST", "REPOSITORY", "RULE", "BYTES", "OF", "DONE", "BYTES/S", "SECONDS LEFT", "FOR", "READERS", "SINCE", "TROUBLE")
	for _, f := range fills {
		size, done := "-", "-"
		if f.Size >= 0 {
			size = strconv.FormatInt(f.Size, 10)
		}
		eta := "-"
		if f.ETA >= 0 {
			eta = strconv.FormatInt(f.ETA, 10)
		}
		if f.Size > 0 {
			done = strconv.FormatInt(f.Have*100/f.Size, 10) + "%"
		}
		c.out.row(f, string(f.Digest), string(f.Repository), f.Rule, strconv.FormatInt(f.Have, 10), size, done,
			strconv.FormatInt(f.Speed, 10), eta, f.Priority,
			strconv.FormatInt(f.Readers, 10), moment(f.Since), orDash(f.Error))
	}
	return nil
}

func listForwards(ctx context.Context, c *storeCall, m registry.Mirror) error {
	q := registry.ForwardQuery{Limit: 1000}
	if len(c.args) > 0 {
		q.Rule = c.args[0]
	}
	c.out.header("NUMBER", "RULE", "REPOSITORY", "TAG", "DIGEST", "WHAT", "TO", "STATE", "SINCE", "ATTEMPTS", "TROUBLE")
	for {
		all, err := m.Forwards(ctx, q)
		if err != nil {
			return err
		}
		for _, f := range all {
			what := "push"
			if f.Deletion {
				what = "removal"
			}
			c.out.row(f, strconv.FormatInt(f.Number, 10), f.Rule, string(f.Repository), orDash(string(f.Tag)), string(f.Digest), what, f.Upstream,
				string(f.State), moment(f.Since), strconv.FormatInt(f.Attempts, 10), orDash(f.Error))
			q.After = f.Number
		}
		if len(all) < q.Limit {
			return nil
		}
	}
}

func dropForward(ctx context.Context, c *storeCall, m registry.Mirror) error {
	number, err := strconv.ParseInt(c.args[0], 10, 64)
	if err != nil {
		return wrongUsage("%q is no number of berth sync forwards", c.args[0])
	}
	if err := m.DropForward(ctx, number); err != nil {
		return err
	}
	left, err := m.Forwards(ctx, registry.ForwardQuery{After: number - 1, Limit: 1})
	if err != nil {
		return err
	}
	if len(left) == 1 && left[0].Number == number {
		c.out.say("%d: %s", number, left[0].Error)
	} else {
		c.out.say("%d: forgotten", number)
	}
	return nil
}

func explainMirror(ctx context.Context, c *storeCall, m registry.Mirror) error {
	repo, err := registry.ParseName(c.args[0])
	if err != nil {
		return wrongUsage("%q: %w", c.args[0], err)
	}
	lines, err := m.Explain(ctx, repo)
	if err != nil {
		return err
	}
	for _, line := range lines {
		c.out.row(map[string]any{"repository": repo, "text": line}, line)
	}
	return nil
}

func examineRule(ctx context.Context, c *storeCall, m registry.Mirror) error {
	steps, err := m.Examine(ctx, c.args[0])
	if err != nil {
		return err
	}
	c.out.header("STEP", "OK", "WHAT CAME OF IT")
	for _, s := range steps {
		c.out.row(s, s.Step, strconv.FormatBool(s.OK), s.Text)
		if !s.OK {
			err = registry.ErrNameUnknown.With("%s failed", s.Step)
		}
	}
	return err
}

func forgetMirror(ctx context.Context, c *storeCall, m registry.Mirror) error {
	repo, err := registry.ParseName(c.args[0])
	if err != nil {
		return wrongUsage("%q: %w", c.args[0], err)
	}
	if err := m.Forget(ctx, repo); err != nil {
		return err
	}
	c.out.say("%s: forgotten", repo)
	return nil
}
