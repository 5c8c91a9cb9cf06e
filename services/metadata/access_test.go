package metadata

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// members is an access that lets nobody see private repositories but "root".
type members struct{ asked []registry.Actions }

func (m *members) allow(a registry.Actor, repo registry.Name, act registry.Actions) error {
	m.asked = append(m.asked, act)
	switch {
	case a.ID == "root" || repo == "public" && act == registry.ActRead:
		return nil
	case a.Anonymous():
		return registry.ErrUnauthorized
	}
	return registry.ErrDenied
}

func (m *members) allowRef(a registry.Actor, repo registry.Name, _ registry.Reference, act registry.Actions) error {
	return m.allow(a, repo, act)
}

// newCatalog opens a catalog in a new store.
func newCatalog(t *testing.T) *Catalog {
	t.Helper()
	db := openDatabase(t, t.TempDir())
	c, err := Open(t.Context(), db, nil, Options{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Every method decides on the name alone, first: what is missing and what may
// not be read look the same.
func TestAccessComesFirst(t *testing.T) {
	c := newCatalog(t)
	m := new(members)
	c.access = m
	d := registry.SHA256.FromString("x")
	calls := []struct {
		name string
		want registry.Actions
		call func(ctx context.Context, a registry.Actor, repo registry.Name) error
	}{
		{"Admit", registry.ActCreate, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Admit(ctx, a, repo)
			return err
		}},
		{"Tags", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Tags(ctx, a, repo, registry.Page[registry.Tag]{Limit: 1})
			return err
		}},
		{"TagHistory", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.TagHistory(ctx, a, repo, "t", 1)
			return err
		}},
		{"Manifest", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Manifest(ctx, a, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: "t"}})
			return err
		}},
		{"PutManifest", registry.ActCreate, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.PutManifest(ctx, a, repo, registry.ManifestPut{Digest: d})
			return err
		}},
		{"DeleteTag", registry.ActDelete, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			return c.DeleteTag(ctx, a, repo, "t", registry.Condition{})
		}},
		{"DeleteManifest", registry.ActDelete, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			return c.DeleteManifest(ctx, a, repo, d)
		}},
		{"Referrers", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Referrers(ctx, a, repo, d, "", registry.Page[registry.Digest]{Limit: 1})
			return err
		}},
		{"Blob", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Blob(ctx, a, repo, d)
			return err
		}},
		{"Link", registry.ActCreate, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Link(ctx, a, repo, registry.Stored{Digest: d})
			return err
		}},
		{"Mount", registry.ActCreate, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Mount(ctx, a, repo, d, "")
			return err
		}},
		{"ReadOnlys", registry.ActAdmin, func(ctx context.Context, a registry.Actor, _ registry.Name) error {
			_, err := c.ReadOnlys(ctx, a)
			return err
		}},
		{"SetReadOnly", registry.ActAdmin, func(ctx context.Context, a registry.Actor, _ registry.Name) error {
			return c.SetReadOnly(ctx, a, registry.ReadOnly{})
		}},
		{"ClearReadOnly", registry.ActAdmin, func(ctx context.Context, a registry.Actor, _ registry.Name) error {
			return c.ClearReadOnly(ctx, a, "x")
		}},
		{"Usage", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.Usage(ctx, a, repo)
			return err
		}},
		{"PullsOf", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.PullsOf(ctx, a, repo, d, registry.Page[registry.Tag]{Limit: 1})
			return err
		}},
		{"ExplainRetention", registry.ActRead, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.ExplainRetention(ctx, a, repo, registry.Reference{}, registry.Page[string]{Limit: 1})
			return err
		}},
		{"ApplyRetention", registry.ActAdmin, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.ApplyRetention(ctx, a, repo)
			return err
		}},
		{"RollbackTag", registry.ActCreate | registry.ActUpdate, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			_, err := c.RollbackTag(ctx, a, repo, "t", d, registry.Condition{})
			return err
		}},
		{"Unlink", registry.ActDelete, func(ctx context.Context, a registry.Actor, repo registry.Name) error {
			return c.Unlink(ctx, a, repo, d)
		}},
	}
	root := registry.Actor{ID: "root"}
	if _, err := c.Link(t.Context(), root, "there", registry.Stored{Digest: d, Locator: "l"}); err != nil {
		t.Fatal(err)
	}
	for _, call := range calls {
		for _, repo := range []registry.Name{"there", "missing"} {
			m.asked = nil
			if err := call.call(t.Context(), registry.Actor{}, repo); !errors.Is(err, registry.ErrUnauthorized) {
				t.Errorf("%s of %s by nobody: got error %v, want Unauthorized", call.name, repo, err)
			}
			if err := call.call(t.Context(), registry.Actor{ID: "mallory"}, repo); !errors.Is(err, registry.ErrDenied) {
				t.Errorf("%s of %s by mallory: got error %v, want Denied", call.name, repo, err)
			}
			var asked registry.Actions
			for _, a := range m.asked {
				asked |= a
			}
			if asked != call.want {
				t.Errorf("%s asked for %s, want %s", call.name, asked, call.want)
			}
		}
	}
}

