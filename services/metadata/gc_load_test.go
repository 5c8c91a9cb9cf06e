package metadata

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/metadata/retention"
)

// A store of untagged images, each of two blobs of its own, that may go now, and of
// tagged ones that need nothing of it: SERIES(n) and DIGEST as in [generated].
var garbageRows = []string{
	`INSERT INTO repositories (name, id, created) SELECT 'team/repo' || n, n + 1, 0 FROM SERIES(repos)`,
	`INSERT INTO manifests (repo_id, digest, media_type, size, pushed, artifact_type, payload)
		SELECT n % $repos + 1, DIGEST('m' || n), 'application/vnd.oci.image.manifest.v1+json', 400, 1, '', PAYLOAD FROM SERIES(manifests)`,
	`INSERT INTO tags (repo_id, name, digest) SELECT n % $repos + 1, 'v' || (n / $repos), DIGEST('m' || n) FROM SERIES(manifests) WHERE n % 2 = 1`,
	`INSERT INTO tag_history (repo_id, name, number, at, actor, digest)
		SELECT n % $repos + 1, 'v' || (n / $repos), 1, 0, 'x', DIGEST('m' || n) FROM SERIES(manifests) WHERE n % 2 = 1`,
	`INSERT INTO blobs (pool, digest, size, locator, state, epoch, lease_until, created, verified_at)
		SELECT '', DIGEST('b' || n), 1000, 'l' || n, 0, 0, 0, 0, VERIFIED FROM SERIES(blobs)`,
	`INSERT INTO links (repo_id, digest, pool) SELECT (n / 2) % $repos + 1, DIGEST('b' || n), '' FROM SERIES(blobs)`,
	`INSERT INTO manifest_references (repo_id, manifest, digest, is_manifest, required)
		SELECT (n / 2) % $repos + 1, DIGEST('m' || (n / 2)), DIGEST('b' || n), FALSE, TRUE FROM SERIES(blobs)`,
	`INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT n % $repos + 1, DIGEST('m' || n), 1, '', n, 0, 0 FROM SERIES(manifests)`,
	`INSERT INTO sweeps (name, ended) VALUES ('rows', 4000000000000000), ('copies', 4000000000000000)`,
}

// fillGarbage makes so many manifests, half of them without a tag.
func fillGarbage(t *testing.T, db *sqldb.DB, manifests int) {
	t.Helper()
	if err := db.Migrate(t.Context(), migrations, "migrations"); err != nil {
		t.Fatal(err)
	}
	series := seriesOf(`(WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n + 1 < %d) SELECT n FROM s)`)
	payload := "zeroblob(400)"
	if db.Dialect().Shared != nil {
		series = seriesOf(`(SELECT CAST(n AS BIGINT) AS n FROM generate_series(0, %d - 1) n) s`)
		payload = `decode(repeat('00', 400), 'hex')`
		exec(t, db, `CREATE FUNCTION test_digest(x TEXT) RETURNS BYTEA LANGUAGE SQL IMMUTABLE AS $f$ SELECT '\x01'::bytea || sha256(x::bytea) $f$`)
	}
	sizes := map[string]int{"repos": max(manifests/perRepo, 1), "manifests": manifests, "blobs": 2 * manifests}
	for _, s := range garbageRows {
		for name, n := range sizes {
			s = strings.ReplaceAll(s, "SERIES("+name+")", series(n))
			s = strings.ReplaceAll(s, "$"+name, strconv.Itoa(n))
		}
		s = strings.ReplaceAll(strings.ReplaceAll(s, "DIGEST(", "test_digest("), "PAYLOAD", payload)
		exec(t, db, strings.ReplaceAll(s, "VERIFIED", "0"))
	}
	exec(t, db, "ANALYZE")
}

func onBoth(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Run("sqlite", func(t *testing.T) { test(t, openDatabase(t, t.TempDir())) })
	t.Run("postgres", func(t *testing.T) { test(t, openShared(t)) })
}

