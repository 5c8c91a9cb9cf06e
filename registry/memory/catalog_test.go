package memory_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// failOnce is a Reaper whose first Remove fails.
type failOnce struct {
	registry.Reaper
	asked []registry.Locator
}

func (r *failOnce) Remove(_ context.Context, s registry.Stored) error {
	r.asked = append(r.asked, s.Locator)
	if len(r.asked) == 1 {
		return errors.New("not now")
	}
	return nil
}

func TestRemovalIsTriedAgain(t *testing.T) {
	r := &failOnce{}
	c := memory.NewCatalog(memory.CatalogOptions{Reaper: r})
	for _, at := range []registry.Locator{"1", "2", "3", "3"} {
		s := registry.Stored{Digest: registry.SHA256.FromString("x"), Size: 1, Locator: at}
		got, err := c.Link(t.Context(), registry.Actor{}, "a", s)
		if err != nil || got.Locator != "1" {
			t.Fatalf("Link: got %+v, error %v, want locator 1", got, err)
		}
	}
	if diff := cmp.Diff([]registry.Locator{"2", "2", "3", "3"}, r.asked); diff != "" {
		t.Errorf("asked to remove: -want +got\n%s", diff)
	}
}

// The two together, as the gateway uses them.
func TestSecondCopyLeavesTheStore(t *testing.T) {
	b := memory.NewBlobs()
	c := memory.NewCatalog(memory.CatalogOptions{Reaper: b})
	var first registry.Stored
	for i := range 3 {
		u, err := b.Start(t.Context(), "", registry.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		s, err := b.Commit(t.Context(), u, nil, registry.SHA256.FromString(""))
		if err != nil {
			t.Fatal(err)
		}
		kept, err := c.Link(t.Context(), registry.Actor{}, "a", s)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = s
		}
		if kept != first {
			t.Errorf("Link: got %+v, want the first copy %+v", kept, first)
		}
	}
	got, err := b.Copies(t.Context(), "", nil, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]registry.Stored{first}, got); diff != "" {
		t.Errorf("copies left: -want +got\n%s", diff)
	}
}
