package registrytest

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func auditTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Audit", testAudit},
		{"AuditRefusals", testAuditRefusals},
		{"S095TagMoves", testTagMovesAudited},
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

// testTagMovesAudited: each tag that points to something else than before leaves an
// event with both digests, whatever moved it; a new tag, one that is set to what it is,
// a removed one and a push that is refused leave none.
func testTagMovesAudited(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	one := c.image(t, "a/b", "1", "v1", "other")
	two := c.image(t, "a/b", "2", "v1")
	c.image(t, "a/b", "2", "v1")
	_, err := c.PutManifest(ctx, alice, "a/b", registry.ManifestPut{
		Digest: one, MediaType: registry.TypeManifest, Bytes: c.imageBytes(t, "a/b", "1"), Tags: []registry.Tag{"v1"}, If: registry.Condition{Match: one},
	})
	wantErr(t, "a push whose condition does not hold", err, registry.ErrPreconditionFailed)
	_, err = c.RollbackTag(ctx, alice, "a/b", "v1", one, registry.Condition{})
	must(t, "RollbackTag", err)
	three, content := c.imageBytes(t, "a/b", "3"), registry.Origin{Upstream: "up.example/a"}
	_, err = c.PutCached(ctx, alice, "a/b", registry.ManifestPut{
		Digest: registry.SHA256.FromBytes(three), MediaType: registry.TypeManifest, Bytes: three, Tags: []registry.Tag{"v1", "other"},
	}, content)
	must(t, "PutCached", err)
	must(t, "DeleteTag", c.DeleteTag(ctx, alice, "a/b", "v1", registry.Condition{}))
	c.image(t, "a/b", "1", "v1")

	list, err := c.AuditLog(ctx, alice, registry.AuditQuery{Action: registry.TagMoved, Object: "a/b", Limit: 100})
	must(t, "AuditLog", err)
	var got []string
	for _, e := range list.Items {
		got = append(got, e.Object)
		if e.Actor != alice.ID || e.At == 0 || e.Result != "ok" {
			t.Errorf("an event is %+v", e)
		}
	}
	last := registry.SHA256.FromBytes(three)
	want := []string{
		registry.TagMove("a/b", "other", one, last), registry.TagMove("a/b", "v1", one, last),
		registry.TagMove("a/b", "v1", one, two), registry.TagMove("a/b", "v1", two, one),
	}
	slices.Sort(got) // two are of one transaction
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events: -want +got\n%s", diff)
	}
	if list, err := c.AuditLog(ctx, alice, registry.AuditQuery{Object: "a/b:v1", Limit: 100}); err != nil || len(list.Items) != 3 {
		t.Errorf("events of a tag: %+v, %v", list.Items, err)
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
