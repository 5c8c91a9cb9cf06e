package registrytest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func retentionTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Pulls", testPulls},
		{"RollbackTag", testRollbackTag},
		{"RollbackTagFails", testRollbackTagFails},
		{"RetentionWithoutPolicies", testRetentionWithoutPolicies},
	}
}

func testPulls(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	d := c.image(t, "a", "x", "v1", "v2")
	other := c.image(t, "a", "y", "w")
	pull := func(tag registry.Tag, actor string, at, n int64) registry.Pull {
		return registry.Pull{Repository: "a", Digest: d, Tag: tag, Actor: actor, At: at, Count: n}
	}
	must(t, "CountPulls of nothing", c.CountPulls(t.Context(), nil))
	must(t, "CountPulls", c.CountPulls(t.Context(), []registry.Pull{
		pull("v2", "", 5, 1), pull("v1", "bob", 20, 3), pull("", "carol", 7, 1),
		{Repository: "nowhere", Digest: d, Count: 1}, {Repository: "a", Digest: sha256of([]byte("gone")), Count: 1},
	}))
	must(t, "CountPulls", c.CountPulls(t.Context(), []registry.Pull{pull("v1", "late", 10, 2), pull("v2", "bob", 9, 1)}))
	want := []registry.Pull{pull("", "carol", 7, 1), pull("v1", "bob", 20, 5), pull("v2", "bob", 9, 2)}
	for _, limit := range []int{1, 2, 100} {
		got := pages(t, limit, registry.Pull.Key, func(p registry.Page[registry.Tag]) (registry.List[registry.Pull], error) {
			return c.PullsOf(t.Context(), alice, "a", d, p)
		})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in pages of %d: -want +got\n%s", limit, diff)
		}
	}
	if list, err := c.PullsOf(t.Context(), alice, "a", other, registry.Page[registry.Tag]{Limit: 10}); err != nil || len(list.Items) > 0 {
		t.Errorf("nobody has pulled this: %v (%v)", list, err)
	}
	_, err := c.PullsOf(t.Context(), alice, "nowhere", d, registry.Page[registry.Tag]{Limit: 10})
	wantErr(t, "PullsOf", err, registry.ErrNameUnknown)
}

func testRollbackTag(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	one := c.image(t, "a", "one", "v1")
	two := c.image(t, "a", "two", "v1")
	back := func(to registry.Digest, cond registry.Condition) registry.TagChange {
		t.Helper()
		ch, err := c.RollbackTag(t.Context(), alice, "a", "v1", to, cond)
		must(t, "RollbackTag", err)
		if ch.Digest != to || ch.Actor != alice.ID || ch.At == 0 {
			t.Errorf("RollbackTag: got %+v", ch)
		}
		c.checkTag(t, "a", "v1", to)
		return ch
	}
	last := back(one, registry.Condition{Match: two})
	if again := back(one, registry.Condition{}); again != last {
		t.Errorf("a rollback to what is: got %+v, want %+v", again, last)
	}
	back(two, registry.Condition{})
	must(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "v1", registry.Condition{}))
	back(one, registry.Condition{Absent: true})
	history, err := c.TagHistory(t.Context(), alice, "a", "v1", 10)
	must(t, "TagHistory", err)
	var got []registry.Digest
	for _, ch := range history {
		got = append(got, ch.Digest)
	}
	if diff := cmp.Diff([]registry.Digest{one, "", two, one, two, one}, got); diff != "" {
		t.Errorf("history: -want +got\n%s", diff)
	}
}

func testRollbackTagFails(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	one := c.image(t, "a", "one", "v1")
	two := c.image(t, "a", "two", "v1")
	other := c.image(t, "a", "three", "other")
	for _, test := range []struct {
		what string
		repo registry.Name
		tag  registry.Tag
		to   registry.Digest
		cond registry.Condition
		want error
	}{
		{"a repository that is not there", "b", "v1", one, registry.Condition{}, registry.ErrNameUnknown},
		{"a tag that never was", "a", "v2", one, registry.Condition{}, registry.ErrManifestUnknown},
		{"what the tag never was", "a", "v1", other, registry.Condition{}, registry.ErrManifestUnknown},
		{"another value than expected", "a", "v1", one, registry.Condition{Match: one}, registry.ErrPreconditionFailed},
		{"a tag that must not be", "a", "v1", one, registry.Condition{Absent: true}, registry.ErrPreconditionFailed},
	} {
		_, err := c.RollbackTag(t.Context(), alice, test.repo, test.tag, test.to, test.cond)
		wantErr(t, test.what, err, test.want)
	}
	c.checkTag(t, "a", "v1", two)
}

// Without policies all tags stay.
func testRetentionWithoutPolicies(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	d := c.image(t, "a", "x", "v1", "v2", "v3")
	for _, limit := range []int{1, 2, 100} {
		got := pages(t, limit, registry.RetentionDecision.Key, func(p registry.Page[string]) (registry.List[registry.RetentionDecision], error) {
			return c.ExplainRetention(t.Context(), alice, "a", registry.Reference{}, p)
		})
		if len(got) != 3 || got[0].Tag != "v1" || got[0].Digest != d || !got[0].Keep || got[0].Reason == "" {
			t.Errorf("ExplainRetention: got %+v", got)
		}
	}
	list, err := c.ExplainRetention(t.Context(), alice, "a", registry.Reference{Tag: "v2"}, registry.Page[string]{Limit: 10})
	must(t, "ExplainRetention", err)
	if len(list.Items) != 1 || list.Items[0].Tag != "v2" {
		t.Errorf("of one tag: got %+v", list)
	}
	report, err := c.ApplyRetention(t.Context(), alice, "a")
	must(t, "ApplyRetention", err)
	if want := (registry.RetentionReport{Kept: 3}); report != want {
		t.Errorf("ApplyRetention: got %+v, want %+v", report, want)
	}
	_, err = c.ExplainRetention(t.Context(), alice, "nowhere", registry.Reference{}, registry.Page[string]{Limit: 10})
	wantErr(t, "ExplainRetention", err, registry.ErrNameUnknown)
	_, err = c.ApplyRetention(t.Context(), alice, "nowhere")
	wantErr(t, "ApplyRetention", err, registry.ErrNameUnknown)
}
