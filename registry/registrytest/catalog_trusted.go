package registrytest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func trustedTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Trusted", testTrusted},
		{"Parents", testParents},
	}
}

func testTrusted(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	list := func() []registry.TrustedKey {
		t.Helper()
		all, err := c.Trusted(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if all := list(); len(all) != 0 {
		t.Errorf("somebody is trusted: %v", all)
	}
	var want []registry.TrustedKey
	for i := range registry.MaxTrusted {
		k := registry.TrustedKey{Tool: registry.ToolNotation, Store: "ca", PEM: fmt.Sprint(i), Actor: alice.ID}
		for range 2 {
			if err := c.AddTrusted(ctx, alice, k); err != nil {
				t.Fatal(err)
			}
		}
		k.ID = registry.TrustedID(k)
		want = append(want, k)
	}
	slices.SortFunc(want, func(a, b registry.TrustedKey) int { return strings.Compare(a.ID, b.ID) })
	all := list()
	for i := range all {
		all[i].Since = 0
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := c.AddTrusted(ctx, alice, registry.TrustedKey{Tool: "cosign", PEM: "x"}); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("one too many: %v", err)
	}
	if err := c.RemoveTrusted(ctx, alice, want[5].ID); err != nil {
		t.Error(err)
	}
	if err := c.RemoveTrusted(ctx, alice, want[5].ID); !errors.Is(err, registry.ErrParameterInvalid) {
		t.Errorf("one that is not there: %v", err)
	}
	if err := c.AddTrusted(ctx, alice, registry.TrustedKey{Tool: "cosign", PEM: strings.Repeat("x", registry.MaxTrustedPEM+1)}); !errors.Is(err, registry.ErrTooLarge) {
		t.Errorf("one that is too large: %v", err)
	}
	if all := list(); len(all) != registry.MaxTrusted-1 {
		t.Errorf("%d keys are left", len(all))
	}
}

func testParents(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config := []byte("{}")
	c.link(t, "a", config)
	child := imageOf(config, config)
	d := c.put(t, "a", registry.TypeManifest, child)
	parents := func(d registry.Digest, want ...registry.Digest) {
		t.Helper()
		got, err := c.Parents(t.Context(), alice, "a", d)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	parents(d)
	one := c.put(t, "a", registry.TypeIndex, indexOf(descriptor(registry.TypeManifest, child)))
	two := c.put(t, "a", registry.TypeIndex, indexOf(descriptor(registry.TypeManifest, child), descriptor(registry.TypeManifest, child)))
	parents(d, one, two)
	parents(sha256of(config)) // a blob of an image
	if _, err := c.Parents(t.Context(), alice, "b", d); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("in no repository: %v", err)
	}
}