func TestAccessHidesRepositories(t *testing.T) {
	c := newCatalog(t)
	c.access = new(members)
	root := registry.Actor{ID: "root"}
	d := registry.SHA256.FromString("x")
	for _, repo := range []registry.Name{"a", "b", "public", "x"} {
		if _, err := c.Link(t.Context(), root, repo, registry.Stored{Digest: d, Locator: "l"}); err != nil {
			t.Fatal(err)
		}
	}
	list := func(a registry.Actor, after registry.Name, limit int) registry.List[registry.Name] {
		t.Helper()
		got, err := c.Repositories(t.Context(), a, registry.Page[registry.Name]{After: after, Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := registry.List[registry.Name]{Items: []registry.Name{"public"}}
	for _, limit := range []int{1, 2, 10} { // also when whole pages are hidden
		if diff := cmp.Diff(want, list(registry.Actor{}, "", limit)); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
		}
	}
	want = registry.List[registry.Name]{Items: []registry.Name{"b", "public"}, More: true}
	if diff := cmp.Diff(want, list(root, "a", 2)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMountOnlyWhatMayBeRead(t *testing.T) {
	c := newCatalog(t)
	c.access = pusher{}
	root, user := registry.Actor{ID: "root"}, registry.Actor{ID: "user"}
	d := registry.SHA256.FromString("secret")
	if _, err := c.Link(t.Context(), root, "private", registry.Stored{Digest: d, Locator: "l"}); err != nil {
		t.Fatal(err)
	}
	for _, from := range []registry.Name{"private", ""} {
		if _, err := c.Mount(t.Context(), user, "user/x", d, from); !errors.Is(err, registry.ErrBlobUnknown) {
			t.Errorf("Mount from %q: got error %v, want ErrBlobUnknown", from, err)
		}
		if _, err := c.Mount(t.Context(), root, "root/x", d, from); err != nil {
			t.Errorf("Mount from %q by who may: %v", from, err)
		}
	}
}

// pusher lets everybody push, and only root read.
type pusher struct{}

func (pusher) allow(a registry.Actor, _ registry.Name, act registry.Actions) error {
	if act == registry.ActRead && a.ID != "root" {
		return registry.ErrDenied
	}
	return nil
}

func (m *members) detectsCollision(registry.Actor, registry.Name) bool { return false }

func (m *members) conditional(registry.Name) bool { return false }
func (m *members) viewer(a registry.Actor) viewer { return seer{m, a} }

func (pusher) detectsCollision(registry.Actor, registry.Name) bool { return false }

func (pusher) conditional(registry.Name) bool   { return false }
func (p pusher) viewer(a registry.Actor) viewer { return seer{p, a} }

// seer asks an access for each name.
type seer struct {
	access
	actor registry.Actor
}

func (s seer) Sees(repo registry.Name) bool                  { return s.allow(s.actor, repo, registry.ActRead) == nil }
func (s seer) Next(from registry.Name) (registry.Name, bool) { return from, true }

func (p pusher) allowRef(a registry.Actor, repo registry.Name, _ registry.Reference, act registry.Actions) error {
	return p.allow(a, repo, act)
}
