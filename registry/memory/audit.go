package memory

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// RecordAudit implements [registry.Audit].
func (c *Catalog) RecordAudit(ctx context.Context, events []registry.AuditEvent) error {
	if len(events) > registry.MaxAuditEvents {
		return registry.ErrTooLarge.With("at most %d events at a time", registry.MaxAuditEvents)
	}
	for _, e := range events {
		if !registry.ValidAuditID(e.ID) {
			return registry.ErrParameterInvalid.With("an event has no valid id")
		}
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for _, e := range events {
		c.keep(e)
	}
	return nil
}

// keep adds an event, once. c.mu must be held.
func (c *Catalog) keep(e registry.AuditEvent) {
	i, found := slices.BinarySearchFunc(c.audit, e.ID, func(e registry.AuditEvent, id string) int { return strings.Compare(e.ID, id) })
	if !found {
		c.audit = slices.Insert(c.audit, i, e)
	}
}

// AuditLog implements [registry.Audit].
func (c *Catalog) AuditLog(ctx context.Context, a registry.Actor, q registry.AuditQuery) (registry.List[registry.AuditEvent], error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return registry.List[registry.AuditEvent]{}, err
	}
	var list registry.List[registry.AuditEvent]
	if err := q.Check(); err != nil {
		return list, err
	}
	if err := c.lock(ctx); err != nil {
		return list, err
	}
	defer c.mu.Unlock()
	for _, e := range slices.Backward(c.audit) {
		if q.Before != "" && e.ID >= q.Before || !q.Matches(e) {
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
