package metadata_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// A deleted repository goes when its undo window has passed, with all it had, and
// not before; what others have stays.
func TestI7DeletedRepositoryGoes(t *testing.T) { onEach(t, testI7DeletedRepositoryGoes) }

func testI7DeletedRepositoryGoes(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	ctx := t.Context()
	for _, repo := range []registry.Name{"a", "b"} {
		k.push(t, repo, "shared", "latest")
	}
	trashed := k.push(t, "a", "trashed")
	if err := k.DeleteManifest(ctx, alice, "a", trashed.Digest); err != nil {
		t.Fatal(err)
	}
	own := k.push(t, "a", "own", "v1", "v2")
	idx := index([]registry.ManifestPut{own}, "multi")
	put(t, k, "a", idx)
	if err := k.DeleteRepository(ctx, alice, "a"); err != nil {
		t.Fatal(err)
	}
	k.sound(t)
	for range 5 {
		k.collect(t, undo/6)
	}
	if err := k.Undelete(ctx, alice, "a", registry.Reference{}); err != nil {
		t.Fatalf("Undelete at the end of the window: %v", err)
	}
	for tag, want := range map[registry.Tag]registry.Digest{"v1": own.Digest, "v2": own.Digest, "multi": idx.Digest} {
		if got := tagged(t, k, "a", tag); got != want {
			t.Errorf("tag %s is %s, want %s", tag, got, want)
		}
	}
	k.sound(t)
	if err := k.DeleteRepository(ctx, alice, "a"); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	if err := k.Undelete(ctx, alice, "a", registry.Reference{}); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("Undelete when it is over: got error %v", err)
	}
	if diff := cmp.Diff([]string{"config of shared", "layer of shared"}, k.copies(t)); diff != "" {
		t.Errorf("stored bytes: -want +got\n%s", diff)
	}
	for _, table := range []string{"trash", "trash_references", "deleted_repositories"} {
		var n int
		if err := k.db.QueryRow(ctx, `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil || n > 0 {
			t.Errorf("%d rows are left in %s (%v)", n, table, err)
		}
	}
	var left int
	err := k.db.QueryRow(ctx, `SELECT COUNT(*) FROM tag_history WHERE repo_id NOT IN (SELECT id FROM repositories)`).Scan(&left)
	if err != nil || left > 0 {
		t.Errorf("%d entries of history are left (%v)", left, err)
	}
	k.sound(t)
}

// A deleted manifest keeps its content until its window has passed.
func TestI7DeletedManifestGoes(t *testing.T) { onEach(t, testI7DeletedManifestGoes) }

func testI7DeletedManifestGoes(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	ctx := t.Context()
	m := k.push(t, "a", "x", "v1")
	if err := k.DeleteManifest(ctx, alice, "a", m.Digest); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		k.collect(t, undo/6)
	}
	if err := k.Undelete(ctx, alice, "a", registry.Reference{Digest: m.Digest}); err != nil {
		t.Fatalf("Undelete at the end of the window: %v", err)
	}
	k.settle(t)
	if got := tagged(t, k, "a", "v1"); got != m.Digest {
		t.Errorf("v1 is %s, want %s", got, m.Digest)
	}
	if err := k.DeleteManifest(ctx, alice, "a", m.Digest); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	if got := k.copies(t); len(got) > 0 {
		t.Errorf("stored: %q, want nothing", got)
	}
	k.sound(t)
}

// A purge lets go at once what nobody was promised; a promise outlives it.
func TestPurge(t *testing.T) { onEach(t, testPurge) }

func testPurge(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	ctx := t.Context()
	m := k.push(t, "a", "x", "v1")
	k.push(t, "b", "y", "v1")
	loose := k.link(t, "c", "loose")
	k.clock.move(3 * lease)
	if _, err := k.Blob(ctx, alice, "c", loose.Digest); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		k.DeleteManifest(ctx, alice, "a", m.Digest),
		k.DeleteRepository(ctx, alice, "b"),
		k.Purge(ctx, alice, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	plan, err := k.Plan(ctx, alice, registry.Page[registry.Cursor]{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	given := slices.IndexFunc(plan.Items, func(d registry.Doomed) bool { return d.Repo == "b" && d.Kind == registry.DoomedRepository })
	if given < 0 || plan.Items[given].Reason != "it was deleted, and given up" {
		t.Errorf("the plan says of what can't be restored any more: %+v", plan.Items)
	}
	for range 5 {
		k.collect(t, lease/6) // a lease after the drop all have gone but what was promised later
		if _, err := k.Blob(ctx, alice, "c", loose.Digest); err != nil {
			t.Fatalf("what was promised: %v", err)
		}
	}
	for range 4 {
		k.collect(t, lease/3)
	}
	if got := k.copies(t); !slices.Equal(got, []string{"loose"}) {
		t.Errorf("stored: %q, want only what was promised", got)
	}
	k.sound(t)
}

// The plan tells what will go, and why; and that is what goes.
func TestPlan(t *testing.T) { onEach(t, testPlan) }

func testPlan(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	ctx := t.Context()
	old := k.push(t, "a", "old", "v1")
	new := k.push(t, "a", "new", "v1")
	loose := k.link(t, "b", "loose")
	k.push(t, "c", "gone")
	if err := k.DeleteRepository(ctx, alice, "c"); err != nil {
		t.Fatal(err)
	}
	type doom struct {
		kind   string
		repo   registry.Name
		digest registry.Digest
	}
	plan := func(page int) []doom {
		t.Helper()
		var all []doom
		for after, more := registry.Cursor(""), true; more; {
			list, err := k.Plan(ctx, alice, registry.Page[registry.Cursor]{After: after, Limit: page})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list.Items {
				if d.Reason == "" || d.At == 0 {
					t.Errorf("%+v lacks a reason or a time", d)
				}
				all = append(all, doom{d.Kind, d.Repo, d.Digest})
				after = d.Cursor
			}
			more = list.More
		}
		slices.SortFunc(all, func(a, b doom) int { return strings.Compare(string(a.repo), string(b.repo)) })
		return all
	}
	want := []doom{
		{registry.DoomedManifest, "a", old.Digest}, {registry.DoomedLink, "b", loose.Digest}, {registry.DoomedRepository, "c", ""},
	}
	for _, page := range []int{1, 2, 100} {
		if diff := cmp.Diff(want, plan(page), cmp.AllowUnexported(doom{})); diff != "" {
			t.Errorf("Plan in pages of %d: -want +got\n%s", page, diff)
		}
	}
	k.settle(t)
	if got := plan(10); len(got) > 0 {
		t.Errorf("when all has gone the plan has %v", got)
	}
	if !k.has(t, "a", new.Digest) || k.has(t, "a", old.Digest) {
		t.Error("what went is not what was planned")
	}
}

// Deleted tags are found wherever their history lies in the pages it is read by, and only
// those whose last change it was.
func TestDeletedTagsOfALongHistory(t *testing.T) {
	t.Run("a page ends with a tag", func(t *testing.T) { testDeletedTagsOfALongHistory(t) })
	t.Run("a page ends between the changes of a tag", func(t *testing.T) { testDeletedTagsOfALongHistory(t, "first") })
}

func testDeletedTagsOfALongHistory(t *testing.T, first ...registry.Tag) {
	s := openStore(t, onSQLite(t), metadata.Options{}, nil)
	const tags, perPut = 600, 10 // with two changes each, and some with one or three
	want := map[registry.Tag]bool{}
	pushImage(t, s, "a", "same", first...)
	for i := 0; i < tags; i += perPut {
		var some []registry.Tag
		for n := range perPut {
			some = append(some, registry.Tag(fmt.Sprintf("t%04d", i+n)))
		}
		m := pushImage(t, s, "a", "same", some...)
		for n, tag := range some {
			if n == 3 {
				continue // it stays
			}
			if err := s.DeleteTag(t.Context(), alice, "a", tag, registry.Condition{}); err != nil {
				t.Fatal(err)
			}
			if n == 7 {
				m.Tags = []registry.Tag{tag}
				put(t, s, "a", m) // it is back
				continue
			}
			want[tag] = true
		}
	}
	pushImage(t, s, "b", "other", "v1")
	if err := s.DeleteTag(t.Context(), alice, "b", "v1", registry.Condition{}); err != nil {
		t.Fatal(err)
	}
	for i, repo := range []registry.Name{"a", "a", "", ""} {
		got := map[registry.Tag]bool{}
		for p := (registry.Page[registry.Cursor]{Limit: []int{70, 1000}[i%2]}); ; {
			list, err := s.Deleted(t.Context(), alice, repo, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range list.Items {
				if got[d.Tag] || d.Tag == "" {
					t.Errorf("%q is listed twice, or is no tag", d.Tag)
				}
				got[d.Tag], p.After = true, d.Cursor
			}
			if !list.More {
				break
			}
		}
		if repo == "" {
			want["v1"] = true
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("deleted tags of %q: -want +got\n%s", repo, diff)
		}
	}
}
