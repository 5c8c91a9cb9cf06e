package metadata_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/retention"
)

const day = 24 * time.Hour

// testTime is a time that tests set.
type testTime struct{ now time.Time }

func newTestTime() *testTime { return &testTime{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *testTime) Now() time.Time { return c.now }

func (c *testTime) ago(d time.Duration) int64 { return c.now.Add(-d).UnixMicro() }

// policies compiles the value of storage.retention.
func policies(t testing.TB, text string) *retention.Policies {
	t.Helper()
	cfg, _, err := config.Parse("x.json", []byte(`{"storage":{"rootDirectory":"/x","retention":`+text+`}}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	p, err := retention.Compile(cfg.Storage.Retention, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// explain returns all decisions about repo, in pages of limit, as "tag+rule".
func explain(t testing.TB, c registry.Catalog, repo registry.Name, limit int) string {
	t.Helper()
	var b strings.Builder
	for p := (registry.Page[string]{Limit: limit}); ; {
		list, err := c.ExplainRetention(t.Context(), alice, repo, registry.Reference{}, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list.Items {
			name, sign := string(d.Tag), "-"
			if d.Tag == "" {
				name = "untagged"
			}
			if d.Keep {
				sign = "+"
			}
			b.WriteString(name + sign + d.Rule + " ")
			p.After = d.Key()
		}
		if !list.More {
			return strings.TrimSpace(b.String())
		}
	}
}

// fiveImages pushes five tags at different ages, one of which was pulled since.
func fiveImages(t testing.TB, s *store, now *testTime, repo registry.Name) map[registry.Tag]registry.ManifestPut {
	t.Helper()
	end := now.now
	all := map[registry.Tag]registry.ManifestPut{}
	for _, x := range []struct {
		tag registry.Tag
		age time.Duration
	}{{"v1.0", 100 * day}, {"v1.1", 50 * day}, {"v1.2", 10 * day}, {"pr-1", 40 * day}, {"latest", day}} {
		now.now = end.Add(-x.age)
		all[x.tag] = pushImage(t, s, repo, string(x.tag), x.tag)
	}
	now.now = end
	count(t, s, registry.Pull{Repository: repo, Digest: all["v1.0"].Digest, Tag: "v1.0", Actor: "bob", At: now.ago(2 * day), Count: 1})
	return all
}

func count(t testing.TB, c registry.Catalog, pulls ...registry.Pull) {
	t.Helper()
	if err := c.CountPulls(t.Context(), pulls); err != nil {
		t.Fatal(err)
	}
}

// The policies of zot's documentation, on a catalog.
const zotsPolicies = `{"delay":"24h","policies":[
	{"repositories":["infra/*","prod/*"],"deleteReferrers":false,"keepTags":[
		{"patterns":["v2.*",".*-prod"]},
		{"patterns":["v1.*"],"pulledWithin":"168h","pushedWithin":"168h"}]},
	{"repositories":["tmp/**"],"deleteReferrers":true,"deleteUntagged":true},
	{"repositories":["**"],"deleteReferrers":true,"deleteUntagged":true,"keepTags":[
		{"mostRecentlyPushedCount":2,"mostRecentlyPulledCount":1,"pulledWithin":"72h","pushedWithin":"720h"}]}]}`

func TestRetention(t *testing.T) { onEach(t, testRetention) }

func testRetention(t *testing.T, at newPlace) {
	now := newTestTime()
	s := openStore(t, at(t), metadata.Options{Now: now.Now, Retention: policies(t, zotsPolicies)}, nil)
	for repo, want := range map[registry.Name]string{
		"prod/app": "latest- pr-1- v1.0+pulledWithin v1.1- v1.2-",
		"tmp/a/b":  "latest+ pr-1+ v1.0+ v1.1+ v1.2+",
		"app":      "latest+mostRecentlyPushedCount pr-1- v1.0+mostRecentlyPulledCount v1.1- v1.2+mostRecentlyPushedCount",
	} {
		images := fiveImages(t, s, now, repo)
		for _, limit := range []int{1, 2, 5, 100} {
			if got := explain(t, s, repo, limit); got != want {
				t.Errorf("%s in pages of %d:\ngot  %s\nwant %s", repo, limit, got, want)
			}
		}
		report, err := s.ApplyRetention(t.Context(), alice, repo)
		wantReport := registry.RetentionReport{Kept: int64(strings.Count(want, "+")), Deleted: int64(strings.Count(want, "-") - 1)}
		if diff := cmp.Diff(wantReport, report); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", repo, err, diff)
		}
		for tag, m := range images {
			stays := strings.Contains(want, string(tag)+"+")
			if got := tagged(t, s, repo, tag); (got == m.Digest) != stays || (got == "") == stays {
				t.Errorf("%s:%s points to %q, kept: %v", repo, tag, got, stays)
			}
			history, err := s.TagHistory(t.Context(), alice, repo, tag, 1)
			if err != nil || !stays && (history[0].Actor != "retention" || history[0].Digest != "") {
				t.Errorf("%s:%s: the history ends with %+v (%v)", repo, tag, history, err)
			}
			// The manifest stays until its undo window ends.
			if _, err := s.RollbackTag(t.Context(), alice, repo, tag, m.Digest, registry.Condition{}); err != nil {
				t.Errorf("%s:%s can't be taken back: %v", repo, tag, err)
			}
		}
	}
}

func TestRetentionDryRun(t *testing.T) { onEach(t, testRetentionDryRun) }

func testRetentionDryRun(t *testing.T, at newPlace) {
	now := newTestTime()
	s := openStore(t, at(t), metadata.Options{Now: now.Now,
		Retention: policies(t, `{"dryRun":true,"policies":[{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]}`)}, nil)
	fiveImages(t, s, now, "a")
	report, err := s.ApplyRetention(t.Context(), alice, "a")
	if diff := cmp.Diff(registry.RetentionReport{DryRun: true, Kept: 3, Deleted: 2}, report); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if tagged(t, s, "a", "latest") == "" {
		t.Error("a dry run has removed a tag")
	}
}

// A run removes what was decided about, not what a tag points to meanwhile, and
// leaves read-only repositories and immutable tags alone.
func TestRetentionLeavesAlone(t *testing.T) { onEach(t, testRetentionLeavesAlone) }

func testRetentionLeavesAlone(t *testing.T, at newPlace) {
	now := newTestTime()
	place := at(t)
	none := `{"policies":[{"repositories":["**"],"keepTags":[{"patterns":["^none$"]}]}]}`
	s := openStore(t, place, metadata.Options{Now: now.Now, Retention: policies(t, none), Limits: metadata.Limits{
		Immutable: []metadata.ImmutableTags{{Repositories: globs(t, "fixed"), Tags: globs(t, "v*")}},
	}}, nil)
	pushImage(t, s, "fixed", "x", "v1", "other")
	pushImage(t, s, "frozen", "x", "v1")
	if got, want := explain(t, s, "fixed", 9), "other- v1+"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.options.Limits.ReadOnly = globs(t, "frozen")
	s = s.crash(t)
	_, err := s.ApplyRetention(t.Context(), alice, "frozen")
	wantErr(t, "ApplyRetention of a read-only repository", err, registry.ErrUnsupported)
	if err := s.RetainAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if tagged(t, s, "frozen", "v1") == "" || tagged(t, s, "fixed", "v1") == "" || tagged(t, s, "fixed", "other") != "" {
		t.Error("a run touches what it must not, or does nothing")
	}
}

// A run that has listed a repository which is deleted then goes on, and does not take
// the tags of one that is pushed anew by the same name for the old ones.
func TestRetentionOfADeletedRepository(t *testing.T) { onEach(t, testRetentionOfADeletedRepository) }

func testRetentionOfADeletedRepository(t *testing.T, at newPlace) {
	now := newTestTime()
	s := openStore(t, at(t), metadata.Options{Now: now.Now,
		Retention: policies(t, `{"policies":[{"repositories":["**"],"keepTags":[{"pushedWithin":"24h"}]}]}`)}, nil)
	pushImage(t, s, "a", "x", "v1")
	var id int64
	if err := s.db.QueryRow(t.Context(), `SELECT id FROM repositories WHERE name = 'a'`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	now.now = now.now.Add(30 * day)
	if err := s.DeleteRepository(t.Context(), alice, "a"); err != nil {
		t.Fatal(err)
	}
	if got, err := metadata.Retain(t.Context(), s.Catalog, id, "a"); err != nil || got.Deleted != 0 {
		t.Errorf("of a repository that is gone: got %+v (%v), want nothing", got, err)
	}
	pushImage(t, s, "a", "x", "v1")
	if got, err := metadata.Retain(t.Context(), s.Catalog, id, "a"); err != nil || got.Deleted != 0 {
		t.Errorf("of its successor: got %+v (%v), want nothing", got, err)
	}
	if tagged(t, s, "a", "v1") == "" {
		t.Error("the tag that was pushed just now has gone")
	}
}

// A tag that was moved to an old manifest is as young as the move.
func TestRetentionOfMovedTag(t *testing.T) { onEach(t, testRetentionOfMovedTag) }

func testRetentionOfMovedTag(t *testing.T, at newPlace) {
	now := newTestTime()
	s := openStore(t, at(t), metadata.Options{Now: now.Now,
		Retention: policies(t, `{"policies":[{"repositories":["**"],"keepTags":[{"pushedWithin":"24h"}]}]}`)}, nil)
	m := pushImage(t, s, "a", "x", "old")
	now.now = now.now.Add(30 * day)
	m.Tags = []registry.Tag{"new"}
	put(t, s, "a", m)
	if got, want := explain(t, s, "a", 9), "new+pushedWithin old-"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// Untagged manifests: an index keeps its children, a subject its referrers.
func TestRetentionOfUntagged(t *testing.T) { onEach(t, testRetentionOfUntagged) }

func testRetentionOfUntagged(t *testing.T, at newPlace) {
	now := newTestTime()
	s := openStore(t, at(t), metadata.Options{Now: now.Now,
		Retention: policies(t, `{"policies":[{"repositories":["**"],"deleteReferrers":true,"keepUntagged":{"mostRecentlyPushedCount":1}}]}`)}, nil)
	child := pushImage(t, s, "a", "child")
	put(t, s, "a", index([]registry.ManifestPut{child}, "index"))
	subject := pushImage(t, s, "a", "subject", "subject")
	empty := blob("{}")
	link(t, s, "a", empty)
	signature := referrer(empty, "signature", subject)
	lost := pushImage(t, s, "b", "lost")
	orphan := referrer(empty, "sbom", lost) // its subject is elsewhere
	put(t, s, "a", signature)
	put(t, s, "a", orphan)
	one := pushImage(t, s, "a", "one")
	now.now = now.now.Add(time.Minute)
	two := pushImage(t, s, "a", "two")
	now.now = now.now.Add(30 * day)
	want := map[registry.Digest]string{
		signature.Digest: "true belongs to " + subject.Digest.String(),
		orphan.Digest:    "false its subject is gone: " + lost.Digest.String(),
		one.Digest:       "false untagged",
		two.Digest:       "true retained by mostRecentlyPushedCount:1 policy",
	}
	list, err := s.ExplainRetention(t.Context(), alice, "a", registry.Reference{}, registry.Page[string]{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	got := map[registry.Digest]string{}
	for _, d := range list.Items {
		if d.Tag == "" {
			got[d.Digest] = fmt.Sprint(d.Keep, " ", d.Reason)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for d := range want {
		list, err := s.ExplainRetention(t.Context(), alice, "a", registry.Reference{Digest: d}, registry.Page[string]{Limit: 100})
		if err != nil || len(list.Items) != 1 || list.Items[0].Digest != d {
			t.Errorf("explaining only %s: %v (%v)", d, list.Items, err)
		}
	}
	// The garbage collection asks the same, once the time to undo is over.
	if _, err := metadata.CollectAll(t.Context(), s.Catalog, true); err != nil {
		t.Fatal(err)
	}
	want[child.Digest], want[subject.Digest] = "true it is an index's", "true it has a tag"
	for d, decision := range want {
		_, err := s.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
		if (err == nil) != strings.HasPrefix(decision, "true") {
			t.Errorf("%s: %v, want %s", d, err, decision)
		}
	}
}

// The run in the background, by the wall clock's timers and the test's time.
func TestRetentionRuns(t *testing.T) {
	now := newTestTime()
	s := openStore(t, onSQLite(t), metadata.Options{Now: now.Now, RetentionEvery: time.Millisecond,
		Retention: policies(t, `{"policies":[{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]}`)}, nil)
	pushImage(t, s, "a", "x", "v1", "dev")
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tagged(t, s, "a", "dev") != "" {
		if deadline.Err() != nil {
			t.Fatal("no run removes the tag")
		}
	}
	if tagged(t, s, "a", "v1") == "" {
		t.Error("a run has removed a tag that is kept")
	}
}

// A dry run in the background tells what it would remove, though it turns
// collection off.
func TestRetentionRunsDry(t *testing.T) {
	at := onSQLite(t)
	db := at.open(t)
	defer db.Close()
	told := make(tellTale, 1)
	c, err := metadata.Open(t.Context(), db, nil, metadata.Options{RetentionEvery: time.Millisecond, GC: metadata.GC{Off: true},
		Retention: policies(t, `{"dryRun":true,"policies":[{"repositories":["**"],"keepTags":[{"patterns":["^v"]}]}]}`)}, slog.New(slog.NewTextHandler(told, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := &store{Catalog: c, db: db}
	pushImage(t, s, "a", "x", "v1", "dev")
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Error("nothing tells that the tag would go")
	}
	if tagged(t, s, "a", "dev") == "" {
		t.Error("a dry run has removed a tag")
	}
}

// tellTale is a log. It holds an element when it was told that tag dev goes.
type tellTale chan struct{}

func (l tellTale) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("decision=delete")) && bytes.Contains(line, []byte("=dev")) {
		select {
		case l <- struct{}{}:
		default:
		}
	}
	return len(line), nil
}

func TestPulls(t *testing.T) { onEach(t, testPulls) }

func testPulls(t *testing.T, at newPlace) {
	now := newTestTime()
	s := openStore(t, at(t), metadata.Options{Now: now.Now, Retention: policies(t, `{"policies":[{"repositories":["**"],"keepTags":[{}]}]}`)}, nil)
	m := pushImage(t, s, "a", "x", "v1")
	entry := func(tag registry.Tag, actor string, age time.Duration, n int64) registry.Pull {
		return registry.Pull{Repository: "a", Digest: m.Digest, Tag: tag, Actor: actor, At: now.ago(age), Count: n}
	}
	count(t, s, entry("v1", "bob", 3*day, 2), entry("", "", 2*day, 1), registry.Pull{Repository: "none", Digest: m.Digest, Count: 1},
		registry.Pull{Repository: "a", Digest: blob("gone").Digest, Count: 1})
	count(t, s, entry("v1", "carol", day, 1))
	count(t, s, entry("v1", "late", 9*day, 1)) // another gateway was slow
	want := []registry.Pull{entry("", "", 2*day, 1), entry("v1", "carol", day, 4)}
	if diff := cmp.Diff(want, pullsOf(t, s, "a", m.Digest)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// They outlive the manifest for a while.
	if err := s.DeleteManifest(t.Context(), alice, "a", m.Digest); err != nil {
		t.Fatal(err)
	}
	for _, after := range []struct {
		time.Duration
		rows int
	}{{28 * day, 2}, {4 * day, 0}} {
		now.now = now.now.Add(after.Duration)
		if err := s.RetainAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(pullsOf(t, s, "a", m.Digest)); got != after.rows {
			t.Errorf("%v later there are %d rows, want %d", after.Duration, got, after.rows)
		}
	}
	wantErr(t, "too many", s.CountPulls(t.Context(), make([]registry.Pull, registry.MaxPulls+1)), registry.ErrTooLarge)
}

// pullsOf reads statistics in pages of one.
func pullsOf(t testing.TB, c registry.Catalog, repo registry.Name, d registry.Digest) []registry.Pull {
	t.Helper()
	var all []registry.Pull
	for p := (registry.Page[registry.Tag]{Limit: 1}); ; {
		list, err := c.PullsOf(t.Context(), alice, repo, d, p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, list.Items...)
		if !list.More {
			return all
		}
		p.After = all[len(all)-1].Key()
	}
}
