package metadata

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	rules "github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/sqldb"
)

// searchCase is a search of generated rows.
type searchCase struct {
	name    string
	queries int  // of it, at most
	all     bool // it reads all tags, or all repositories: the answer is about all of them
	run     func(ctx context.Context, c *Catalog, a registry.Actor) (total int, err error)
}

const allDetails = registry.DetailContent | registry.DetailPulls | registry.DetailReferrers

func searchCases(manifests, repos int) []searchCase {
	images := func(q registry.ImageQuery) func(context.Context, *Catalog, registry.Actor) (int, error) {
		q.Limit, q.Detail = 10, allDetails
		return func(ctx context.Context, c *Catalog, a registry.Actor) (int, error) {
			found, err := c.SearchImages(ctx, a, q)
			if err == nil && found.Total > q.Offset && len(found.Items) == 0 {
				err = fmt.Errorf("none of %d", found.Total)
			}
			return found.Total, err
		}
	}
	repositories := func(q registry.RepositoryQuery) func(context.Context, *Catalog, registry.Actor) (int, error) {
		q.Limit, q.Detail, q.NewestImage, q.Content = 10, allDetails, true, true
		return func(ctx context.Context, c *Catalog, a registry.Actor) (int, error) {
			found, err := c.SearchRepositories(ctx, a, q)
			return found.Total, err
		}
	}
	layer := digestOf("b17")
	one := registry.Name("team/repo3")
	yes := true
	return []searchCase{
		{"images by name", 8, true, images(registry.ImageQuery{})},
		{"images by name, from the middle", 8, true, images(registry.ImageQuery{Offset: manifests / 2})},
		{"images by update", 8, true, images(registry.ImageQuery{Order: registry.ByUpdate})},
		{"images by downloads", 8, true, images(registry.ImageQuery{Order: registry.ByDownloads})},
		{"images of arm64, signed", 8, true, images(registry.ImageQuery{Filter: registry.SearchFilter{Arch: []string{"arm64"}, Signed: true}})},
		{"images of arm64, by update", 8, true, images(registry.ImageQuery{Order: registry.ByUpdate, Filter: registry.SearchFilter{OS: []string{"linux"}, Arch: []string{"arm64"}}})},
		{"images with a tag like", 8, true, images(registry.ImageQuery{TagPart: "1"})},
		{"images of a repository", 8, false, images(registry.ImageQuery{Repository: one, Order: registry.ByUpdate})},
		{"images with a tag's beginning", 8, false, images(registry.ImageQuery{Repository: one, TagPrefix: "v1"})},
		{"an image", 8, false, images(registry.ImageQuery{Repository: one, Ref: registry.Reference{Tag: "v0"}})},
		{"an image by digest", 8, false, images(registry.ImageQuery{Repository: one, Ref: registry.Reference{Digest: digestOf("m3")}})},
		{"images with a layer", 8, false, images(registry.ImageQuery{Content: layer.String()})},
		{"images with a digest like", 8, false, images(registry.ImageQuery{Content: layer.String()[:13]})},
		{"images by digests", 8, false, images(registry.ImageQuery{Manifests: []registry.Digest{digestOf("m1"), digestOf("m2"), digestOf("m3")}})},
		{"bases", 8, false, images(registry.ImageQuery{BaseOf: []registry.Digest{layer, digestOf("b18")}, Except: digestOf("m1")})},
		{"derived images", 8, false, images(registry.ImageQuery{DerivedFrom: []registry.Digest{layer}, Order: registry.ByUpdate})},
		{"repositories by update", 9, true, repositories(registry.RepositoryQuery{Order: registry.ByUpdate})},
		{"repositories by downloads", 9, true, repositories(registry.RepositoryQuery{Order: registry.ByDownloads})},
		{"repositories with a name like", 9, true, repositories(registry.RepositoryQuery{Text: "repo1", Order: registry.ByRelevance})},
		{"repositories of arm64", 9, true, repositories(registry.RepositoryQuery{Order: registry.ByRelevance, Filter: registry.SearchFilter{Arch: []string{"arm64"}}})},
		{"a repository", 9, false, repositories(registry.RepositoryQuery{Name: one})},
		{"starred repositories", 9, true, repositories(registry.RepositoryQuery{Order: registry.ByUpdate, Filter: registry.SearchFilter{Starred: &yes}})},
	}
}

