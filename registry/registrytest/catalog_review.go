package registrytest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// testRulesAreTold: administrators, and nobody else, are told the rules, what decides,
// and what other rules would change, which changes nothing.
func testRulesAreTold(t *testing.T, b CatalogBackend) {
	p := tenants(t)
	c := b.open(t, CatalogOptions{Access: p})
	ctx := t.Context()
	for _, repo := range []registry.Name{"a/x", "b/x"} {
		data := note("x")
		_, err := c.PutManifest(ctx, registry.Actor{System: true}, repo, registry.ManifestPut{Digest: sha256of(data), MediaType: registry.TypeIndex, Bytes: data, Tags: []registry.Tag{"t"}})
		must(t, "PutManifest", err)
	}
	must(t, "PutUser", c.PutUser(ctx, alice, registry.User{ID: "robot", Service: true, Groups: []string{"ci"}}))

	got, err := c.AccessRules(ctx, alice)
	must(t, "AccessRules", err)
	if diff := cmp.Diff(p.Rules(), got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	d, err := c.ExplainAccess(ctx, alice, anna, "a/x", registry.Reference{Tag: "t"}, registry.ActDelete)
	if must(t, "ExplainAccess", err); !d.Allowed || d.Rule != "repositories.a/**.policies[0]" || d.Because == "" {
		t.Errorf("anna in a/x: %+v", d)
	}
	if d, err = c.ExplainAccess(ctx, alice, registry.Actor{}, "a/x", registry.Reference{}, registry.ActRead); err != nil || d.Allowed || d.Rule != "" {
		t.Errorf("nobody in a/x: %+v, %v", d, err)
	}

	next := *p.Rules()
	next.Repositories = map[string]registry.RepositoryRules{"b/**": p.Rules().Repositories["b/**"], "a/**": {Policies: []registry.AccessPolicy{{Groups: []string{"ci"}, Actions: []string{"read"}}}}}
	r, err := c.ReviewAccess(ctx, alice, &next)
	must(t, "ReviewAccess", err)
	want := registry.AccessReview{Users: 1, Repositories: 2, Changes: []registry.AccessChange{
		{Kind: registry.SubjectGroup, Name: "ci", Gains: registry.ActRead, Repositories: 1, Examples: []registry.Name{"a/x"}},
		{Kind: registry.SubjectUser, Name: "anna", Loses: registry.ActRead | registry.ActCreate | registry.ActUpdate | registry.ActDelete, Repositories: 1, Examples: []registry.Name{"a/x"}},
		{Kind: registry.SubjectUser, Name: "robot", Gains: registry.ActRead, Repositories: 1, Examples: []registry.Name{"a/x"}},
	}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("review (-want +got):\n%s", diff)
	}
	if may, err := c.Allowed(ctx, anna, "a/x", registry.ActDelete); err != nil || may != registry.ActDelete {
		t.Errorf("a review changed what anna may do: %s, %v", may, err)
	}
	bad := registry.AccessRules{Repositories: map[string]registry.RepositoryRules{"[": {}}}
	if _, err := c.ReviewAccess(ctx, alice, &bad); !errors.Is(err, registry.ErrParameterInvalid) {
		t.Errorf("rules that are none: %v", err)
	}
	for who, a := range map[string]registry.Actor{"anna": anna, "nobody": {}} {
		want := error(registry.ErrDenied)
		if a.Anonymous() {
			want = registry.ErrUnauthorized
		}
		_, err1 := c.AccessRules(ctx, a)
		_, err2 := c.ExplainAccess(ctx, a, a, "a/x", registry.Reference{}, registry.ActRead)
		_, err3 := c.ReviewAccess(ctx, a, nil)
		for i, err := range []error{err1, err2, err3} {
			if !errors.Is(err, want) {
				t.Errorf("%s, call %d: %v", who, i, err)
			}
		}
	}
}
