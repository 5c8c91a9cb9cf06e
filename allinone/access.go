package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/ctl"
	"github.com/berth-registry/berth/registry/daemon"
)

// accessCommand are the commands about who may do what. To explain needs no server:
// the rules are those of the file, so that one can ask before one uses it.
func accessCommand(program string, parts Parts) cli.Command {
	name := program + " access "
	commands := append(ctl.AccessCommands(program), cli.Command{
		Name: "explain", Args: "FILE USER ACTION REPO[:TAG|@DIGEST]",
		Summary: "say whether a user may do something, and which rule decides it: exit code 0 if he may, 1 if not; \"\" is who has not logged in",
		Example: name + "explain config.json ann update production/api:v1\n" + name + "explain --group release config.json bob delete production/api",
		Run: func(_ context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			groups := flags.String("group", "", "groups that authentication would tell of, divided by semicolons")
			args, err := cli.ParseArgs(flags, args, 4)
			if err != nil {
				return err
			}
			if len(args) < 4 {
				return daemon.Exit{Code: cli.ExitUsage, Err: errors.New("access explain: FILE, USER, ACTION and REPO are needed")}
			}
			return explainAccess(args, *groups, parts.Conditions, out)
		},
	})
	return cli.Group(cli.Command{
		Name: "access", Args: "COMMAND", Summary: "who may do what, by http.accessControl",
		Example: name + "explain config.json ann update production/api:v1",
	}, commands...)
}

func explainAccess(args []string, groups string, compile access.Compiler, out io.Writer) error {
	cfg, _, err := config.Load(args[0])
	if err != nil {
		return err
	}
	p, err := access.Compile(cfg.HTTP.AccessControl, compile)
	if err != nil {
		return fmt.Errorf("http.accessControl.%w", err)
	}
	act, err := registry.ParseActions(args[2:3])
	if err != nil {
		return err
	}
	repo, ref, err := parseName(args[3])
	if err != nil {
		return err
	}
	a := registry.Actor{ID: args[1], Request: new(registry.ActorRequest)}
	if groups != "" {
		a.Groups = strings.Split(groups, ";")
	}
	d := p.Explain(a, repo, ref, act)
	if !d.Allowed {
		return daemon.Exit{Code: 1, Err: fmt.Errorf("no: %s", d.Because)}
	}
	if d.Rule != "" {
		d.Rule = ": http.accessControl." + d.Rule
	}
	_, err = fmt.Fprintf(out, "yes%s: %s\n", d.Rule, d.Because)
	return err
}
