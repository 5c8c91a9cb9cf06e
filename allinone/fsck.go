package allinone

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"os"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/metadata"
)

// Exit codes of fsck, besides 0 and [cli.ExitUsage].
const (
	exitFindings = 1 // something is wrong with the store
	exitNotDone  = 3 // the check could not be made, or not to its end
)

// What fsck needs of services beyond their ports.
type (
	uploadChecker interface {
		CheckUploads(ctx context.Context) iter.Seq2[registry.Finding, error]
	}
	catalogChecker interface {
		Fsck(ctx context.Context, blobs metadata.FsckBlobs, deep bool) iter.Seq2[registry.Finding, error]
		FsckSome(ctx context.Context, blobs metadata.FsckBlobs, read func(registry.Digest) bool) iter.Seq2[registry.Finding, error]
	}
)

// fsck is the command that checks a stopped store.
func fsck(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "fsck", Args: "FILE",
		Summary: "check a stopped store, or with --online one that is served: exit code 0 if all is well, 1 with findings, 3 if it could not be checked",
		Example: program + " fsck config.json\n" + program + " fsck --read-data --json config.json\n" + program + " fsck --online --read-data-subset 1/7 config.json",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			var read subset
			read.define(flags)
			online := flags.Bool("online", false, "check a store that is served: what it holds at one moment, and once more what seems wrong")
			asJSON := flags.Bool("json", false, "print each finding as a line of JSON")
			args, err := cli.ParseArgs(flags, args, 1)
			if err == nil {
				err = read.parse()
			}
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return daemon.Exit{Code: cli.ExitUsage, Err: errors.New("fsck: a config file is needed")}
			}
			n, err := check(ctx, args[0], parts, *online, read, printer(out, *asJSON))
			switch {
			case err != nil:
				return daemon.Exit{Code: exitNotDone, Err: fmt.Errorf("fsck: %w", err)}
			case n > 0:
				return daemon.Exit{Code: exitFindings, Err: fmt.Errorf("fsck: %d findings", n)}
			}
			if !*asJSON {
				fmt.Fprintln(out, "all is well")
			}
			return nil
		},
	}
}

func printer(out io.Writer, asJSON bool) func(registry.Finding) error {
	if asJSON {
		enc := json.NewEncoder(out)
		return func(f registry.Finding) error { return enc.Encode(f) }
	}
	return func(f registry.Finding) error {
		_, err := fmt.Fprintln(out, f)
		return err
	}
}

// check opens the stores of a config file in this process, wherever they are
// served from otherwise, and hands what is wrong with them to report.
func check(ctx context.Context, file string, parts Parts, online bool, read subset, report func(registry.Finding) error) (n int, err error) {
	cfg, _, err := config.Load(file)
	if err != nil {
		return 0, err
	}
	if err := storeExists(cfg); err != nil && !online {
		return 0, err
	}
	p := daemon.Process{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if online {
		return checkOnline(ctx, cfg, parts, read, p.Log, report)
	}
	blobs, err := parts.Blobs(ctx, cfg, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	var broken error
	// Without a reaper the catalog removes nothing.
	catalog, err := parts.Catalog(ctx, cfg, nil, func(err error) { broken = err }, p)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, catalog.Close(), broken) }()

	var checks []iter.Seq2[registry.Finding, error]
	if c, ok := blobs.(uploadChecker); ok {
		checks = append(checks, c.CheckUploads(ctx))
	}
	if c, ok := catalog.(catalogChecker); ok {
		checks = append(checks, c.FsckSome(ctx, blobs, read.has))
	}
	for _, findings := range checks {
		found, err := each(findings, report)
		n += found
		if err != nil {
			return n, err
		}
	}
	return n, nil
}
