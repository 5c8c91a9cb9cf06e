package memory

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Announce implements [registry.Announcements]. A catalog in memory tells nobody, but
// remembers.
func (c *Catalog) Announce(ctx context.Context, all []registry.Announcement) error {
	if err := registry.CheckAnnouncements(all); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for _, e := range all {
		i, found := slices.BinarySearchFunc(c.announced, e.ID, func(e registry.Announcement, id string) int { return strings.Compare(e.ID, id) })
		if !found {
			c.announced = slices.Insert(c.announced, i, e)
		}
	}
	return nil
}

// Announced implements [registry.Announcements].
func (c *Catalog) Announced(ctx context.Context, a registry.Actor, q registry.AnnouncementQuery) (registry.List[registry.Announcement], error) {
	var list registry.List[registry.Announcement]
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return list, err
	}
	if err := q.Check(); err != nil {
		return list, err
	}
	if err := c.lock(ctx); err != nil {
		return list, err
	}
	defer c.mu.Unlock()
	for _, e := range slices.Backward(c.announced) {
		if q.Before != "" && e.ID >= q.Before || q.Repo != "" && e.Repo != q.Repo {
			continue
		}
		if len(list.Items) == q.Limit {
			list.More = true
			break
		}
		list.Items = append(list.Items, e)
	}
	return list, nil
}

// Sinks implements [registry.Announcements]: there are none.
func (c *Catalog) Sinks(_ context.Context, a registry.Actor) ([]registry.SinkStatus, error) {
	return nil, c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin)
}