func envNumber(t *testing.T, name string, otherwise int) int {
	t.Helper()
	if text := os.Getenv(name); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return otherwise
}

// peakHeap returns a function that ends the watch and returns the most bytes that
// were in use of the heap.
func peakHeap() func() uint64 {
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		var peak uint64
		var m runtime.MemStats
		for {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapInuse)
			select {
			case <-stop:
				done <- peak
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-done }
}

// TestGCRate collects half of GC_MANIFESTS images with their blobs at full speed, and
// prints how many reviews and objects a second that is, and how much memory it took.
// All that may go has to go, and nothing else.
func TestGCRate(t *testing.T) {
	manifests := envNumber(t, "GC_MANIFESTS", 400) &^ 1
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		fillGarbage(t, db, manifests)
		var later atomic.Int64
		begin := time.Now()
		now := func() time.Time { return begin.Add(time.Duration(later.Load())) }
		c, err := Open(t.Context(), db, nil, Options{Now: now, GC: GC{Undo: time.Nanosecond}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		heap := peakHeap()
		var sum Collected
		for range 6 { // manifests, links, copies: each some time after the other
			done, err := c.collectNow(t.Context(), time.Now().Add(24*time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			sum.add(done)
			later.Add(int64(time.Hour))
		}
		took := time.Since(begin)
		objects := sum.Manifests + sum.Links + sum.Blobs + sum.Repositories
		t.Logf("%d rows of blobs: %d reviews in %v, %.0f a second; %d objects removed, %.0f a second; at most %.0f MiB of heap",
			2*manifests, sum.Reviews, took.Round(time.Millisecond), float64(sum.Reviews)/took.Seconds(), objects, float64(objects)/took.Seconds(), float64(heap())/(1<<20))
		half := int64(manifests / 2)
		if sum.Manifests != half || sum.Links != 2*half || sum.Blobs != 2*half {
			t.Errorf("went: %+v, want %d manifests with two blobs each", sum, half)
		}
		for table, want := range map[string]int64{"manifests": half, "links": 2 * half, "blobs": 2 * half, "reviews": 0} {
			var n int64
			if err := db.QueryRow(t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n); err != nil || n != want {
				t.Errorf("%d rows of %s are left, want %d (%v)", n, table, want, err)
			}
		}
	})
}

// noBytes is a blobstore for rows that were made up.
type noBytes struct{ looked, removed atomic.Int64 }

func (b *noBytes) Remove(context.Context, registry.Stored) error { b.removed.Add(1); return nil }

// Verify takes as long as a disk that has to look for a file.
func (b *noBytes) Verify(ctx context.Context, _ registry.Stored, _ int64) error {
	b.looked.Add(1)
	return rest(ctx, time.Millisecond)
}

func (b *noBytes) Copies(context.Context, registry.Pool, *registry.Stored, int) ([]registry.Stored, error) {
	return nil, nil
}

// TestS120PushesWhileCollecting pushes small images from four clients to a store of
// GC_BLOBS rows of blobs, when nothing else is done and while garbage collection,
// scrub and retention are at work, in turns, and prints how long pushes took. All of
// them have to be at work, and nothing fails.
func TestS120PushesWhileCollecting(t *testing.T) {
	manifests, pushes := envNumber(t, "GC_BLOBS", 2000)/2, envNumber(t, "GC_PUSHES", 50)
	onBoth(t, func(t *testing.T, db *sqldb.DB) {
		fillGarbage(t, db, manifests)
		l := &pushLoad{db: db, made: int64(manifests)}
		var took [2][]time.Duration
		for round := range 3 {
			for busy := range 2 {
				took[busy] = append(took[busy], l.round(t, 2*round+busy, pushes, busy == 1)...)
			}
		}
		at := func(l []time.Duration, q float64) time.Duration {
			slices.Sort(l)
			return l[int(q*float64(len(l)-1))].Round(10 * time.Microsecond)
		}
		t.Logf("%d rows of blobs, %d pushes idle: p50 %v p99 %v; %d busy: p50 %v p99 %v largest %v; p99 %.2f of idle; meanwhile %d reviews, %d copies compared, %d removed, %d repositories looked at by retention",
			2*manifests, len(took[0]), at(took[0], 0.5), at(took[0], 0.99), len(took[1]), at(took[1], 0.5), at(took[1], 0.99), at(took[1], 1),
			float64(at(took[1], 0.99))/float64(at(took[0], 0.99)), l.reviewed, l.looked.Load(), l.removed.Load(), l.retained.Load())
	})
}

// pushLoad is a store of generated rows, and what was done in it besides pushes.
type pushLoad struct {
	noBytes

	db       *sqldb.DB
	later    atomic.Int64 // nanoseconds by which time has gone ahead
	made     int64        // reviews that were generated
	reviewed int64
	retained atomic.Int64 // repositories
}

// queued returns how many of the generated reviews are left.
func (l *pushLoad) queued(t *testing.T) (n int64) {
	t.Helper()
	if err := l.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM reviews WHERE pool = '' AND due < 1000000000`).Scan(&n); err != nil {
		t.Error(err)
	}
	return n
}

// keepAll is a policy that has to look at every tag, and keeps it.
func keepAll(t *testing.T) *retention.Policies {
	t.Helper()
	cfg, _, err := config.Parse("x.json", []byte(`{"storage":{"rootDirectory":"/x","retention":{"policies":[
		{"repositories":["**"],"keepTags":[{"patterns":[".*"],"mostRecentlyPushedCount":1000000}]}]}}}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	p, err := retention.Compile(cfg.Storage.Retention, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// round pushes so many images and returns how long each took. If it is busy then
// everything else is at work, too, before it ends; a small store may be done with it
// after the first time.
func (l *pushLoad) round(t *testing.T, round, pushes int, busy bool) []time.Duration {
	t.Helper()
	// Each look at the clock finds that time has gone ahead, so that one thing after
	// the other becomes due.
	o := Options{GC: GC{Undo: time.Nanosecond}, Now: func() time.Time {
		return time.Now().Round(0).Add(time.Duration(l.later.Add(int64(100 * time.Millisecond))))
	}}
	var reaper registry.Reaper
	if busy {
		reaper, o.Scrub, o.Retention = l, Scrub{On: true}, keepAll(t)
	}
	queued := l.queued(t)
	c, err := Open(t.Context(), l.db, reaper, o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var others, clients sync.WaitGroup
	defer func() {
		stop()
		others.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if busy {
		others.Go(func() { l.retain(ctx, t, c) })
	}
	atWork := func() bool {
		return l.looked.Load() > 0 && l.retained.Load() > 0 && l.queued(t) < l.made
	}
	var all [4][]time.Duration
	for i := range all {
		clients.Go(func() {
			r := rand.New(rand.NewPCG(uint64(round), uint64(i)))
			for n := 0; n < pushes/len(all) || busy && n < 1000*pushes && !atWork() && !t.Failed(); n++ {
				begin := time.Now()
				if err := pushSmall(t.Context(), c, fmt.Sprint(round, "/", i, "/", n), r.IntN(1000)); err != nil {
					t.Error(err)
					return
				}
				all[i] = append(all[i], time.Since(begin))
			}
		})
	}
	clients.Wait()
	if busy && !atWork() {
		t.Error("not everything was at work: the figures are of no use")
	}
	l.reviewed += queued - l.queued(t)
	return slices.Concat(all[:]...)
}

// retain applies the policies to all repositories, again and again, at the pace of a
// run.
func (l *pushLoad) retain(ctx context.Context, t *testing.T, c *Catalog) {
	for n := 0; ctx.Err() == nil; n = (n + 1) % 10_000 {
		began := time.Now()
		_, err := c.ApplyRetention(ctx, registry.Actor{ID: "x"}, registry.Name(fmt.Sprint("team/repo", n)))
		switch {
		case errors.Is(err, registry.ErrNameUnknown):
			n = -1
		case err == nil:
			l.retained.Add(1)
			_ = rest(ctx, time.Since(began)*(retentionShare-1)) // as a run rests
		case ctx.Err() == nil:
			t.Errorf("retention: %v", err)
			return
		}
	}
}

// pushSmall pushes an image of a config and a layer.
func pushSmall(ctx context.Context, c *Catalog, name string, repo int) error {
	alice, to := registry.Actor{ID: "alice"}, registry.Name(fmt.Sprint("team/pushed", repo))
	var d [2]registry.Digest
	for i := range d {
		text := fmt.Sprint(i, " of ", name)
		d[i] = digestOf(text)
		if _, err := c.Link(ctx, alice, to, registry.Stored{Digest: d[i], Size: 100, Locator: registry.Locator(text)}); err != nil {
			return fmt.Errorf("linking: %w", err)
		}
	}
	b := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":100},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":100}]}`,
		registry.TypeManifest, d[0], d[1])
	_, err := c.PutManifest(ctx, alice, to, registry.ManifestPut{
		Digest: registry.SHA256.FromBytes(b), MediaType: registry.TypeManifest, Bytes: b, Tags: []registry.Tag{"latest"},
	})
	if err != nil {
		return fmt.Errorf("pushing a manifest: %w", err)
	}
	return nil
}

// TestCollectorRoundTrips: what a batch of reviews costs on PostgreSQL does not grow
// with the number of repositories and manifests in it.
func TestCollectorRoundTrips(t *testing.T) {
	server := pgtest.Shared(t)
	proxy := pgtest.NewProxy(t, server.Port)
	db := openDSN(t, pgtest.DSN(proxy.Port, server.Database(t)))
	var later atomic.Int64
	begin := time.Now()
	o := Options{Follow: time.Hour, GC: GC{Undo: time.Nanosecond}, Now: func() time.Time { return begin.Add(time.Duration(later.Load())) }}
	c, err := Open(t.Context(), db, nil, o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[]}`, registry.TypeIndex)
	m := registry.ManifestPut{Digest: registry.SHA256.FromBytes(body), MediaType: registry.TypeIndex, Bytes: body}
	for i := range reviewBatch {
		if _, err := c.PutManifest(t.Context(), registry.Actor{ID: "alice"}, registry.Name(fmt.Sprint("team/repo", i)), m); err != nil {
			t.Fatal(err)
		}
	}
	later.Store(int64(time.Hour))
	proxy.Took()
	done, err := c.collectSome(t.Context(), true, reviewBatch)
	if err != nil || done.Manifests != reviewBatch {
		t.Fatalf("removed %+v, %v: want %d manifests", done, err, reviewBatch)
	}
	// A statement is described once on a connection before it is used.
	if got := proxy.Took(); len(got) > reviewBatch/2 {
		t.Errorf("%d round trips for %d reviews", len(got), reviewBatch)
		for _, f := range got {
			t.Logf("%q", f.Texts)
		}
	} else {
		t.Logf("%d round trips for %d reviews", len(got), reviewBatch)
	}
}

// A batch that took long is followed by smaller ones, and these by larger ones when
// they take no time.
func TestNextBatch(t *testing.T) {
	n := reviewBatch
	for i, want := range []int{32, 16, 8, 8} {
		if n = nextBatch(n, time.Second); n != want {
			t.Errorf("%d slow batches: %d reviews, want %d", i+1, n, want)
		}
	}
	if got := nextBatch(n, calmBatch); got != n {
		t.Errorf("a batch that took as long as it should: %d reviews next, want %d", got, n)
	}
	for i, want := range []int{16, 32, 64, 64} {
		if n = nextBatch(n, time.Millisecond); n != want {
			t.Errorf("%d fast batches: %d reviews, want %d", i+1, n, want)
		}
	}
}
