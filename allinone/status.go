package allinone

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/metadata"
)

// runningStatus asks the registry that serves the store of a config file what of it
// is still another registry's; false if nobody serves it.
func runningStatus(ctx context.Context, file string, out io.Writer, asJSON bool) (running bool, problems int, err error) {
	cfg, _, err := config.Load(file)
	if err != nil {
		return false, 0, err
	}
	s := new(Store)
	defer func() { _ = s.Close() }()
	switch {
	case len(cfg.Services.Metadata.Address) > 0:
		err = s.dial(cfg, slog.New(slog.DiscardHandler))
	case onDisk(cfg):
		err = s.control(ctx, cfg)
	}
	if err != nil || s.Catalog == nil {
		return false, 0, err
	}
	report := adoptionReport{Running: true, States: make(map[metadata.AdoptionState]int), Leftovers: leftovers(cfg)}
	for p := (registry.Page[registry.Name]{Limit: 1000}); ; {
		list, err := s.Catalog.TakeOvers(ctx, operator, p)
		if err != nil {
			return true, 0, err
		}
		for _, t := range list.Items {
			p.After = t.Repo
			state := metadata.AdoptionState(t.State)
			report.States[state]++
			problems += int(t.ProblemCount)
			report.Repositories = append(report.Repositories, metadata.AdoptedRepository{
				Repo: t.Repo, Pool: t.Pool, State: state, Problems: t.Problems, ProblemCount: int(t.ProblemCount),
			})
		}
		if !list.More || len(list.Items) == 0 {
			break
		}
	}
	if asJSON {
		return true, problems, json.NewEncoder(out).Encode(report)
	}
	fmt.Fprintf(out, "the registry runs\nrepositories: %s\n", strings.Join(statesText(report.States), ", "))
	for _, r := range report.Repositories {
		sayProblems(out, r)
	}
	for _, l := range report.Leftovers {
		fmt.Fprintf(out, "not carried: %s\n", l)
	}
	return true, problems, nil
}

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
