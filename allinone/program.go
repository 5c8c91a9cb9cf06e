package allinone

import (
	"context"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/ctl"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/rpc"
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
			Doctor:  func(cfg *config.Config) []doctor.Check { return examine(cfg, parts) },
			Units: func(ctx context.Context, cfg *config.Config, p daemon.Process) ([]daemon.Unit, error) {
				return Link(ctx, cfg, parts, p)
			},
		},
		Commands: append([]cli.Command{
			ctl.Command(name), fsck(name, parts), migrate(name, parts), rebuild(name, parts), backup(name, parts),
			scrub(name, parts),
			adopt(name, parts), status(name, parts), importer(name, parts), exporter(name, parts),
			retentionCommand(name, parts), accessCommand(name, parts), tagCommand(name, parts), syncCommand(name, parts), du(name, parts), cacheCommand(name, parts), scanCommand(name, parts), sbomCommand(name, parts), userCommand(name), auditCommand(name, parts), eventsCommand(name, parts), whyCommand(name, parts), trustCommand(name, parts),
		}, append(gcCommands(name, parts), ctl.IdentityCommands(name)...)...),
	}
}

// examine returns the checks of what the program reaches by drivers and by gRPC.
func examine(cfg *config.Config, parts Parts) []doctor.Check {
	all := rpc.Examine(cfg.Services)
	if len(cfg.Services.Blobstore.Address) == 0 && parts.ExaminePool != nil {
		if !cfg.Storage.Pool.Local() {
			all = append(all, parts.ExaminePool("storage.storageDriver", cfg.Storage.Pool))
		}
		for name, sub := range cfg.Storage.SubPaths {
			if !sub.Local() {
				all = append(all, parts.ExaminePool("storage.subPaths."+name+".storageDriver", sub.Pool))
			}
		}
	}
	if len(cfg.Services.Metadata.Address) == 0 && cfg.Storage.Metadata.Driver == config.Postgres && parts.ExamineDatabase != nil {
		all = append(all, parts.ExamineDatabase(cfg.Storage))
	}
	return all
}
