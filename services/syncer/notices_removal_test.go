package syncer_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/syncer"
)

// goneSince waits until Explain names these tags of repository a as gone, and no others.
func (w *world) goneSince(t *testing.T, names ...string) {
	t.Helper()
	waitFor(t, "it is said that they are gone: "+strings.Join(names, ", "), func() bool {
		lines, err := w.Explain(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(lines, "\n")
		for _, name := range names {
			if !strings.Contains(text, name+" is gone since ") {
				return false
			}
		}
		return strings.Count(text, " is gone since ") == len(names)
	})
}

// TestNoticesOfRemovals: a tag that its upstream says was removed, and that it does not
// have, goes here after the grace; what it has all the same stays, and so does what was
// pushed here, and what came back meanwhile.
func TestNoticesOfRemovals(t *testing.T) {
	const grace = time.Hour
	up := newHostile(t)
	one, _ := up.image(t, "a", "v1", []byte("one"))
	two, _ := up.image(t, "a", "v2", []byte("two"))
	three, _ := up.image(t, "a", "v3", []byte("three"))
	r := telling(t, up)
	r.Prune = syncer.Prune{On: true, Grace: grace}
	w := open(t, r)
	ctx := t.Context()
	for tag, d := range map[registry.Tag]registry.Digest{"v1": one, "v2": two, "v3": three} {
		w.told(t, "a", string(tag))
		w.comes(t, "a", tag, d)
	}
	goneSince := func(names ...string) {
		t.Helper()
		w.goneSince(t, names...)
	}
	graceEnds := func(left int) {
		t.Helper()
		w.later.Add(int64(grace + time.Minute))
		w.told(t, "a", "none") // whoever works looks again
		waitFor(t, "it goes after the grace", func() bool {
			tags, err := w.catalog.Tags(ctx, nobody, "a", registry.Page[registry.Tag]{Limit: 10})
			return err == nil && len(tags.Items) <= left
		})
	}
	up.gone("a", "v1")
	up.gone("a", "v3")
	for _, tag := range []string{"v1", "v2", "v3"} {
		w.toldThat(t, registry.ImageDeleted, "a", tag)
	}
	goneSince("v1", "v3") // the upstream has v2 all the same
	w.wantTags(t, "within the grace", "a", "v1", "v2", "v3")
	up.image(t, "a", "v3", []byte("three"))
	w.told(t, "a", "v3")
	goneSince("v1")
	graceEnds(2)
	w.wantTags(t, "after the grace", "a", "v2", "v3")
	if _, err := w.catalog.Manifest(ctx, nobody, "a", registry.ManifestQuery{Ref: registry.Reference{Digest: one}}); err != nil {
		t.Errorf("its manifest: %v", err)
	}
	goneSince()

	up.gone("a", "v3") // another time, with a grace of its own
	own := pushTag(t, w, "b", "v1", "pushed here")
	w.toldThat(t, registry.ImageDeleted, "b", "v1")
	w.toldThat(t, registry.ImageDeleted, "a", "v3")
	goneSince("v3")
	w.wantTags(t, "gone again", "a", "v2", "v3")
	graceEnds(1)
	w.wantTags(t, "at last", "a", "v2")
	if d := w.pointsTo(t, "b", "v1"); d != own {
		t.Errorf("what was pushed here is %s", d)
	}
	rules, err := w.MirrorRules(ctx)
	if err != nil || rules[0].Pruned != 2 {
		t.Errorf("%+v, %v", rules, err)
	}
}

// TestNoticesOfRemovalsDryRun: a rule that only tells removes nothing.
func TestNoticesOfRemovalsDryRun(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", []byte("one"))
	r := telling(t, up)
	r.Prune = syncer.Prune{On: true, DryRun: true}
	w := open(t, r)
	w.told(t, "a", "v1")
	w.comes(t, "a", "v1", d)
	up.gone("a", "v1")
	before := up.asked("HEAD /v2/a/manifests/v1")
	w.toldThat(t, registry.ImageDeleted, "a", "v1")
	waitFor(t, "the upstream is asked", func() bool { return up.asked("HEAD /v2/a/manifests/v1") > before })
	w.told(t, "a", "none")
	waitFor(t, "what was told of first is done", func() bool { return up.asked("HEAD /v2/a/manifests/none") > 0 })
	w.wantTags(t, "a dry run", "a", "v1")
}

// TestNoticesInAnyOrder: what was told of a tag, in whichever order it comes and however
// often, the tag becomes here what it is upstream.
func TestNoticesInAnyOrder(t *testing.T) {
	up := newHostile(t)
	old, _ := up.image(t, "a", "v1", []byte("one"))
	two, _ := up.image(t, "a", "v2", []byte("two"))
	r := telling(t, up)
	r.Prune = syncer.Prune{On: true, Grace: time.Hour}
	w := open(t, r)
	w.told(t, "a", "v1")
	w.told(t, "a", "v2")
	w.comes(t, "a", "v1", old)
	w.comes(t, "a", "v2", two)
	pause := func(on bool) {
		t.Helper()
		if err := w.Pause(t.Context(), w.Names()[0], on); err != nil {
			t.Fatal(err)
		}
	}
	pause(true)
	again, _ := up.image(t, "a", "v1", []byte("again"))
	up.gone("a", "v2")
	for _, tag := range []string{"v1", "v2"} { // v1 was removed and set again, v2 set and removed
		w.told(t, "a", tag)
	}
	w.toldThat(t, registry.ImageDeleted, "a", "v1")
	pause(false)
	w.comes(t, "a", "v1", again)
	w.goneSince(t, "v2")
	w.later.Add(int64(61 * time.Minute))
	w.told(t, "a", "none") // whoever works looks again
	waitFor(t, "v2 goes after the grace", func() bool {
		tags, err := w.catalog.Tags(t.Context(), nobody, "a", registry.Page[registry.Tag]{Limit: 10})
		return err == nil && len(tags.Items) == 1
	})
	w.wantTags(t, "after the grace", "a", "v1")
}

// TestNoticesOfHeldTags: a tag that came back, but is not followed, is not gone: should it
// be removed again, that is another grace.
func TestNoticesOfHeldTags(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1.0.0", []byte("one"))
	r := telling(t, up)
	r.Moves, r.Prune = syncer.MovesVersions, syncer.Prune{On: true, Grace: time.Hour}
	w := open(t, r)
	w.told(t, "a", "v1.0.0")
	w.comes(t, "a", "v1.0.0", d)
	up.gone("a", "v1.0.0")
	w.toldThat(t, registry.ImageDeleted, "a", "v1.0.0")
	w.goneSince(t, "v1.0.0")
	up.image(t, "a", "v1.0.0", []byte("another"))
	w.told(t, "a", "v1.0.0")
	w.goneSince(t)
	if is := w.pointsTo(t, "a", "v1.0.0"); is != d {
		t.Errorf("it is %s", is)
	}
}

// TestNoticesOfClaimedRepositories: a repository that was pushed to is left alone.
func TestNoticesOfClaimedRepositories(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", []byte("one"))
	up.image(t, "b", "v1", []byte("b"))
	r := telling(t, up)
	r.Prune = syncer.Prune{On: true}
	w := open(t, r)
	w.told(t, "a", "v1")
	w.comes(t, "a", "v1", d)
	if err := w.Claim(t.Context(), registry.Actor{ID: "eve"}, "a"); err != nil {
		t.Fatal(err)
	}
	up.gone("a", "v1")
	w.toldThat(t, registry.ImageDeleted, "a", "v1")
	w.told(t, "b", "v1")
	w.linked(t, "b", registry.SHA256.FromString("b")) // what was told of first is done
	w.wantTags(t, "claimed", "a", "v1")
}

// TestNoticesInTheirGrace: however many tags an upstream has removed, what it tells of
// while they are in their grace is copied; but what is to be looked at now is bounded.
func TestNoticesInTheirGrace(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", []byte("one"))
	r := telling(t, up)
	r.Prune = syncer.Prune{On: true, Grace: 24 * time.Hour}
	w := open(t, r)
	const most = 100_000
	due := func(at time.Time) {
		t.Helper()
		if err := w.db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if err := tx.Lock(sqldb.Lock{Name: "notices"}); err != nil {
				return err
			}
			_, err := tx.Exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
				INSERT INTO notices (rule, remote, tag, number, since, due, attempts, removed) SELECT 'none', 'a', 't' || i, 1, $2, $2, 0, 1 FROM n WHERE true
				ON CONFLICT (rule, remote, tag) DO UPDATE SET due = excluded.due`, most, at.UnixMicro())
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	due(clock().Add(24 * time.Hour))
	w.told(t, "a", "v1")
	w.comes(t, "a", "v1", d)
	due(clock())
	if code := w.tell(event(noticeSecret, clock(), registry.ImageUpdated, `{"name":"a","reference":"v1"}`)); code != http.StatusServiceUnavailable {
		t.Errorf("another one: %d", code)
	}
}

// listing is a catalog that counts the cached manifests which it tells of.
type listing struct {
	*memory.Catalog
	told atomic.Int64
}

func (l *listing) CachedManifests(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Digest]) (registry.List[registry.CachedManifest], error) {
	list, err := l.Catalog.CachedManifests(ctx, a, repo, p)
	l.told.Add(int64(len(list.Items)))
	return list, err
}

// TestNoticesOfLargeRepositories: a tag that was removed costs no look at all others of its
// repository.
func TestNoticesOfLargeRepositories(t *testing.T) {
	up := newHostile(t)
	const tags = 40
	r := telling(t, up)
	r.Prune = syncer.Prune{On: true}
	w := &world{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{}), root: t.TempDir(), later: &skew}
	skew.Store(0)
	all := &listing{Catalog: w.catalog}
	w.front = func(*memory.Catalog) syncer.Catalog { return all }
	w.start(t, r)
	for i := range tags {
		up.image(t, "a", itoa(i), []byte(itoa(i)))
		w.told(t, "a", itoa(i))
	}
	left := func(n int) {
		t.Helper()
		waitFor(t, fmt.Sprint(n, " tags"), func() bool {
			list, err := w.catalog.Tags(t.Context(), nobody, "a", registry.Page[registry.Tag]{Limit: 2 * tags})
			return err == nil && len(list.Items) == n
		})
	}
	left(tags)
	for i := range tags {
		up.gone("a", itoa(i))
		w.toldThat(t, registry.ImageDeleted, "a", itoa(i))
	}
	left(0)
	if n := all.told.Load(); n > 2*tags {
		t.Errorf("%d manifests were listed for %d tags", n, tags)
	}
}
