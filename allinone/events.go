package allinone

import (
	"context"
	"flag"
	"strconv"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// eventsCommand shows what receivers of events are told.
func eventsCommand(program string, parts Parts) cli.Command {
	var limit int
	var repo string
	var sinks bool
	return cli.Command{
		Name: "events", Args: "FILE", Summary: "what others are told, the latest first, or who is told",
		Example: program + " events config.json\n" + program + " events --sinks config.json",
		Run: onStore(parts, 0, 0, func(f *flag.FlagSet) {
			f.StringVar(&repo, "repository", "", "only of this `REPOSITORY`")
			f.IntVar(&limit, "limit", 100, "the latest `N` events, 1 to 1000")
			f.BoolVar(&sinks, "sinks", false, "list the receivers, and how far they were told")
		}, func(ctx context.Context, c *storeCall) error {
			if sinks {
				return showSinks(ctx, c)
			}
			list, err := c.Catalog.Announced(ctx, operator, registry.AnnouncementQuery{Repo: registry.Name(repo), Limit: limit})
			if err != nil {
				return err
			}
			c.out.header("TIME", "TYPE", "REPOSITORY", "REFERENCE", "DIGEST", "ACTOR", "ID")
			for _, e := range list.Items {
				c.out.row(map[string]any{
					"id": e.ID, "time": instant(e.At), "type": e.Type, "repository": e.Repo, "reference": e.Reference, "digest": e.Digest,
					"mediaType": e.MediaType, "actor": e.Actor, "address": e.Address, "method": e.Method, "userAgent": e.Agent, "data": e.Data,
				}, moment(e.At), e.Type, string(e.Repo), orDash(e.Reference), orDash(string(e.Digest)), orDash(e.Actor), e.ID)
			}
			return nil
		}),
	}
}

func showSinks(ctx context.Context, c *storeCall) error {
	all, err := c.Catalog.Sinks(ctx, operator)
	if err != nil {
		return err
	}
	c.out.header("SINK", "WAITING", "DELIVERED", "DROPPED", "FAILURES", "LAST", "ERROR")
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	for _, s := range all {
		c.out.row(map[string]any{
			"name": s.Name, "waiting": s.Waiting, "delivered": s.Delivered, "dropped": s.Dropped, "failures": s.Failures, "last": instant(s.At), "error": s.Error,
		}, s.Name, number(s.Waiting), number(s.Delivered), number(s.Dropped), number(s.Failures), moment(s.At), orDash(s.Error))
	}
	return nil
}
