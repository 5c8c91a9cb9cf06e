package metadata

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"modernc.org/sqlite"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

// Shape of generated rows.
const (
	perRepo  = 100 // manifests, each with a tag, when time is measured
	perImage = 10  // links for each manifest
	perBlob  = 4   // repositories that link it
)

// generated returns the statements that fill an empty catalog: SERIES is replaced
// by a table of numbers, DIGEST by a function that makes a digest of a text.
var generated = []string{
	`INSERT INTO repositories (name, id, created) SELECT 'team/repo' || n, n + 1, 0 FROM SERIES(repos)`,
	`INSERT INTO manifests (repo_id, digest, media_type, size, pushed, artifact_type, subject, annotations, payload)
		SELECT n % $repos + 1, DIGEST('m' || n), 'application/vnd.oci.image.manifest.v1+json', 400, 0, 'application/x',
			CASE WHEN n % 10 = 9 THEN DIGEST('m' || (n - $repos)) END, NULL, PAYLOAD FROM SERIES(manifests)`,
	`INSERT INTO tags (repo_id, name, digest) SELECT n % $repos + 1, 'v' || (n / $repos), DIGEST('m' || n) FROM SERIES(manifests)`,
	`INSERT INTO tag_history (repo_id, name, number, at, actor, digest)
		SELECT n % $repos + 1, 'v' || (n / $repos), 1, 0, 'x', DIGEST('m' || n) FROM SERIES(manifests)`,
	`INSERT INTO blobs (pool, digest, size, locator, state, epoch, lease_until, created)
		SELECT '', DIGEST('b' || n), 1000, 'l' || n, 0, 0, 0, 0 FROM SERIES(blobs)`,
	`INSERT INTO links (repo_id, digest, pool) SELECT (n + n / $blobs * 7919) % $repos + 1, DIGEST('b' || (n % $blobs)), '' FROM SERIES(links)`,
	`INSERT INTO manifest_references (repo_id, manifest, digest, is_manifest, required)
		SELECT n % $repos + 1, DIGEST('m' || n), DIGEST('b' || (n % $blobs)), FALSE, FALSE FROM SERIES(manifests)`,
	`INSERT INTO garbage (pool, digest, locator, size, due, attempts) SELECT '', DIGEST('b' || n), 'g' || n, 1, n, 0 FROM SERIES(manifests)`,
	`INSERT INTO events (kind, at, actor) SELECT 'repository', n, '' FROM SERIES(manifests)`,
	`INSERT INTO feed_readers (name, tx, seq, at, state) SELECT 'r' || n, n, 0, 0, '' FROM SERIES(manifests)`,
	`INSERT INTO adoptions (repo, pool, state, stamp, hash, problem_count, problems, updated) SELECT 'team/repo' || n, '', 1, '', '', 0, '[]', 0 FROM SERIES(repos)`,
	`INSERT INTO adopted_manifests (repo, digest) SELECT 'team/repo' || (n % $repos), DIGEST('m' || n) FROM SERIES(manifests)`,
	`INSERT INTO adopted_tags (repo, name, digest) SELECT 'team/repo' || (n % $repos), 'v' || (n / $repos), DIGEST('m' || n) FROM SERIES(manifests)`,
	`INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT n % $repos + 1, DIGEST('m' || n), 1, '', n, n, 0 FROM SERIES(manifests)`,
	`INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch) SELECT 0, DIGEST('b' || n), 3, '', n, 0, 0 FROM SERIES(blobs)`,
	`INSERT INTO trash (repo_id, digest, media_type, pushed, payload, tags, deleted, until, actor)
		SELECT n % $repos + 1, DIGEST('t' || n), 'x', 0, PAYLOAD, '', 0, n, 'x' FROM SERIES(repos)`,
	`INSERT INTO trash_references (repo_id, manifest, digest, is_manifest, required)
		SELECT n % $repos + 1, DIGEST('t' || n), DIGEST('b' || (n % $blobs)), FALSE, FALSE FROM SERIES(repos)`,
	`INSERT INTO deleted_repositories (id, name, created, deleted, until, actor) SELECT 1000000 + n, 'gone' || n, 0, n, n, 'x' FROM SERIES(repos)`,
	`INSERT INTO strays (pool, digest, locator, seen) SELECT '', DIGEST('b' || n), 's' || n, n FROM SERIES(blobs)`,
	`INSERT INTO quotas (name, used) SELECT 'q' || n, 0 FROM SERIES(repos)`,
	`INSERT INTO quota_repositories (quota, repo_id) SELECT 'q' || (n % 10), n + 1 FROM SERIES(repos)`,
	`INSERT INTO quota_content (quota, digest, refs, size) SELECT 'q' || (n % 10), DIGEST('b' || n), 1, 1000 FROM SERIES(blobs)`,
	`INSERT INTO maintenance (repositories, reason, actor, since) SELECT 'none' || n, '', '', 0 FROM SERIES(repos)`,
	`INSERT INTO audit (id, at, actor, source, action, object, status, result, request)
		SELECT '000' || (1000000000000 + n) || '0000000000000000', n, 'user' || (n % 100), '', 'manifest.put', 'r' || n, 201, 'ok', '' FROM SERIES(manifests)`,
	`INSERT INTO open_uploads (id, owner, touched) SELECT 'u' || n, 'user' || (n % 100), n FROM SERIES(manifests)`,
	`INSERT INTO outbox (id, type, at, repo, reference, media_type, actor, address, method, agent)
		SELECT '000' || (1000000000000 + n) || '0000000000000000', 'x', n, 'r' || (n % $repos), 'v', '', '', '', '', '' FROM SERIES(manifests)`,
	`INSERT INTO outbox_sinks (name, tx, seq, at, delivered, dropped, failures, error) SELECT 's' || n, 0, 0, 0, 0, 0, 0, '' FROM SERIES(repos)`,
	`INSERT INTO trusted (id, tool, store, pem, actor, since) SELECT 't' || n, '', '', '', '', 0 FROM SERIES(repos)`,
	`INSERT INTO users (id, origin, service, disabled, member_of, note, created, seen)
		SELECT 'user' || n, '', 0, CASE WHEN n % 100 = 99 THEN 1 ELSE 0 END, '[]', '', 0, 0 FROM SERIES(manifests)`,
	`INSERT INTO credentials (hash, kind, id, owner, label, scopes, claims, agent, created, expires, used)
		SELECT DIGEST('c' || n), CASE WHEN n % 2 = 0 THEN 'key' ELSE 'session' END, 'c' || n, 'user' || (n / 4), '', '[]', '{}', '', n, n, 0 FROM SERIES(manifests)`,
	`INSERT INTO cached_manifests (repo_id, digest, pool, upstream, fetched, used, cost, rank)
		SELECT n % $repos + 1, DIGEST('m' || n), 'p' || (n % 50), 'x', 0, n, 0, n FROM SERIES(manifests)`,
	`INSERT INTO cache_pins (pattern, reason, actor, since) SELECT 'none' || n, '', '', 0 FROM SERIES(repos)`,
	`INSERT INTO pulls (repo_id, digest, tag, actor, at, times)
		SELECT n % $repos + 1, DIGEST('m' || n), 'v' || (n / $repos), 'x', 0, 1 FROM SERIES(manifests)`,
	`INSERT INTO images (repo_id, digest, created, platforms, vendor, layers, waits, signature)
		SELECT n % $repos + 1, DIGEST('m' || n), n * 1000000, CASE WHEN n % 3 = 0 THEN ',linux/arm64,' ELSE ',linux/amd64,' END, 'vendor' || (n % 7),
			substr(DIGEST('b' || (n % $blobs)), 2, 16), CASE WHEN n % 10 = 0 THEN DIGEST('b' || (n % $blobs)) END, 'sha256-' || n || '.sig' FROM SERIES(manifests)`,
	`INSERT INTO image_configs (repo_id, digest, config) SELECT n % $repos + 1, DIGEST('m' || n), '{}' FROM SERIES(manifests)`,
	`INSERT INTO preferences (actor, kind, repo_id, since) SELECT 'user' || (n % 100), 1 + (n / 100) % 2, n % $repos + 1, 0 FROM SERIES(repos)`,
	`INSERT INTO moved_blobs (pool, digest, old_locator, locator) SELECT '', DIGEST('b' || n), 'l' || n, 'n' || n FROM SERIES(manifests)`,
}

