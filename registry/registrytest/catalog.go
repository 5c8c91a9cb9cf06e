package registrytest

import (
	"slices"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// CatalogOptions are what a test asks of a catalog.
type CatalogOptions struct {
	// AllowSparse accepts manifests whose content is missing.
	AllowSparse bool
	// Pools the blobs may be in, besides "".
	Pools []registry.Pool
	// Reaper is told of copies nobody needs any more, soon: no grace time for a
	// copy that never was in use. nil if the test does not care.
	Reaper registry.Reaper
}

// CatalogBackend is an implementation of [registry.Catalog] to test. It must
// allow every actor everything.
type CatalogBackend struct {
	// New returns an empty catalog. It cleans up by t.Cleanup.
	New func(t *testing.T, o CatalogOptions) registry.Catalog
	// Reopen stops c as a crash would and opens the same data again. nil if the
	// backend can't.
	Reopen func(t *testing.T, c registry.Catalog) registry.Catalog
	// Cannot names the tests the backend can't pass. They are skipped.
	Cannot []string
}

// Catalog tests that b keeps the contract of [registry.Catalog]. It must not
// run in parallel with other tests: at its end it looks for goroutines left
// behind.
func Catalog(t *testing.T, b CatalogBackend) {
	leaked := watchGoroutines()
	runAll(t, b.Cannot, slices.Concat(repositoryTests()), func(t *testing.T) CatalogBackend { return b })
	leaked(t)
}

// alice may do everything.
var alice = registry.Actor{ID: "alice", Groups: []string{"dockers"}}
