package metadata_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// rebuilt closes k and opens the catalog that is rebuilt from its journal, with the
// same options.
func (k *keeper) rebuilt(t *testing.T) *keeper {
	t.Helper()
	metadata.WriteJournal(t, k.Catalog)
	k.close(t)
	at := onSQLite(t)
	db := at.open(t)
	_, err := metadata.Rebuild(t.Context(), db, k.blobs, func(f registry.Finding) { t.Errorf("finding %v", f) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	return &keeper{blobs: k.blobs, clock: k.clock, store: openStore(t, at, k.options, k.blobs)}
}

// Deleted repositories that the last snapshot has can be brought back after a rebuild,
// and go when their time has come; one that was brought back before can be deleted again.
func TestRebuildOfDeletedRepositories(t *testing.T) {
	k := newKeeper(t, onSQLite(t), metadata.Options{})
	ctx := t.Context()
	for _, repo := range []registry.Name{"gone", "restored", "later"} {
		k.push(t, repo, string(repo), "v1")
		if err := k.DeleteRepository(ctx, alice, repo); err != nil {
			t.Fatal(err)
		}
	}
	metadata.WriteJournal(t, k.Catalog) // with a snapshot
	if err := k.Undelete(ctx, alice, "restored", registry.Reference{}); err != nil {
		t.Fatal(err)
	}
	k = k.rebuilt(t)
	if err := k.Undelete(ctx, alice, "later", registry.Reference{}); err != nil {
		t.Errorf("Undelete after the rebuild: %v", err)
	}
	for _, repo := range []registry.Name{"restored", "later"} {
		if tagged(t, k, repo, "v1") == "" {
			t.Errorf("%s has no tag", repo)
		}
	}
	if err := k.DeleteRepository(ctx, alice, "restored"); err != nil {
		t.Errorf("deleting what was restored before the rebuild: %v", err)
	}
	if _, err := metadata.CollectAll(ctx, k.Catalog, true); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	if diff := cmp.Diff([]string{"config of later", "layer of later"}, k.copies(t)); diff != "" {
		t.Errorf("stored bytes: -want +got\n%s", diff)
	}
	k.sound(t)
}

// Quotas count what a rebuilt catalog has, not what its snapshot had.
func TestRebuildOfQuotas(t *testing.T) {
	k := newKeeper(t, onSQLite(t), metadata.Options{Limits: metadata.Limits{Quotas: []metadata.Quota{{Repositories: globs(t, "**"), Bytes: 1 << 20}}}})
	k.push(t, "a", "before", "v1")
	k.push(t, "a", "deleted", "v2")
	metadata.WriteJournal(t, k.Catalog)
	if err := k.DeleteManifest(t.Context(), alice, "a", tagged(t, k, "a", "v2")); err != nil {
		t.Fatal(err)
	}
	k.push(t, "a", "behind", "v3")
	k.push(t, "b", "behind", "v3")
	k = k.rebuilt(t)
	k.clock.move(time.Second)
	k.push(t, "a", "after", "v4")
	k.sound(t)
}