// fill makes rows for so many manifests in so many repositories, which divide them.
func fill(t testing.TB, db *sqldb.DB, manifests, repos int) {
	t.Helper()
	series := seriesOf(`(WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n + 1 < %d) SELECT n FROM s)`)
	digest, payload := "test_digest", "zeroblob(400)"
	if db.Dialect().Shared != nil {
		series = seriesOf(`(SELECT CAST(n AS BIGINT) AS n FROM generate_series(0, %d - 1) n) s`)
		digest, payload = "test_digest", `decode(repeat('00', 400), 'hex')`
		exec(t, db, `CREATE FUNCTION test_digest(x TEXT) RETURNS BYTEA LANGUAGE SQL IMMUTABLE AS $f$ SELECT '\x01'::bytea || sha256(x::bytea) $f$`)
	}
	links := manifests * perImage
	sizes := map[string]int{"repos": repos, "manifests": manifests, "blobs": links / perBlob, "links": links}
	for _, s := range generated {
		for name, n := range sizes {
			s = strings.ReplaceAll(s, "SERIES("+name+")", series(n))
			s = strings.ReplaceAll(s, "$"+name, strconv.Itoa(n))
		}
		s = strings.ReplaceAll(strings.ReplaceAll(s, "DIGEST(", digest+"("), "PAYLOAD", payload)
		exec(t, db, s)
	}
	exec(t, db, "ANALYZE")
}

