// Package cli holds what the commands of every program share: finding the
// config file, serve, verify, schema, version and healthcheck. A program adds
// its own commands and says how it serves.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/tracing"
)

// Program is a program of the suite.
type Program struct {
	Name    string
	Version string
	// Summary says in a sentence what the program is, for --help.
	Summary string
	// Traces opens the exporter of traces that the environment asks for, and
	// returns the unit that ends it. nil if the program has none.
	Traces func(ctx context.Context, p daemon.Process, getenv func(string) string) (*tracing.Tracer, daemon.Unit, error)
	// Serve says what "serve" runs.
	Serve Server
	// Commands are those that only this program has.
	Commands []Command
}

// Command is a subcommand.
type Command struct {
	Name    string
	Args    string // what follows the name, for --help
	Summary string // one line
	Example string // one or more lines, for --help of the command
	// Run does it. flags is empty; Run defines its flags, and parses args.
	Run func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error
}

// ExitUsage is the exit code for a command line that can't be understood.
const ExitUsage = 2

// Main runs the program with the process's arguments, and ends it.
func (p Program) Main() {
	daemon.Main(func(ctx context.Context, args []string) error {
		return p.Run(ctx, args, os.Stdout)
	})
}

// Run runs the program with args, and writes what it prints to out.
func (p Program) Run(ctx context.Context, args []string, out io.Writer) error {
	return p.dispatch(ctx, append(p.common(), p.Commands...), args, out)
}

// Group returns c as a command that has commands of its own. Its help is theirs.
func Group(c Command, commands ...Command) Command {
	c.Run = func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
		return Program{Name: flags.Name(), Summary: c.Summary}.dispatch(ctx, commands, args, out)
	}
	return c
}

// dispatch runs the command that args name.
func (p Program) dispatch(ctx context.Context, commands []Command, args []string, out io.Writer) error {
	name := "help"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "help", "-h", "--help":
		if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
			name, args = args[0], []string{"--help"}
			break
		}
		p.usage(out, commands)
		return nil
	case "-v", "--version":
		name = "version"
	}
	i := slices.IndexFunc(commands, func(c Command) bool { return c.Name == name })
	if i < 0 {
		return daemon.Exit{Code: ExitUsage, Err: fmt.Errorf("%s: unknown command %q; see %s --help", p.Name, name, p.Name)}
	}
	cmd := commands[i]
	flags := flag.NewFlagSet(p.Name+" "+cmd.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are returned; help is written below
	err := cmd.Run(ctx, flags, args, out)
	if errors.Is(err, flag.ErrHelp) {
		p.help(out, cmd, flags)
		return nil
	}
	return err
}

func (p Program) usage(out io.Writer, commands []Command) {
	fmt.Fprintf(out, "%s: %s\n\nUsage:\n  %s COMMAND [ARGUMENTS]\n\nCommands:\n", p.Name, p.Summary, p.Name)
	for _, c := range commands {
		fmt.Fprintf(out, "  %-28s %s\n", strings.TrimSpace(c.Name+" "+c.Args), c.Summary)
	}
	fmt.Fprintf(out, "\nExamples:\n")
	for _, c := range commands {
		if c.Example != "" {
			line, _, _ := strings.Cut(c.Example, "\n")
			fmt.Fprintf(out, "  %s\n", line)
		}
	}
	fmt.Fprintf(out, "\n%s COMMAND --help tells more of a command.\n", p.Name)
}

func (p Program) help(out io.Writer, c Command, flags *flag.FlagSet) {
	fmt.Fprintf(out, "%s\n\nUsage:\n  %s %s\n", c.Summary, p.Name, strings.TrimSpace(c.Name+" [FLAGS] "+c.Args))
	some := false
	flags.VisitAll(func(f *flag.Flag) {
		if !some {
			fmt.Fprintf(out, "\nFlags:\n")
			some = true
		}
		kind, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(out, "  --%-24s %s\n", strings.TrimSpace(f.Name+" "+kind), text)
	})
	if c.Example != "" {
		fmt.Fprintf(out, "\nExamples:\n  %s\n", strings.ReplaceAll(c.Example, "\n", "\n  "))
	}
}

// ParseArgs parses flags that may stand before, between and behind the arguments,
// as users of zot's command line expect, and returns the arguments, of which
// there may be most.
func ParseArgs(flags *flag.FlagSet, args []string, most int) ([]string, error) {
	var rest []string
	for {
		if err := flags.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, daemon.Exit{Code: ExitUsage, Err: fmt.Errorf("%s: %w", flags.Name(), err)}
		}
		args = flags.Args()
		if len(args) == 0 {
			break
		}
		rest, args = append(rest, args[0]), args[1:]
	}
	if len(rest) > most {
		return nil, daemon.Exit{Code: ExitUsage, Err: fmt.Errorf("%s: unexpected argument %q", flags.Name(), rest[most])}
	}
	return rest, nil
}

// list is a flag that may be given many times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

func goVersion() string { return runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH }
