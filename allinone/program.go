package allinone

import (
	"context"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/ctl"
	"github.com/berth-registry/berth/registry/daemon"
)

// Program returns an all-in-one program made of parts.
func Program(name, version, summary string, parts Parts) cli.Program {
	return cli.Program{
		Name:    name,
		Version: version,
		Summary: summary,
		Serve: cli.Server{
			Program: config.AllInOne,
			HTTP:    true,
			Units: func(ctx context.Context, cfg *config.Config, p daemon.Process) ([]daemon.Unit, error) {
				return Link(ctx, cfg, parts, p)
			},
		},
		Commands: []cli.Command{ctl.Command(name), fsck(name, parts), migrate(name, parts)},
	}
}
