package allinone

import (
	"context"
	"log/slog"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// Program returns an all-in-one program made of parts.
func Program(name, summary string, parts Parts) cli.Program {
	return cli.Program{
		Name:    name,
		Version: parts.Version,
		Summary: summary,
		Serve: cli.Server{
			Program: config.AllInOne,
			HTTP:    true,
			Units: func(ctx context.Context, cfg *config.Config, ready *daemon.Readiness, log *slog.Logger) ([]daemon.Unit, error) {
				return Link(ctx, cfg, parts, ready, log)
			},
		},
		Commands: []cli.Command{fsck(name, parts), migrate(name, parts)},
	}
}
