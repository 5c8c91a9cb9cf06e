package registry_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// TestFindUser: a user is found whoever else there is, also those whose names stand
// between the one asked for and what is a byte before it.
func TestFindUser(t *testing.T) {
	c, system := memory.NewCatalog(memory.CatalogOptions{}), registry.Actor{System: true}
	names := []string{"a", "b", "bob1", "bob10", "bob11", "bob12", "bob2", "zoé", "zoè", "zoè1", "zoè2", "z!", "z", "z1", "日本", "日本1"}
	for _, id := range names {
		if err := c.PutUser(t.Context(), system, registry.User{ID: id, Service: true}); err != nil {
			t.Fatal(id, err)
		}
	}
	for _, id := range names {
		if u, ok, err := registry.FindUser(t.Context(), c, system, id); err != nil || !ok || u.ID != id {
			t.Errorf("%s: %+v, %v, %v", id, u, ok, err)
		}
	}
	for _, id := range []string{"", "A", "bob", "bob3", "bob100", "zz", "zo", "日"} {
		if u, ok, err := registry.FindUser(t.Context(), c, system, id); err != nil || ok || u.ID != "" {
			t.Errorf("%s, who is not there: %+v, %v, %v", id, u, ok, err)
		}
	}
}
