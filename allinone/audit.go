package allinone

import (
	"context"
	"flag"
	"strconv"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
)

// auditCommand shows who did what.
func auditCommand(program string, parts Parts) cli.Command {
	var q registry.AuditQuery
	var limit int
	var since string
	return cli.Command{
		Name: "audit", Args: "FILE", Summary: "who did what, the latest first",
		Example: program + " audit config.json\n" + program + " audit --actor alice --action manifest --object library/alpine --since 24h config.json",
		Run: onStore(parts, 0, 0, func(f *flag.FlagSet) {
			f.StringVar(&q.Actor, "actor", "", "only of this `USER`")
			f.StringVar(&q.Action, "action", "", "only of this `ACTION`, such as manifest.put, or of all that begin so: manifest, login")
			f.StringVar(&q.Object, "object", "", "only of this `OBJECT` and what is in it: a repository")
			f.StringVar(&since, "since", "", "only from this `TIME` on: 2026-11-30T12:00:00Z, or a duration before now, such as 24h")
			f.IntVar(&limit, "limit", 100, "the latest `N` events; 0 is all")
		}, func(ctx context.Context, c *storeCall) error {
			if limit < 0 {
				return wrongUsage("--limit must not be negative")
			}
			if since != "" {
				at, err := timeSince(since, time.Now())
				if err != nil {
					return err
				}
				q.Since = at.UnixMicro()
			}
			return showAudit(ctx, c, q, limit)
		}),
	}
}

// timeSince reads a time, or a duration before now.
func timeSince(s string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, wrongUsage("--since %q: must be a time such as 2026-11-30T12:00:00Z or a duration such as 24h", s)
	}
	return at, nil
}

func showAudit(ctx context.Context, c *storeCall, q registry.AuditQuery, limit int) error {
	c.out.header("TIME", "ACTOR", "SOURCE", "ACTION", "OBJECT", "STATUS", "RESULT", "REQUEST")
	for shown := 0; limit == 0 || shown < limit; {
		q.Limit = registry.MaxAuditEvents
		if limit > 0 {
			q.Limit = min(q.Limit, limit-shown)
		}
		list, err := c.Catalog.AuditLog(ctx, operator, q)
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			c.out.row(map[string]any{
				"id": e.ID, "time": instant(e.At), "actor": e.Actor, "source": e.Source, "action": e.Action, "object": e.Object,
				"status": e.Status, "result": e.Result, "requestId": e.RequestID,
			}, moment(e.At), orDash(e.Actor), orDash(e.Source), e.Action, e.Object, strconv.Itoa(e.Status), e.Result, e.RequestID)
			q.Before = e.ID
		}
		shown += len(list.Items)
		if !list.More || len(list.Items) == 0 {
			return nil
		}
	}
	return nil
}
