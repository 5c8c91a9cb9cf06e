// Package ctl is the command "berth ctl": it asks a running registry over gRPC,
// for people as tables and for scripts as JSON.
package ctl

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/client"
	"github.com/berth-registry/berth/registry/daemon"
)

// Exit codes, besides 0 and [cli.ExitUsage]. They mean what those of fsck do: 1 is
// an answer, if not the one hoped for, 3 is no answer.
const (
	exitRefused  = 1 // the registry said no: not found, not allowed, in use, ...
	exitNoAnswer = 3 // nobody could be asked, or the registry failed
)

// Command returns the command for a program.
func Command(program string) cli.Command {
	group := cli.Command{
		Name: "ctl", Args: "COMMAND", Summary: "ask a running registry over gRPC, and delete in it; exit code 1 if it refuses, 3 if nobody answers",
		Example: program + " ctl tags --config config.json library/alpine",
	}
	name := program + " ctl "
	return cli.Group(group,
		command("repos", "", "list repositories", name+"repos --config config.json", 0, repos),
		command("tags", "REPO", "list the tags of a repository", name+"tags --metadata 127.0.0.1:7002 library/alpine", 1, tags),
		command("history", "REPO:TAG", "what became of a tag, the latest change first", name+"history --config config.json library/alpine:latest", 1, history),
		command("manifest", "REPO[:TAG|@DIGEST]", "describe a manifest, or print its bytes", name+"manifest --config config.json --content library/alpine:latest", 1, manifest),
		command("referrers", "REPO[:TAG|@DIGEST]", "list signatures, SBOMs and others that refer to a manifest", name+"referrers --config config.json library/alpine:latest", 1, referrers),
		command("blob", "REPO@DIGEST", "describe a blob of a repository", name+"blob --config config.json library/alpine@sha256:…", 1, blob),
		command("tag", "REPO[:TAG|@DIGEST] NEWTAG", "point another tag to a manifest", name+"tag --config config.json library/alpine:3.20 latest", 2, tag),
		command("delete", "REPO:TAG|REPO@DIGEST", "delete a tag, or a manifest with all its tags", name+"delete --config config.json library/alpine:old", 1, remove),
		command("unlink", "REPO@DIGEST", "make a blob that no manifest needs unknown in a repository", name+"unlink --config config.json library/alpine@sha256:…", 1, unlink),
		command("deleted", "", "list what can be brought back", name+"deleted --config config.json", 0, deleted),
		command("undelete", "REPO[:TAG|@DIGEST]", "bring back a tag, a manifest with its tags, or a whole repository", name+"undelete --config config.json library/alpine:old", 1, undelete),
		command("delete-repository", "REPO", "delete a repository with everything in it", name+"delete-repository --config config.json team/old", 1, deleteRepository),
		command("purge", "REPO", "give up what was deleted in a repository, or with * in all: it can't be brought back any more", name+"purge --config config.json team/old", 1, purge),
		command("rollback", "REPO:TAG DIGEST", "let a tag point again to a digest of its history", name+"rollback --config config.json library/alpine:latest sha256:…", 2, rollback),
		command("gc", "", "remove what nothing needs and what may go now", name+"gc --config config.json", 0, collect),
		command("plan", "", "list what garbage collection will remove, when, and why", name+"plan --config config.json", 0, plan),
		command("scrub", "", "how far the comparison of stored bytes with their digests has come", name+"scrub --config config.json --start", 0, scrub),
		command("damages", "", "list what is damaged; exit code 1 if something is", name+"damages --config config.json", 0, damages),
		command("health", "", "how the services feel; exit code 1 if one can't serve", name+"health --config config.json", 0, health),
	)
}

// call is one run of a command.
type call struct {
	*client.Client
	args  []string
	out   *printer
	flags values
}

// values are the flags that only some commands have.
type values struct {
	limit                  int
	content                bool
	start                  bool
	ifDigest, artifactType string
}

// operator is who asks, for a server that takes a client's word; another one goes by
// the certificate.
var operator = registry.Actor{System: true}

// command returns a command that takes n arguments.
func command(name, args, summary, example string, n int, run func(context.Context, *call) error) cli.Command {
	return commandWith(name, args, summary, example, n, func(*flag.FlagSet) {}, run)
}

// commandWith is command with flags of its own.
func commandWith(name, args, summary, example string, n int, define func(*flag.FlagSet), run func(context.Context, *call) error) cli.Command {
	return cli.Command{Name: name, Args: args, Summary: summary, Example: example,
		Run: func(ctx context.Context, flags *flag.FlagSet, given []string, out io.Writer) error {
			c := new(call)
			t := targetFlags(flags)
			asJSON := flags.Bool("json", false, "print JSON, one object a line")
			c.flags.define(flags, name)
			define(flags)
			given, err := cli.ParseArgs(flags, given, n)
			if err != nil {
				return err
			}
			if len(given) < n {
				return usage("%s: needs %s", flags.Name(), args)
			}
			c.args, c.out = given, newPrinter(out, *asJSON)
			if c.Client, err = t.dial(ctx, flags.Name()); err != nil {
				return err
			}
			if *t.timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, *t.timeout)
				defer cancel()
			}
			err = errors.Join(run(ctx, c), c.out.flush())
			return errors.Join(explained(flags.Name(), t, err), c.Close())
		}}
}

func (v *values) define(flags *flag.FlagSet, name string) {
	switch name {
	case "repos", "tags", "referrers", "deleted", "plan":
		flags.IntVar(&v.limit, "limit", 0, "stop after `N` entries; 0: list all")
	case "history":
		flags.IntVar(&v.limit, "limit", 100, "the latest `N` changes, at most 1000")
	case "scrub":
		flags.BoolVar(&v.start, "start", false, "ask that everything is looked at again")
	case "manifest":
		flags.BoolVar(&v.content, "content", false, "print the manifest's bytes as they were pushed, and nothing else")
	case "delete":
		flags.StringVar(&v.ifDigest, "if-digest", "", "delete the tag only if it points to `DIGEST`")
	}
	if name == "referrers" {
		flags.StringVar(&v.artifactType, "type", "", "only those of this artifact `TYPE`")
	}
}

func usage(format string, args ...any) error {
	return daemon.Exit{Code: cli.ExitUsage, Err: fmt.Errorf(format, args...)}
}

// explained returns err with the exit code that belongs to it.
func explained(command string, t *target, err error) error {
	var exit daemon.Exit
	if err == nil || errors.As(err, &exit) {
		return err
	}
	e, known := errors.AsType[*registry.Error](err)
	switch {
	case known && e.Code == registry.Unavailable:
		return daemon.Exit{Code: exitNoAnswer, Err: fmt.Errorf("%s: %w\n%s", command, err, t.advice())}
	case known && e.Code.Kind() != registry.Fault:
		return daemon.Exit{Code: exitRefused, Err: fmt.Errorf("%s: %w", command, err)}
	}
	return daemon.Exit{Code: exitNoAnswer, Err: fmt.Errorf("%s: %w", command, err)}
}
