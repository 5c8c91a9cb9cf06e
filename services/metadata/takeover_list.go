package metadata

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// TakeOvers implements [registry.TakeOvers].
func (c *Catalog) TakeOvers(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.TakeOver], error) {
	return c.takeOvers(ctx, a, p, nil)
}

// TakeOvers implements [registry.TakeOvers]. Before all repositories are known it
// waits a while for that: a list without them would say that nothing waits.
func (s *Service) TakeOvers(ctx context.Context, a registry.Actor, p registry.Page[registry.Name]) (registry.List[registry.TakeOver], error) {
	if s.takeover == nil {
		return s.Catalog.TakeOvers(ctx, a, p)
	}
	if err := s.access.allow(a, "", registry.ActAdmin); err != nil {
		return registry.List[registry.TakeOver]{}, err // who may not ask does not wait
	}
	if err := s.takeover.known(ctx); err != nil {
		return registry.List[registry.TakeOver]{}, err
	}
	return s.Catalog.takeOvers(ctx, a, p, s.takeover.behind(p.After))
}

// takeOvers lists what was taken over and what waits.
func (c *Catalog) takeOvers(ctx context.Context, a registry.Actor, p registry.Page[registry.Name], waiting map[registry.Name]awaited) (registry.List[registry.TakeOver], error) {
	none := registry.List[registry.TakeOver]{}
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	page, err := c.adoptionPage(ctx, p.After, limit+1)
	if err != nil {
		return none, err
	}
	states := map[int]string{adoptionBegun: registry.TakeOverBegun, adoptionDone: registry.TakeOverDone, adoptionRemoving: registry.TakeOverFinishes}
	var all []registry.TakeOver
	for _, x := range page {
		t := registry.TakeOver{Repo: x.repo, Pool: x.pool, State: states[x.state], Problems: x.list, ProblemCount: int64(x.count)}
		if w, waits := waiting[x.repo]; waits {
			if x.state != adoptionBegun && !x.settled(w.stamp) { // or another process has done it
				t.State = registry.TakeOverChanged
			}
			delete(waiting, x.repo)
		}
		all = append(all, t)
	}
	full := len(page) > limit
	for repo := range waiting {
		if !full || repo < page[len(page)-1].repo {
			all = append(all, registry.TakeOver{Repo: repo, Pool: c.poolOf(repo), State: registry.TakeOverWaits})
		}
	}
	slices.SortFunc(all, func(a, b registry.TakeOver) int { return strings.Compare(string(a.Repo), string(b.Repo)) })
	n := min(limit, len(all))
	return registry.List[registry.TakeOver]{Items: all[:n], More: n < len(all)}, nil
}

// behind returns the repositories behind after that wait, or are being taken over.
func (t *takeover) behind(after registry.Name) map[registry.Name]awaited {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make(map[registry.Name]awaited)
	for n, w := range t.waiting {
		if n > after {
			all[n] = w
		}
	}
	return all
}
