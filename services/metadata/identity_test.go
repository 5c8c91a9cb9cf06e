package metadata_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// Of a repository that has gone, deleted or emptied, nothing is left that is known by
// its identity.
func TestNothingIsLeftOfARepository(t *testing.T) { onEach(t, testNothingIsLeftOfARepository) }

func testNothingIsLeftOfARepository(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{Limits: quota(t, 1<<20, "**")})
	ctx := t.Context()
	k.push(t, "deleted", "x", "v1")
	k.push(t, "emptied", "y")
	for _, repo := range []registry.Name{"deleted", "emptied"} {
		if _, err := k.TogglePreference(ctx, alice, repo, registry.Starred); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.DeleteRepository(ctx, alice, "deleted"); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	for _, table := range []string{"repositories", "deleted_repositories", "tag_history", "pulls", "preferences", "quota_repositories", "quota_content", "reviews"} {
		var n int
		if err := k.db.QueryRow(ctx, `SELECT COUNT(*) FROM `+table).Scan(&n); err != nil || n > 0 {
			t.Errorf("%d rows are left in %s (%v)", n, table, err)
		}
	}
}
