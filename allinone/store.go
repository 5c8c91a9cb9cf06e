package allinone

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// operator is who a command acts for: who may use the store's socket or files.
var operator = registry.Actor{System: true}

// storeCall is one run of a command on a store, served or not.
type storeCall struct {
	*Store
	cfg  *config.Config
	args []string // behind the config file
	out  *report
}

// onStore returns the Run of a command whose first argument is a config file,
// followed by at least least and at most most others. It has a flag --json.
func onStore(parts Parts, least, most int, define func(*flag.FlagSet), run func(context.Context, *storeCall) error) func(context.Context, *flag.FlagSet, []string, io.Writer) error {
	return func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
		asJSON := flags.Bool("json", false, "print JSON, one object a line")
		if define != nil {
			define(flags)
		}
		args, err := cli.ParseArgs(flags, args, most+1)
		if err != nil {
			return err
		}
		if len(args) < least+1 {
			return wrongUsage("%s: too few arguments; see --help", flags.Name())
		}
		cfg, _, err := config.Load(args[0])
		if err == nil {
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
			var s *Store
			if s, err = Reach(ctx, cfg, parts, log); err == nil {
				c := &storeCall{Store: s, cfg: cfg, args: args[1:], out: newReport(out, *asJSON)}
				err = errors.Join(run(ctx, c), c.out.flush(), s.Close())
			}
		}
		return storeExit(flags.Name(), err)
	}
}

func wrongUsage(format string, args ...any) error {
	return daemon.Exit{Code: cli.ExitUsage, Err: fmt.Errorf(format, args...)}
}

// storeExit returns err with an exit code: 1 if the registry said no, 3 if it
// could not do what was asked.
func storeExit(command string, err error) error {
	var exit daemon.Exit
	if err == nil || errors.As(err, &exit) {
		return err
	}
	code := exitNotDone
	if e, ok := errors.AsType[*registry.Error](err); ok {
		switch e.Code.Kind() {
		case registry.Fault, registry.Passing, registry.Gone:
		default:
			code = exitFindings
		}
	}
	return daemon.Exit{Code: code, Err: fmt.Errorf("%s: %w", command, err)}
}

// parseName parses REPO, REPO:TAG or REPO@DIGEST.
func parseName(s string) (registry.Name, registry.Reference, error) {
	name, digest, hasDigest := strings.Cut(s, "@")
	var tag string
	var hasTag bool
	if !hasDigest {
		name, tag, hasTag = strings.Cut(s, ":")
	}
	repo, err := registry.ParseName(name)
	var ref registry.Reference
	switch {
	case err != nil:
	case hasDigest:
		ref.Digest, err = registry.ParseDigest(digest)
	case hasTag:
		ref.Tag, err = registry.ParseTag(tag)
	}
	if err != nil {
		return "", ref, wrongUsage("%q: %w", s, err)
	}
	return repo, ref, nil
}

// parseTagged is parseName for REPO:TAG only.
func parseTagged(s string) (registry.Name, registry.Tag, error) {
	repo, ref, err := parseName(s)
	if err == nil && ref.Tag == "" {
		err = wrongUsage("%q: must be REPO:TAG", s)
	}
	return repo, ref.Tag, err
}

// report writes what a command answers, as a table or as JSON.
type report struct {
	table *tabwriter.Writer
	json  *json.Encoder // nil for a table
	err   error         // the first
}

func newReport(out io.Writer, asJSON bool) *report {
	r := &report{table: tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
	if asJSON {
		r.json = json.NewEncoder(out)
		r.json.SetEscapeHTML(false)
	}
	return r
}

// header writes the names of the columns.
func (r *report) header(columns ...string) {
	if r.json == nil {
		r.cells(columns)
	}
}

// row writes an entry, as columns or as an object.
func (r *report) row(object any, columns ...string) {
	if r.json == nil {
		r.cells(columns)
		return
	}
	if err := r.json.Encode(object); r.err == nil {
		r.err = err
	}
}

// say writes a sentence, which scripts don't get.
func (r *report) say(format string, args ...any) {
	if r.json == nil {
		r.cells([]string{fmt.Sprintf(format, args...)})
	}
}

func (r *report) cells(columns []string) {
	if _, err := fmt.Fprintln(r.table, strings.Join(columns, "\t")); r.err == nil {
		r.err = err
	}
}

func (r *report) flush() error { return errors.Join(r.err, r.table.Flush()) }

// moment returns a time for people, "-" if it is not known.
func moment(micros int64) string {
	if micros == 0 {
		return "-"
	}
	return time.UnixMicro(micros).UTC().Format(time.RFC3339)
}

// instant returns a time for scripts, nil if it is not known.
func instant(micros int64) *time.Time {
	if micros == 0 {
		return nil
	}
	t := time.UnixMicro(micros).UTC()
	return &t
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// eachRepository calls f for all repositories, a page at a time.
func eachRepository(ctx context.Context, c registry.Repositories, f func(registry.Name) error) error {
	for p := (registry.Page[registry.Name]{Limit: 1000}); ; {
		list, err := c.Repositories(ctx, operator, p)
		if err != nil {
			return err
		}
		for _, repo := range list.Items {
			if err := f(repo); err != nil {
				return err
			}
			p.After = repo
		}
		if !list.More {
			return nil
		}
	}
}
