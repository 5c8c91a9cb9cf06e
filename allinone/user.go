package allinone

import (
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/ctl"
	"github.com/berth-registry/berth/services/gateway/auth/htpasswd"
)

// userCommand are the commands about users.
func userCommand(program string) cli.Command {
	return cli.Group(cli.Command{
		Name: "user", Args: "COMMAND", Summary: "users of the password file, and users who log in elsewhere",
		Example: program + " user add config.json alice",
	}, append(htpasswd.Commands(program), ctl.UserCommands(program)...)...)
}