func seriesOf(form string) func(n int) string {
	return func(n int) string { return fmt.Sprintf(form, n) }
}

func exec(t testing.TB, db *sqldb.DB, statement string) {
	t.Helper()
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		if err := tx.LockAll(); err != nil {
			return err
		}
		_, err := tx.Exec(statement)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func init() {
	sqlite.MustRegisterDeterministicScalarFunction("test_digest", 1, func(_ *sqlite.FunctionContext, args []driver.Value) (driver.Value, error) {
		sum := sha256.Sum256(fmt.Append(nil, args[0]))
		return append([]byte{algSHA256}, sum[:]...), nil
	})
}

// digestOf is the digest that fill makes of a text.
func digestOf(text string) registry.Digest { return registry.SHA256.FromString(text) }

// openShared opens a new database of the PostgreSQL server of the tests.
func openShared(t testing.TB) *sqldb.DB {
	t.Helper()
	_, dsn := pgtest.Shared(t).Schema(t)
	return openDSN(t, dsn)
}

func openDSN(t testing.TB, dsn string) *sqldb.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), postgres.Options{
		DSN: func() (config.Secret, error) { return config.Secret(dsn), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestGeneratedRows reads a catalog of generated rows with four clients and no
// cache, and shows how long that takes. GENERATED_MANIFESTS says how many; without
// it the test does not run.
func TestGeneratedRows(t *testing.T) {
	manifests, err := strconv.Atoi(os.Getenv("GENERATED_MANIFESTS"))
	if err != nil {
		t.Skip("NOT RUN: needs minutes and gigabytes: make generated-rows")
	}
	for name, open := range map[string]func(testing.TB) *sqldb.DB{
		"sqlite":   func(t testing.TB) *sqldb.DB { return openDatabase(t, t.TempDir()) },
		"postgres": openShared,
	} {
		t.Run(name, func(t *testing.T) {
			db := open(t)
			if err := db.Migrate(t.Context(), migrations, "migrations"); err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			fill(t, db, manifests, manifests/perRepo)
			t.Logf("%d manifests, %d links made in %v", manifests, manifests*perImage, time.Since(begin).Round(time.Second))
			measureReads(t, db, manifests)
		})
	}
}

func measureReads(t *testing.T, db *sqldb.DB, manifests int) {
	c, err := Open(t.Context(), db, nil, Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.rows.on = false // nothing comes from memory
	repos, blobs := manifests/perRepo, manifests*perImage/perBlob
	alice := registry.Actor{ID: "alice"}
	repo := func(n int) registry.Name { return registry.Name(fmt.Sprint("team/repo", n%repos)) }
	ctx := context.Background()
	for _, read := range []struct {
		name string
		do   func(n int) error
	}{
		{"manifest by tag", func(n int) error {
			_, err := c.Manifest(ctx, alice, repo(n), registry.ManifestQuery{Ref: registry.Reference{Tag: registry.Tag(fmt.Sprint("v", n/repos))}})
			return err
		}},
		{"manifest by digest", func(n int) error {
			_, err := c.Manifest(ctx, alice, repo(n), registry.ManifestQuery{Ref: registry.Reference{Digest: digestOf(fmt.Sprint("m", n))}})
			return err
		}},
		{"blob", func(n int) error {
			_, err := c.Blob(ctx, alice, repo(n%blobs), digestOf(fmt.Sprint("b", n%blobs)))
			return err
		}},
		{"tags of a page of 100", func(n int) error {
			_, err := c.Tags(ctx, alice, repo(n), registry.Page[registry.Tag]{Limit: 100})
			return err
		}},
		{"repositories, a page of 100", func(n int) error {
			_, err := c.Repositories(ctx, alice, registry.Page[registry.Name]{After: repo(n), Limit: 100})
			return err
		}},
		{"referrers", func(n int) error {
			_, err := c.Referrers(ctx, alice, repo(n), digestOf(fmt.Sprint("m", n)), "", registry.Page[registry.Digest]{Limit: 100})
			return err
		}},
	} {
		took := fourClients(t, manifests, read.do)
		at := func(q float64) time.Duration { return took[int(q*float64(len(took)-1))].Round(10 * time.Microsecond) }
		t.Logf("%-28s p50 %8v  p99 %8v  largest %8v", read.name, at(0.5), at(0.99), at(1))
	}
}

// fourClients reads random things with four clients and returns how long each
// read took, sorted.
func fourClients(t *testing.T, manifests int, read func(n int) error) []time.Duration {
	const each = 2500
	var (
		all [4][]time.Duration
		wg  sync.WaitGroup
	)
	for i := range all {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(i)))
			for range each {
				begin := time.Now()
				if err := read(rnd.IntN(manifests)); err != nil {
					t.Error(err)
					return
				}
				all[i] = append(all[i], time.Since(begin))
			}
		})
	}
	wg.Wait()
	took := slices.Concat(all[:]...)
	slices.Sort(took)
	if len(took) == 0 {
		t.Fatal("nothing was read")
	}
	return took
}
