package registrytest

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func announcementTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Announcements", testAnnouncements},
		{"AnnouncementRefusals", testAnnouncementRefusals},
	}
}

// testAnnouncements: a catalog that nobody listens to may forget what it is told.
func testAnnouncements(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	var all []registry.Announcement
	for i := range 6 {
		at := int64(1_800_000_000_000_000) + int64(i)*1_000_000
		all = append(all, registry.Announcement{
			ID: registry.NewAuditID(at), Type: registry.ImageLintFailed, At: at, Repo: []registry.Name{"a/b", "a"}[i%2], Reference: "v1",
			Digest: registry.SHA256.FromString("x"), MediaType: registry.TypeManifest, Actor: "alice", Address: "192.0.2.1", Method: "PUT", Agent: "docker",
			Data: map[string]json.RawMessage{"manifest": json.RawMessage(`"{}"`)},
		})
	}
	if err := c.Announce(ctx, all[2:4]); err != nil {
		t.Fatal(err)
	}
	if err := c.Announce(ctx, all); err != nil {
		t.Fatal(err)
	}
	list := func(q registry.AnnouncementQuery) registry.List[registry.Announcement] {
		t.Helper()
		l, err := c.Announced(ctx, alice, q)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	got := list(registry.AnnouncementQuery{Limit: 4})
	if len(got.Items) == 0 {
		return
	}
	if diff := cmp.Diff([]registry.Announcement{all[5], all[4], all[3], all[2]}, got.Items); diff != "" || !got.More {
		t.Errorf("the latest (-want +got), more %v:\n%s", got.More, diff)
	}
	got = list(registry.AnnouncementQuery{Limit: 4, Repo: "a", Before: all[5].ID})
	if diff := cmp.Diff([]registry.Announcement{all[3], all[1]}, got.Items); diff != "" || got.More {
		t.Errorf("of a repository (-want +got), more %v:\n%s", got.More, diff)
	}
	if _, err := c.Sinks(ctx, alice); err != nil {
		t.Error(err)
	}
}

func testAnnouncementRefusals(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	for name, e := range map[string]registry.Announcement{
		"no id":   {Type: "x"},
		"no type": {ID: registry.NewAuditID(1)},
		"large":   {ID: registry.NewAuditID(1), Type: "x", Data: map[string]json.RawMessage{"x": make([]byte, registry.MaxAnnouncement)}},
	} {
		if err := c.Announce(ctx, []registry.Announcement{e}); !errors.Is(err, registry.ErrParameterInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Announce(ctx, make([]registry.Announcement, registry.MaxAnnouncements+1)); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("too many: %v", err)
	}
	for _, q := range []registry.AnnouncementQuery{{}, {Limit: -1}, {Limit: registry.MaxAnnouncements + 1}, {Limit: 1, Before: "x"}} {
		if _, err := c.Announced(ctx, alice, q); !errors.Is(err, registry.ErrParameterInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
