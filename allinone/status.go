package allinone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/metadata"
)

// whileRunning calls f with the catalog that serves the store of a config file, and
// reports whether there is one.
func whileRunning(ctx context.Context, file string, f func(registry.Catalog, *config.Config) error) (running bool, err error) {
	cfg, _, err := config.Load(file)
	if err != nil {
		return false, err
	}
	s := new(Store)
	defer func() { err = errors.Join(err, s.Close()) }()
	switch {
	case len(cfg.Services.Metadata.Address) > 0:
		err = s.dial(cfg, slog.New(slog.DiscardHandler))
	case onDisk(cfg):
		err = s.control(ctx, cfg)
	}
	if err != nil || s.Catalog == nil {
		return false, err
	}
	return true, f(s.Catalog, cfg)
}

// finishReport is what status prints of a take-over's end, as JSON.
type finishReport struct {
	Requested    *time.Time `json:"requested"`
	Ended        *time.Time `json:"ended"`
	Blobs        int64      `json:"blobs"`
	Bytes        int64      `json:"bytes"`
	Repositories int64      `json:"repositories"`
	Kept         int64      `json:"kept"`
	Problems     []string   `json:"problems,omitempty"`
	ProblemCount int64      `json:"problemCount"`
	Failure      string     `json:"failure,omitempty"`
}

// allTakeOvers returns what a running registry has of another one's repositories.
func allTakeOvers(ctx context.Context, c registry.Catalog) (r adoptionReport, problems int, err error) {
	r.States = make(map[metadata.AdoptionState]int)
	for p := (registry.Page[registry.Name]{Limit: 1000}); ; {
		list, err := c.TakeOvers(ctx, operator, p)
		if err != nil {
			return r, 0, err
		}
		for _, t := range list.Items {
			p.After = t.Repo
			state := metadata.AdoptionState(t.State)
			r.States[state]++
			problems += int(t.ProblemCount)
			r.Repositories = append(r.Repositories, metadata.AdoptedRepository{
				Repo: t.Repo, Pool: t.Pool, State: state, Problems: t.Problems, ProblemCount: int(t.ProblemCount),
			})
		}
		if !list.More || len(list.Items) == 0 {
			return r, problems, nil
		}
	}
}

// sayRunning prints what a running registry has of another one, and returns the
// number of problems.
func sayRunning(ctx context.Context, c registry.Catalog, cfg *config.Config, out io.Writer, asJSON bool) (int, error) {
	r, problems, err := allTakeOvers(ctx, c)
	if err != nil {
		return 0, err
	}
	f, err := c.TakeOverFinish(ctx, operator)
	if err != nil {
		return 0, err
	}
	r.Running, r.Leftovers, r.ForeignBlobs, r.ForeignBytes = true, leftovers(cfg), f.ForeignBlobs, f.ForeignBytes
	if f.Requested > 0 {
		problems += int(f.ProblemCount)
		r.Finish = &finishReport{
			Requested: instant(f.Requested), Ended: instant(f.Ended), Blobs: f.Blobs, Bytes: f.Bytes, Repositories: f.Repositories, Kept: f.Kept,
			Problems: f.Problems, ProblemCount: f.ProblemCount, Failure: f.Failure,
		}
	}
	if asJSON {
		return problems, json.NewEncoder(out).Encode(r)
	}
	fmt.Fprintf(out, "the registry runs\nrepositories: %s\n", strings.Join(statesText(r.States), ", "))
	if f.Requested > 0 && f.Ended == 0 {
		fmt.Fprintf(out, "files are becoming Berth's own: %s\n", finishText(f))
		if f.Failure != "" {
			fmt.Fprintf(out, "the last attempt failed, it is tried again: %s\n", f.Failure)
		}
	} else {
		fmt.Fprintf(out, "blobs in files of another registry: %d (%d bytes)\n", f.ForeignBlobs, f.ForeignBytes)
	}
	sayReport(out, r, f)
	return problems, nil
}

// sayReport prints what is wrong, and what is not carried over.
func sayReport(out io.Writer, r adoptionReport, f registry.TakeOverFinish) {
	for _, repo := range r.Repositories {
		sayProblems(out, repo)
	}
	for _, p := range f.Problems {
		fmt.Fprintln(out, p)
	}
	if more := f.ProblemCount - int64(len(f.Problems)); more > 0 {
		fmt.Fprintf(out, "and %d more\n", more)
	}
	for _, l := range r.Leftovers {
		fmt.Fprintf(out, "not carried: %s\n", l)
	}
}

func finishText(f registry.TakeOverFinish) string {
	return fmt.Sprintf("%d blobs (%d bytes), %d directories of repositories removed, of %d some files kept because of problems", f.Blobs, f.Bytes, f.Repositories, f.Kept)
}

// adoptRunning waits until a running registry has taken over all that waits, or, with
// finish, has it end the take-over and waits for that. It returns the number of
// problems.
func adoptRunning(ctx context.Context, c registry.Catalog, cfg *config.Config, out io.Writer, finish bool) (int, error) {
	if finish {
		if err := c.FinishTakeOvers(ctx, operator); err != nil {
			return 0, err
		}
		fmt.Fprintln(out, "the registry runs: it makes the files its own in the background, after what waits was taken over, and removes nothing for a minute then; status tells how far it is")
	}
	said := time.Now()
	wait := func(progress string) error {
		if time.Since(said) > progressEvery {
			said = time.Now()
			fmt.Fprintln(out, progress)
		}
		return pause(ctx, adoptPoll)
	}
	for {
		r, problems, err := allTakeOvers(ctx, c)
		if errors.Is(err, registry.ErrUnavailable) { // it has just been started, or waits for its blobstore
			if err := wait(err.Error()); err != nil {
				return 0, err
			}
			continue
		}
		if err != nil {
			return 0, err
		}
		waiting := r.States[metadata.AdoptionWaits] + r.States[metadata.AdoptionBegun] + r.States[metadata.AdoptionChanged]
		var f registry.TakeOverFinish
		done := waiting == 0
		if finish {
			if f, err = c.TakeOverFinish(ctx, operator); err != nil {
				return 0, err
			}
			if f.Failure != "" {
				return 0, fmt.Errorf("it is tried again every minute: %s", f.Failure)
			}
			done = f.Ended > 0
		}
		if done {
			if finish {
				fmt.Fprintln(out, finishText(f))
			}
			r.Leftovers = leftovers(cfg)
			sayReport(out, r, f)
			fmt.Fprintf(out, "repositories: %s\n", strings.Join(statesText(r.States), ", "))
			return problems + int(f.ProblemCount+f.Kept), nil
		}
		progress := finishText(f)
		if waiting > 0 {
			progress = fmt.Sprintf("%d repositories wait", waiting)
		}
		if err := wait(progress); err != nil {
			return 0, err
		}
	}
}

// adoptPoll is how often a running registry is asked how far it is.
const adoptPoll = 500 * time.Millisecond

// statesText says how many repositories are in each state.
func statesText(states map[metadata.AdoptionState]int) (text []string) {
	for _, s := range []metadata.AdoptionState{
		metadata.AdoptionWaits, metadata.AdoptionBegun, metadata.AdoptionChanged, metadata.AdoptionTaken, metadata.AdoptionGone, metadata.AdoptionFinishes,
	} {
		if n := states[s]; n > 0 {
			text = append(text, fmt.Sprintf("%d %s", n, stateText[s]))
		}
	}
	if len(text) == 0 {
		text = append(text, "nothing of another registry")
	}
	return text
}
