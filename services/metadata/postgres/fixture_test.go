package postgres_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

var discard = slog.New(slog.DiscardHandler)

var alice = registry.Actor{ID: "alice"}

func fixed(dsn string) func() (config.Secret, error) {
	return func() (config.Secret, error) { return config.Secret(dsn), nil }
}

// openDatabase opens a database that is closed when t ends.
func openDatabase(t testing.TB, dsn string) *sqldb.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{DSN: fixed(dsn)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() }) // some tests end with a server that is gone
	return db
}

// openCatalog opens a catalog that is closed when t ends.
func openCatalog(t testing.TB, dsn string, o metadata.Options) *metadata.Catalog {
	t.Helper()
	c, err := metadata.Open(t.Context(), openDatabase(t, dsn), nil, o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// blob is made-up content that is not stored anywhere: the catalog never looks.
func blob(text string) registry.Stored {
	return registry.Stored{Digest: registry.SHA256.FromString(text), Size: int64(len(text)), Locator: registry.Locator("copy of " + text)}
}

// manifest returns one that differs by note, and needs nothing but a config.
func manifest(config registry.Stored, note string, tags ...registry.Tag) registry.ManifestPut {
	b, err := json.Marshal(map[string]any{
		"schemaVersion": 2,
		"config":        registry.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: config.Digest, Size: config.Size},
		"layers":        []registry.Descriptor{},
		"annotations":   map[string]string{"note": note},
	})
	if err != nil {
		panic(err)
	}
	return registry.ManifestPut{Digest: registry.SHA256.FromBytes(b), MediaType: registry.TypeManifest, Bytes: b, Tags: tags}
}

func link(t testing.TB, c registry.Catalog, repo registry.Name, s registry.Stored) {
	t.Helper()
	if _, err := c.Link(t.Context(), alice, repo, s); err != nil {
		t.Fatalf("Link: %v", err)
	}
}

func put(t testing.TB, c registry.Catalog, repo registry.Name, m registry.ManifestPut) {
	t.Helper()
	if _, err := c.PutManifest(t.Context(), alice, repo, m); err != nil {
		t.Fatalf("PutManifest: %v", err)
	}
}

// tagged returns what a tag points to, "" if there is no such tag.
func tagged(t testing.TB, c registry.Catalog, repo registry.Name, tag registry.Tag) registry.Digest {
	t.Helper()
	m, err := c.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}, NoBytes: true})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return ""
	}
	if err != nil {
		t.Fatalf("Manifest: %v", err)
	}
	return m.Digest
}
