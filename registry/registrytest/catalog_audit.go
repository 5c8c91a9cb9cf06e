package registrytest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func auditTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Audit", testAudit},
		{"AuditRefusals", testAuditRefusals},
	}
}

func testAudit(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	const day = 24 * 3600 * 1_000_000
	var all []registry.AuditEvent
	for i := range 20 {
		at := int64(1_800_000_000_000_000) + int64(i)*day
		e := registry.AuditEvent{
			ID: registry.NewAuditID(at), At: at, Actor: []string{"alice", "bob", ""}[i%3], Source: "192.0.2.1",
			Action: []string{"manifest.put", "manifest.delete", "login.failed", "manifests.x"}[i%4], Object: []string{"a/b:v1", "a/b", "a/bc", "a", "a/b@sha256:0"}[i%5],
			Status: 201, Result: "ok", RequestID: fmt.Sprint(i),
		}
		all = append(all, e)
	}
	// Twice, in two orders, is once.
	if err := c.RecordAudit(ctx, []registry.AuditEvent{all[3], all[1]}); err != nil {
		t.Fatal(err)
	}
	if err := c.RecordAudit(ctx, all); err != nil {
		t.Fatal(err)
	}
	if err := c.RecordAudit(ctx, nil); err != nil {
		t.Error(err)
	}
	for name, q := range map[string]registry.AuditQuery{
		"all":         {},
		"actor":       {Actor: "alice"},
		"action":      {Action: "manifest.put"},
		"actions":     {Action: "manifest"},
		"object":      {Object: "a/b"},
		"objects":     {Object: "a"},
		"time":        {Since: all[5].At, Until: all[15].At},
		"all of them": {Actor: "bob", Action: "manifest", Object: "a/b", Since: all[1].At},
		"nothing":     {Actor: "nobody"},
		"wildcards":   {Actor: "%", Object: "a_b"},
	} {
		var want, got []registry.AuditEvent
		for i := len(all) - 1; i >= 0; i-- {
			if q.Matches(all[i]) {
				want = append(want, all[i])
			}
		}
		q.Limit = 3
		for pages := 0; ; pages++ {
			list, err := c.AuditLog(ctx, alice, q)
			if err != nil || pages > len(all) {
				t.Fatalf("%s: %d pages, %v", name, pages, err)
			}
			got = append(got, list.Items...)
			if !list.More {
				break
			}
			q.Before = list.Items[len(list.Items)-1].ID
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func testAuditRefusals(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	for _, id := range []string{"", "x", "0123", "g0000000000000000000000000000000", "f0000000000000000000000000000000"} {
		if err := c.RecordAudit(ctx, []registry.AuditEvent{{ID: id}}); !errors.Is(err, registry.ErrParameterInvalid) {
			t.Errorf("id %q: got %v", id, err)
		}
	}
	if err := c.RecordAudit(ctx, make([]registry.AuditEvent, registry.MaxAuditEvents+1)); !errors.Is(err, registry.ErrTooLarge) && !errors.Is(err, registry.ErrParameterInvalid) {
		t.Errorf("too many: got %v", err)
	}
	for _, q := range []registry.AuditQuery{{}, {Limit: -1}, {Limit: registry.MaxAuditEvents + 1}, {Limit: 1, Before: "x"}} {
		if _, err := c.AuditLog(ctx, alice, q); !errors.Is(err, registry.ErrParameterInvalid) {
			t.Errorf("%+v: got %v", q, err)
		}
	}
}
