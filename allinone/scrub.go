package allinone

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

const (
	// scrubPoll is how often a command asks how far scrubbing has come.
	scrubPoll = 50 * time.Millisecond
	// scrubStuck is how long scrubbing may come no further: one blob takes a while.
	scrubStuck = time.Hour
)

// scrub is the command that compares everything stored with its digests.
func scrub(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "scrub", Args: "FILE",
		Summary: "compare all stored bytes with their digests, in the running registry or a stopped store: exit code 0 if all is well, 1 with damage, 3 if it could not be done",
		Example: program + " scrub config.json\n" + program + " scrub --json config.json",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			asJSON := flags.Bool("json", false, "print each finding as a line of JSON")
			quiet := flags.Bool("quiet", false, "do not tell how far it is")
			args, err := cli.ParseArgs(flags, args, 1)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return daemon.Exit{Code: cli.ExitUsage, Err: errors.New("scrub: a config file is needed")}
			}
			progress := io.Writer(os.Stderr)
			if *quiet {
				progress = io.Discard
			}
			n, err := scrubStore(ctx, args[0], parts, progress, printer(out, *asJSON))
			switch {
			case err != nil:
				return daemon.Exit{Code: exitNotDone, Err: fmt.Errorf("scrub: %w", err)}
			case n > 0:
				return daemon.Exit{Code: exitFindings, Err: fmt.Errorf("scrub: %d blobs and manifests are damaged: push them again", n)}
			}
			if !*asJSON {
				fmt.Fprintln(out, "all is well")
			}
			return nil
		},
	}
}

// scrubStore looks at everything in the store of a config file and hands what is
// damaged to report.
func scrubStore(ctx context.Context, file string, parts Parts, progress io.Writer, report func(registry.Finding) error) (n int, err error) {
	cfg, _, err := config.Load(file)
	if err != nil {
		return 0, err
	}
	// Who waits for it wants it fast, unless others use the store, too.
	if e := cfg.Extensions; e != nil && e.Scrub != nil {
		e.Scrub.Rate = 0
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError + 1}))
	s, err := Reach(ctx, cfg, parts, log)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Catalog.StartScrub(ctx, operator); err != nil {
		return 0, err
	}
	if err := awaitScrub(ctx, s.Catalog, progress); err != nil {
		return 0, err
	}
	for after := (*registry.Damage)(nil); ; {
		page, err := s.Catalog.Damages(ctx, operator, after, 1000)
		if err != nil {
			return n, err
		}
		for i := range page {
			n++
			after = &page[i]
			if err := report(findingOf(page[i])); err != nil {
				return n, err
			}
		}
		if len(page) < 1000 {
			return n, nil
		}
	}
}

func findingOf(d registry.Damage) registry.Finding {
	f := registry.Finding{Invariant: "I5", Digest: d.Digest, Problem: fmt.Sprintf("blob of %d bytes in pool %q: %s", d.Size, d.Pool, d.Reason)}
	if d.Repo != "" {
		f.Invariant, f.Repo, f.Problem = "I1", d.Repo, "manifest: "+d.Reason
	}
	return f
}

// awaitScrub returns when nothing is due any more.
func awaitScrub(ctx context.Context, c registry.Scrubbing, progress io.Writer) error {
	tick := time.NewTicker(scrubPoll)
	defer tick.Stop()
	first, err := c.ScrubStatus(ctx, operator)
	if err != nil {
		return err
	}
	last, moved, told := first, time.Now(), time.Now()
	for st := first; st.Waiting; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if st, err = c.ScrubStatus(ctx, operator); err != nil {
			return err
		}
		if st.Blobs != last.Blobs || st.Manifests != last.Manifests {
			last, moved = st, time.Now()
		}
		if time.Since(moved) > scrubStuck {
			return errors.New("nothing has been read for an hour: see the log of the registry")
		}
		if time.Since(told) > 5*time.Second {
			told = time.Now()
			fmt.Fprintf(progress, "%d blobs, %d MB, %d manifests; %d damaged\n",
				st.Blobs-first.Blobs, (st.Bytes-first.Bytes)/1_000_000, st.Manifests-first.Manifests, st.Damaged)
		}
	}
	return nil
}
