package memory

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

func (m *Mirror) rule(name string) error {
	if name != m.o.Rule.Name {
		return registry.ErrNameUnknown.With("there is no rule %q", name)
	}
	return nil
}

// MirrorRules implements [registry.MirrorControl].
func (m *Mirror) MirrorRules(ctx context.Context) ([]registry.MirrorRule, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.o.Rule
	r.Paused, r.Down, r.LastRun, r.Budget, r.Saved = m.paused, m.down && !m.paused, m.runs, -1, m.saved
	return []registry.MirrorRule{r}, ctx.Err()
}

// Served implements [registry.Puller].
func (m *Mirror) Served(ctx context.Context, all []registry.Served) error {
	if err := registry.CheckServed(all); err != nil {
		return err
	}
	for _, s := range all {
		if m.covered(s.Repository) {
			m.mu.Lock()
			m.saved += s.Bytes
			m.mu.Unlock()
		}
	}
	return ctx.Err()
}

// Fills implements [registry.MirrorControl]: nothing is seen on its way.
func (m *Mirror) Fills(ctx context.Context) ([]registry.Fill, error) { return nil, ctx.Err() }

// Presence implements [registry.MirrorControl]. It looks at images, not below indexes.
func (m *Mirror) Presence(ctx context.Context, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.TagPresence], error) {
	var list registry.List[registry.TagPresence]
	tags, err := m.o.Catalog.Tags(ctx, mirrorActor, repo, p)
	if err != nil {
		return list, err
	}
	list.More = tags.More
	for _, t := range tags.Items {
		found, err := m.o.Catalog.Manifest(ctx, mirrorActor, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: t}})
		if err != nil {
			return list, err
		}
		info, err := registry.ParseManifest(found.MediaType, found.Bytes)
		if err != nil {
			return list, err
		}
		x := registry.PlatformPresence{Digest: found.Digest}
		for _, ref := range info.References {
			x.Size += ref.Size
			if b, err := m.o.Catalog.Blob(ctx, mirrorActor, repo, ref.Digest); err == nil {
				x.Have += b.Size
			}
		}
		switch x.Have {
		case x.Size:
			x.State = registry.Complete
		case 0:
			x.State = registry.Missing
		default:
			x.State = registry.Partial
		}
		list.Items = append(list.Items, registry.TagPresence{Tag: t, Digest: x.Digest, State: x.State, Have: x.Have, Size: x.Size, Platforms: []registry.PlatformPresence{x}})
	}
	return list, nil
}

// Explain implements [registry.MirrorControl].
func (m *Mirror) Explain(ctx context.Context, repo registry.Name) ([]string, error) {
	if !m.covered(repo) {
		return []string{fmt.Sprintf("No rule covers %s.", repo)}, ctx.Err()
	}
	return []string{fmt.Sprintf("A pull of what is missing asks %s for %s. Pushes: %s.", m.o.Rule.Name, repo, m.o.Rule.Push)}, ctx.Err()
}

// Examine implements [registry.MirrorControl].
func (m *Mirror) Examine(ctx context.Context, rule string) ([]registry.MirrorCheck, error) {
	if err := m.rule(rule); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return []registry.MirrorCheck{{Step: "connection " + rule, OK: !m.down, Text: "memory"}}, ctx.Err()
}

// Trigger implements [registry.MirrorControl]. There is nothing that a schedule copies.
func (m *Mirror) Trigger(ctx context.Context, rule string) error {
	if err := m.rule(rule); err != nil {
		return err
	}
	if m.o.Rule.Interval == 0 && m.o.Rule.Push != registry.PushForward {
		return registry.ErrUnsupported.With("rule %s has no pollInterval", rule)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runs++
	return ctx.Err()
}

// Pause implements [registry.MirrorControl].
func (m *Mirror) Pause(ctx context.Context, rule string, paused bool) error {
	if rule != registry.AllRules {
		if err := m.rule(rule); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paused = paused
	return ctx.Err()
}

// Forget implements [registry.MirrorControl].
func (m *Mirror) Forget(ctx context.Context, repo registry.Name) error {
	pushed, err := m.o.Catalog.PushedTo(ctx, mirrorActor, repo)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if delete(m.claimed, repo); pushed {
		m.claimed[repo] = false
	}
	return nil
}
