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
	"path/filepath"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/services/metadata"
)

// adopter is what a take-over needs of a catalog beyond its port.
type adopter interface {
	Adopt(ctx context.Context, blobs metadata.LayoutBlobs, done func(metadata.Taken)) error
	Adoption(ctx context.Context, blobs metadata.LayoutBlobs) (metadata.Adoption, error)
	Finish(ctx context.Context, blobs metadata.LayoutOwner, f *metadata.Finish) (metadata.Finished, error)
}

// adopt is the command that takes over what zot has left.
func adopt(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "adopt", Args: "FILE",
		Summary: "take over the repositories that zot left, or wait until the running registry has; exit code 0 if all were, 1 if some have problems, 3 if it could not be done",
		Example: program + " adopt config.json\n" + program + " adopt --dry-run config.json\n" + program + " adopt --finish config.json",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			dry := flags.Bool("dry-run", false, "say what waits to be taken over, and change nothing")
			finish := flags.Bool("finish", false, "then make zot's files Berth's own, and remove what is left of its repositories: there is no way back")
			file, err := oneFile("adopt", flags, args)
			if err != nil {
				return err
			}
			if *dry && *finish {
				return wrongUsage("adopt: --dry-run and --finish exclude each other")
			}
			var problems int
			running, err := whileRunning(ctx, file, func(c registry.Catalog, cfg *config.Config) error {
				if *dry {
					problems, err = sayRunning(ctx, c, cfg, out, false)
				} else {
					problems, err = adoptRunning(ctx, c, cfg, out, *finish)
				}
				return err
			})
			if running || err != nil {
				return adoptExit("adopt", problems, err)
			}
			err = withLayouts(ctx, file, parts, func(a adopter, blobs metadata.LayoutOwner, cfg *config.Config) error {
				if *dry {
					problems, err = sayAdoption(ctx, a, blobs, cfg, out, false)
					return err
				}
				problems, err = adoptAll(ctx, a, blobs, out)
				if err != nil || !*finish {
					return err
				}
				var kept int
				kept, err = finishAll(ctx, a, blobs, cfg, out)
				problems += kept
				return err
			})
			return adoptExit("adopt", problems, err)
		},
	}
}

// status is the command that tells how far a take-over is.
func status(program string, parts Parts) cli.Command {
	return cli.Command{
		Name: "status", Args: "FILE",
		Summary: "say what of a store is still zot's, running or stopped: what waits, what is used in place, what is broken; exit codes as those of adopt",
		Example: program + " status config.json\n" + program + " status --json config.json",
		Run: func(ctx context.Context, flags *flag.FlagSet, args []string, out io.Writer) error {
			asJSON := flags.Bool("json", false, "print one JSON object")
			file, err := oneFile("status", flags, args)
			if err != nil {
				return err
			}
			var problems int
			running, err := whileRunning(ctx, file, func(c registry.Catalog, cfg *config.Config) error {
				problems, err = sayRunning(ctx, c, cfg, out, *asJSON)
				return err
			})
			if running || err != nil {
				return adoptExit("status", problems, err)
			}
			err = withLayouts(ctx, file, parts, func(a adopter, blobs metadata.LayoutOwner, cfg *config.Config) error {
				problems, err = sayAdoption(ctx, a, blobs, cfg, out, *asJSON)
				return err
			})
			return adoptExit("status", problems, err)
		},
	}
}

// oneFile returns the config file that a command wants as its only argument.
func oneFile(command string, flags *flag.FlagSet, args []string) (string, error) {
	args, err := cli.ParseArgs(flags, args, 1)
	if err != nil {
		return "", err
	}
	if len(args) == 0 {
		return "", daemon.Exit{Code: cli.ExitUsage, Err: fmt.Errorf("%s: a config file is needed", command)}
	}
	return args[0], nil
}

func adoptExit(command string, problems int, err error) error {
	switch {
	case err != nil:
		return daemon.Exit{Code: exitNotDone, Err: fmt.Errorf("%s: %w", command, err)}
	case problems > 0:
		return daemon.Exit{Code: exitFindings, Err: fmt.Errorf("%s: %d problems", command, problems)}
	}
	return nil
}

// withLayouts opens the stores of a config file in this process and calls f.
func withLayouts(ctx context.Context, file string, parts Parts, f func(adopter, metadata.LayoutOwner, *config.Config) error) (err error) {
	cfg, _, err := config.Load(file)
	if err != nil {
		return err
	}
	if _, err := os.Stat(cfg.Storage.RootDirectory); err != nil {
		return fmt.Errorf("there is no store: %w", err)
	}
	p := daemon.Process{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))}
	security, err := rpc.Secure(cfg.Services, p.Log)
	if err != nil {
		return err
	}
	blobs, err := near(cfg.Services.Blobstore, rpc.DialOptions{Security: security}, dialBlobs, func() (Blobs, error) { return parts.Blobs(ctx, cfg, p) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blobs.Close()) }()
	var broken error
	// Without a reaper the catalog does nothing by itself.
	catalog, err := parts.Catalog(ctx, cfg, nil, func(err error) { broken = err }, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, catalog.Close(), broken) }()
	a, ok := catalog.(adopter)
	layouts, both := blobs.(metadata.LayoutOwner)
	if !ok || !both {
		return errors.New("this program can't take anything over")
	}
	return f(a, layouts, cfg)
}

