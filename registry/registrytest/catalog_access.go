package registrytest

import (
	"testing"

	"github.com/berth-registry/berth/registry"
)

func accessTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ScopeLimits", testScopeLimits},
	}
}

// testScopeLimits asks without rules: a credential is good for what its scope says.
func testScopeLimits(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	scoped := func(grants ...registry.Grant) registry.Actor {
		return registry.Actor{ID: "alice", Scope: append([]registry.Grant{}, grants...)}
	}
	const rw = registry.ActRead | registry.ActCreate
	for _, x := range []struct {
		name string
		a    registry.Actor
		repo registry.Name
		want registry.Actions
		got  registry.Actions
	}{
		{"no scope", alice, "a/b", rw | registry.ActDelete, rw | registry.ActDelete},
		{"no scope, the store", alice, "", registry.ActAdmin, registry.ActAdmin},
		{"empty scope", scoped(), "a/b", rw, 0},
		{"a name", scoped(registry.Grant{Repositories: "a/b", Actions: registry.ActRead}), "a/b", rw, registry.ActRead},
		{"another name", scoped(registry.Grant{Repositories: "a/b", Actions: registry.ActRead}), "a/bc", rw, 0},
		{"below", scoped(registry.Grant{Repositories: "a/**", Actions: rw}), "a/b/c", rw | registry.ActDelete, rw},
		{"a glob", scoped(registry.Grant{Repositories: "a/*-x", Actions: rw}), "a/b-x", rw, rw},
		{"a malformed glob", scoped(registry.Grant{Repositories: "a/[", Actions: rw}), "a/b", rw, 0},
		{"two grants", scoped(registry.Grant{Repositories: "a/b", Actions: registry.ActRead}, registry.Grant{Repositories: "**", Actions: registry.ActCreate}), "a/b", rw, rw},
		{"reading lets list", scoped(registry.Grant{Repositories: "**", Actions: registry.ActRead}), "a", registry.ActList, registry.ActList},
		{"listing lets not read", scoped(registry.Grant{Repositories: "**", Actions: registry.ActList}), "a", rw | registry.ActList, registry.ActList},
		{"the store", scoped(registry.Grant{Repositories: "**", Actions: rw | registry.ActAdmin}), "", registry.ActAdmin, registry.ActAdmin},
		{"the store by a part of it", scoped(registry.Grant{Repositories: "a/**", Actions: registry.ActAdmin}), "", registry.ActAdmin, 0},
	} {
		got, err := c.Allowed(t.Context(), x.a, x.repo, x.want)
		must(t, x.name, err)
		if got != x.got {
			t.Errorf("%s: of %s in %q allowed %s, want %s", x.name, x.want, x.repo, got, x.got)
		}
	}
}