// searched fills a database with images and opens its catalog.
func searched(t *testing.T, db *sqldb.DB, manifests, repos int, policy *rules.Policy) *Catalog {
	t.Helper()
	if err := db.Migrate(t.Context(), migrations, "migrations"); err != nil {
		t.Fatal(err)
	}
	fill(t, db, manifests, repos)
	exec(t, db, "DELETE FROM feed_readers")
	layer := registry.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: digestOf("b1"), Size: 1000}
	var layers []string
	for range 8 {
		layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1000}`, layer.MediaType, layer.Digest))
	}
	payload := fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":1000},"layers":[%s],"annotations":{"org.opencontainers.image.title":"x"}}`, layer.Digest, strings.Join(layers, ","))
	config := `{"created":"2024-01-01T00:00:00Z","os":"linux","architecture":"amd64","history":[` + strings.TrimSuffix(strings.Repeat(`{"created_by":"RUN apt-get update && apt-get install -y something"},`, 16), ",") + `]}`
	err := db.Write(t.Context(), func(tx *sqldb.Tx) error {
		if err := tx.LockAll(); err != nil {
			return err
		}
		if _, err := tx.Exec(`UPDATE manifests SET payload = $1, size = $2`, []byte(payload), len(payload)); err != nil {
			return err
		}
		_, err := tx.Exec(`UPDATE image_configs SET config = $1`, config)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), db, nil, Options{Access: policy}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// onEachDatabase runs a test on a new database of each kind.
func onEachDatabase(t *testing.T, test func(t *testing.T, db *sqldb.DB)) {
	t.Run("sqlite", func(t *testing.T) { test(t, openDatabase(t, t.TempDir())) })
	t.Run("postgres", func(t *testing.T) { test(t, openShared(t)) })
}

// Searches take a number of queries that does not depend on how much there is, and
// each of those looks things up in indexes; only what is about all images reads all
// tags, and nothing reads all of another table.
func TestSearchPlans(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, db *sqldb.DB) {
		const manifests, repos = 800, 80
		c := searched(t, db, manifests, repos, nil)
		scans, lists := regexp.MustCompile(`^SCAN (\w+)`), []string{"r", "x", "found", "CONSTANT", "m"}
		explain := func(query string) []string { return plan(t, db, query) }
		if db.Dialect().Shared != nil {
			scans, lists = regexp.MustCompile(`Seq Scan on (\w+)`), []string{"repositories"}
			// To read all of a table of this size is no bad plan, if there is another one.
			explain = func(query string) []string {
				return strings.Split(planOnPostgres(t, db, query, "SET LOCAL enable_seqscan = off"), "\n")
			}
		}
		for _, x := range searchCases(manifests, repos) {
			var texts []string
			ctx := context.WithValue(t.Context(), searchSpy{}, func(text string) { texts = append(texts, text) })
			total, err := x.run(ctx, c, registry.Actor{ID: "user1"})
			if err != nil || total == 0 && !strings.Contains(x.name, "signed") && x.name != "starred repositories" {
				t.Fatalf("%s: %d found, %v", x.name, total, err)
			}
			if len(texts) > x.queries {
				t.Errorf("%s: %d queries, want at most %d:\n%s", x.name, len(texts), x.queries, strings.Join(texts, "\n"))
			}
			for i, text := range texts {
				if x.all && i < 2 {
					continue // finding and counting
				}
				for _, step := range explain(text) {
					if m := scans.FindStringSubmatch(strings.TrimSpace(step)); m != nil && !slices.Contains(lists, m[1]) {
						t.Errorf("%s: %s\n%s", x.name, step, text)
					}
				}
			}
		}
	})
}

// TestSearchTimes tells how long searches of SEARCH_IMAGES images take, for somebody
// who may read all of them and for somebody who may read half.
func TestSearchTimes(t *testing.T) {
	manifests, err := strconv.Atoi(os.Getenv("SEARCH_IMAGES"))
	if err != nil {
		t.Skip("NOT RUN: it tells of times only: make search-times")
	}
	policy, err := rules.Compile(&registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{"team/*[02468]": {Policies: []registry.AccessPolicy{{Users: []string{"user1"}, Actions: []string{"read"}}}}},
		AdminPolicy:  &registry.AccessPolicy{Users: []string{"user2"}, Actions: []string{"read"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	onEachDatabase(t, func(t *testing.T, db *sqldb.DB) {
		c := searched(t, db, manifests, manifests/10, policy)
		for _, x := range searchCases(manifests, manifests/10) {
			var took [3][]time.Duration
			var total [3]int
			var cpu [3]time.Duration // of this process, for one search
			for i, a := range []registry.Actor{{ID: "user2", System: true}, {ID: "user2"}, {ID: "user1"}} {
				used := cpuTime(t)
				for range 5 {
					began := time.Now()
					n, err := x.run(t.Context(), c, a)
					if err != nil {
						t.Fatalf("%s: %v", x.name, err)
					}
					took[i], total[i] = append(took[i], time.Since(began)), n
				}
				slices.Sort(took[i])
				cpu[i] = (cpuTime(t) - used) / 5
			}
			tell := func(i int) string {
				return fmt.Sprintf("%6d found %8v (CPU %7v)", total[i], took[i][2].Round(10*time.Microsecond), cpu[i].Round(100*time.Microsecond))
			}
			t.Logf("%-34s %s   by rules %s   of half %s", x.name, tell(0), tell(1), tell(2))
		}
	})
}

// cpuTime returns the time that this process has computed.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
