package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

// A database that would not keep what it is told is refused with what to do.
func TestUnfitDatabases(t *testing.T) {
	server := pgtest.Shared(t)
	latin := server.Database(t, "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
	closed := server.Database(t)
	server.MustSQL(t, closed, "ALTER SCHEMA public OWNER TO postgres; REVOKE CREATE ON SCHEMA public FROM PUBLIC, pg_database_owner, "+pgtest.Role)
	for _, tt := range []struct {
		what string
		o    postgres.Options
		want string
	}{
		{"encoding", postgres.Options{DSN: fixed(server.DSN(latin))}, "has encoding LATIN1"},
		{"no fsync", postgres.Options{DSN: fixed(server.DSN(server.Database(t))), Durable: true}, "fsync = on"},
		{"no rights", postgres.Options{DSN: fixed(server.DSN(closed))}, "may not make tables in schema public"},
		{"no schema", postgres.Options{DSN: fixed(server.DSN(closed) + "&search_path=nowhere")}, "search_path"},
	} {
		db, err := postgres.Open(t.Context(), tt.o)
		if err == nil {
			db.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want one with %q", tt.what, err, tt.want)
		}
	}
}

// Names follow each other by their bytes, also where the language of the
// database orders them like a dictionary.
func TestOrderIsBytewise(t *testing.T) {
	server := pgtest.Shared(t)
	db := server.Database(t, "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0")
	if got := server.MustSQL(t, db, "SELECT 'a' < 'B'"); got != "t" {
		t.Fatal("void: this database orders by bytes anyway")
	}
	c := openCatalog(t, server.DSN(db), metadata.Options{})
	config := blob("config")
	want := []registry.Tag{"1", "B", "_", "a", "a-b", "a.b", "aB", "ab", "b"}
	for i := range want {
		link(t, c, "a", config)
		put(t, c, "a", manifest(config, "x", want[len(want)-1-i]))
	}
	var got []registry.Tag
	for {
		p := registry.Page[registry.Tag]{Limit: 2}
		if len(got) > 0 {
			p.After = got[len(got)-1]
		}
		list, err := c.Tags(t.Context(), alice, "a", p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, list.Items...)
		if !list.More {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// Replicas that start at the same moment make one schema.
func TestReplicasMigrateTogether(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := server.DSN(server.Database(t))
	steps := fstest.MapFS{}
	for n := 1; n <= 5; n++ {
		steps[fmt.Sprintf("m/%04d_x.sql", n)] = &fstest.MapFile{Data: fmt.Appendf(nil, "CREATE TABLE t%d (x TEXT);\nCREATE INDEX i%d ON t%d (x);\n", n, n, n)}
	}
	var wg sync.WaitGroup
	for range 8 {
		db := openDatabase(t, dsn)
		wg.Go(func() {
			if err := db.Migrate(t.Context(), steps, "m"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var n int
	if err := openDatabase(t, dsn).QueryRow(t.Context(), "SELECT COUNT(*) FROM schema_versions").Scan(&n); err != nil || n != 5 {
		t.Errorf("%d migrations are recorded (%v), want 5", n, err)
	}
}

// Of two creators of one identity, one makes it and the other sees it: with many
// processes that link the same content into the same new repositories.
func TestCreatorsRace(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := server.DSN(server.Database(t))
	catalogs := []*metadata.Catalog{openCatalog(t, dsn, metadata.Options{}), openCatalog(t, dsn, metadata.Options{})}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				repo := registry.Name(fmt.Sprint("repo", i))
				s := blob(fmt.Sprint("layer ", i))
				s.Locator = registry.Locator(fmt.Sprint("copy of writer ", w))
				c := catalogs[w%2]
				kept, err := c.Link(t.Context(), alice, repo, s)
				if err != nil {
					t.Errorf("Link: %v", err)
					return
				}
				if b, err := c.Blob(t.Context(), alice, repo, s.Digest); err != nil || b.Stored != kept {
					t.Errorf("Blob: got %v (%v), want %v", b.Stored, err, kept)
				}
			}
		})
	}
	wg.Wait()
	got, err := catalogs[0].Repositories(t.Context(), alice, registry.Page[registry.Name]{Limit: 100})
	if err != nil || len(got.Items) != 20 {
		t.Errorf("there are %d repositories (%v), want 20", len(got.Items), err)
	}
}

// Pushes and deletes of what they need, in two processes: neither a manifest
// without its config or child, nor an error that is not one of the two that fit.
func TestDeletesRacePushes(t *testing.T) {
	server := pgtest.Shared(t)
	dsn := server.DSN(server.Database(t))
	one, two := openCatalog(t, dsn, metadata.Options{}), openCatalog(t, dsn, metadata.Options{})
	for i := range 60 {
		repo := registry.Name(fmt.Sprint("r", i%3))
		config := blob(fmt.Sprint("config ", i))
		link(t, one, repo, config)
		m := manifest(config, "x", "latest")
		errs := make(chan error, 2)
		go func() { _, err := one.PutManifest(t.Context(), alice, repo, m); errs <- err }()
		go func() { errs <- two.Unlink(t.Context(), alice, repo, config.Digest) }()
		for range 2 {
			if err := <-errs; err != nil && !errors.Is(err, registry.ErrManifestBlobUnknown) && !errors.Is(err, registry.ErrInUse) {
				t.Errorf("round %d: %v", i, err)
			}
		}
		_, blobErr := one.Blob(t.Context(), alice, repo, config.Digest)
		_, manifestErr := two.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: m.Digest}})
		if (blobErr == nil) != (manifestErr == nil) {
			t.Errorf("round %d: the config: %v, the manifest: %v", i, blobErr, manifestErr)
		}
	}
}

// The whole suite through PgBouncer in transaction mode, with fewer sessions than
// the catalog has connections.
func TestCatalogThroughPgBouncer(t *testing.T) {
	server := pgtest.Shared(t)
	port := server.Bouncer(t, 3)
	registrytest.Catalog(t, registrytest.CatalogBackend{
		New: func(t *testing.T, o registrytest.CatalogOptions) registry.Catalog {
			dsn := pgtest.DSN(port, server.Database(t))
			db, err := postgres.Open(t.Context(), postgres.Options{DSN: fixed(dsn)})
			if err != nil {
				t.Fatal(err)
			}
			c, err := metadata.Open(t.Context(), db, o.Reaper, metadata.Options{
				Pools: o.Pools, AllowSparse: o.AllowSparse, AllowWrongSizes: o.AllowWrongSizes, Access: o.Access, Search: true,
			}, discard)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := errors.Join(c.Close(), db.Close()); err != nil {
					t.Error(err)
				}
			})
			return c
		},
	})
}
