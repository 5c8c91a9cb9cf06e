package metadata

import (
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestSearchOfNewRepositories: a repository that became visible between the look at
// names and the search, with a number below the last that was seen, is nobody's who
// may not read it. On PostgreSQL numbers are not in the order of commits.
func TestSearchOfNewRepositories(t *testing.T) {
	c := newCatalog(t)
	root := registry.Actor{ID: "root"}
	text := []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[]}`)
	for _, repo := range []registry.Name{"a", "secret", "z"} {
		put := registry.ManifestPut{Digest: registry.SHA256.FromBytes(text), MediaType: registry.TypeIndex, Bytes: text, Tags: []registry.Tag{"v1"}}
		if _, err := c.PutManifest(t.Context(), root, repo, put); err != nil {
			t.Fatal(err)
		}
	}
	late := &latecomer{}
	c.access = late
	found, err := c.SearchImages(t.Context(), registry.Actor{ID: "user"}, registry.ImageQuery{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Items) != 2 || found.Items[0].Repository != "a" || found.Items[1].Repository != "z" || !late.asked {
		t.Errorf("found %+v", found.Items)
	}
}

// latecomer hides a repository, but not at the first look.
type latecomer struct {
	pusher
	asked bool
}

func (l *latecomer) allow(_ registry.Actor, repo registry.Name, _ registry.Actions) error {
	if repo == "secret" {
		if l.asked {
			return registry.ErrDenied
		}
		l.asked = true
	}
	return nil
}

func (l *latecomer) viewer(registry.Actor) viewer { return everything{} }

// everything may be seen.
type everything struct{}

func (everything) Sees(registry.Name) bool                       { return true }
func (everything) Next(from registry.Name) (registry.Name, bool) { return from, true }