// adoptAll takes everything over.
func adoptAll(ctx context.Context, a adopter, blobs metadata.LayoutOwner, out io.Writer) (problems int, err error) {
	var all metadata.Taken
	n, said := 0, time.Now()
	err = a.Adopt(ctx, blobs, func(t metadata.Taken) {
		n++
		all.Manifests, all.Tags, all.Blobs, all.Bytes = all.Manifests+t.Manifests, all.Tags+t.Tags, all.Blobs+t.Blobs, all.Bytes+t.Bytes
		if time.Since(said) > progressEvery {
			said = time.Now()
			fmt.Fprintf(out, "%d repositories, %d manifests, %d tags; at %s\n", n, all.Manifests, all.Tags, t.Repo)
		}
	})
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%d repositories: took over %d manifests, %d tags and %d blobs (%d bytes, in place)\n", n, all.Manifests, all.Tags, all.Blobs, all.Bytes)
	found, err := a.Adoption(ctx, blobs)
	if err != nil {
		return 0, err
	}
	for _, r := range found.Repositories {
		problems += r.ProblemCount
		sayProblems(out, r)
	}
	return problems, nil
}

func sayProblems(out io.Writer, r metadata.AdoptedRepository) {
	for _, p := range r.Problems {
		fmt.Fprintf(out, "repository %s: %s\n", r.Repo, p)
	}
	if more := r.ProblemCount - len(r.Problems); more > 0 {
		fmt.Fprintf(out, "repository %s: and %d more\n", r.Repo, more)
	}
}

// finishAll makes all files our own. It returns how many repositories and blobs it
// could not finish.
func finishAll(ctx context.Context, a adopter, blobs metadata.LayoutOwner, cfg *config.Config, out io.Writer) (kept int, err error) {
	said := time.Now()
	done, err := a.Finish(ctx, blobs, &metadata.Finish{
		Found: func(f registry.Finding) { kept++; fmt.Fprintln(out, f) },
		Progress: func(d metadata.Finished) {
			if time.Since(said) > progressEvery {
				said = time.Now()
				fmt.Fprintf(out, "%d blobs (%d bytes) are Berth's own, %d directories removed\n", d.Blobs, d.Bytes, d.Repositories)
			}
		},
	})
	if err != nil {
		return 0, err
	}
	fmt.Fprintf(out, "%d blobs (%d bytes) are Berth's own now; %d directories of repositories removed, of %d some files kept because of problems\n",
		done.Blobs, done.Bytes, done.Repositories, done.Kept)
	for _, l := range leftovers(cfg) {
		fmt.Fprintf(out, "left: %s\n", l)
	}
	return kept + done.Kept, nil
}

// zotFiles are what zot keeps in a root besides repositories.
var zotFiles = []struct{ name, what string }{
	{"cache.db", "where zot has copies of blobs; Berth needs nothing of it"},
	{"meta.db", "download counts, times of pulls, who pushed, stars, bookmarks, API keys and groups of users: none of it is carried over. Signatures are, as the artifacts they are"},
	{"_trivy", "vulnerability database; it is downloaded again"},
	{"_cosign", "public keys of trust policies; not carried over"},
	{"_notation", "certificates of trust policies; not carried over"},
	{"_sessions", "logins of the web interface; users log in again"},
}

// leftovers tells what of zot is in the roots besides repositories.
func leftovers(cfg *config.Config) []string {
	roots := []string{cfg.Storage.RootDirectory}
	for _, sub := range cfg.Storage.SubPaths {
		roots = append(roots, sub.RootDirectory)
	}
	var all []string
	for _, root := range roots {
		for _, f := range zotFiles {
			path := filepath.Join(root, f.name)
			if _, err := os.Lstat(path); err == nil {
				all = append(all, path+": "+f.what)
			}
		}
	}
	return all
}

// adoptionReport is what status prints as JSON.
type adoptionReport struct {
	metadata.Adoption
	Running   bool                           `json:"running"` // the registry runs
	Finish    *finishReport                  `json:"finish,omitempty"`
	States    map[metadata.AdoptionState]int `json:"states"`    // repositories in each state
	Leftovers []string                       `json:"leftovers"` // files of zot besides repositories
}

// sayAdoption prints what there is of zot, and returns the number of problems.
func sayAdoption(ctx context.Context, a adopter, blobs metadata.LayoutOwner, cfg *config.Config, out io.Writer, asJSON bool) (problems int, err error) {
	found, err := a.Adoption(ctx, blobs)
	if err != nil {
		return 0, err
	}
	r := adoptionReport{Adoption: found, States: make(map[metadata.AdoptionState]int), Leftovers: leftovers(cfg)}
	for _, repo := range found.Repositories {
		r.States[repo.State]++
		problems += repo.ProblemCount
	}
	if asJSON {
		return problems, json.NewEncoder(out).Encode(r)
	}
	fmt.Fprintf(out, "repositories: %s\n", strings.Join(statesText(r.States), ", "))
	fmt.Fprintf(out, "blobs in files of another registry: %d (%d bytes)\n", r.ForeignBlobs, r.ForeignBytes)
	for _, repo := range found.Repositories {
		sayProblems(out, repo)
	}
	for _, l := range r.Leftovers {
		fmt.Fprintf(out, "not carried: %s\n", l)
	}
	return problems, nil
}

var stateText = map[metadata.AdoptionState]string{
	metadata.AdoptionWaits:    "wait to be taken over",
	metadata.AdoptionBegun:    "taken over in part",
	metadata.AdoptionChanged:  "changed since they were taken over",
	metadata.AdoptionTaken:    "taken over, their blobs used in place",
	metadata.AdoptionGone:     "taken over, their directories gone",
	metadata.AdoptionFinishes: "whose directories are being removed",
}
