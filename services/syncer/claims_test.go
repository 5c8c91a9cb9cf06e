package syncer_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/syncer"
)

// text is an index with a text of its own.
func text(note string) string {
	return `{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[],"annotations":{"text":"` + note + `"}}`
}

// pushTag pushes such an index into the catalog, as a client or a command does.
func pushTag(t *testing.T, w *world, repo registry.Name, tag registry.Tag, note string) registry.Digest {
	t.Helper()
	b := []byte(text(note))
	d := registry.SHA256.FromBytes(b)
	put := registry.ManifestPut{Digest: d, MediaType: registry.TypeIndex, Bytes: b, Tags: []registry.Tag{tag}}
	if _, err := w.catalog.PutManifest(t.Context(), nobody, repo, put); err != nil {
		t.Fatal(err)
	}
	return d
}

func (w *world) pointsTo(t *testing.T, repo registry.Name, tagged registry.Tag) registry.Digest {
	t.Helper()
	m, err := w.catalog.Manifest(t.Context(), nobody, repo, registry.ManifestQuery{Ref: tag(tagged), NoBytes: true})
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

// TestS096PushedBefore: what was pushed before a rule covered its repository, or by
// another way than the gateway, is not replaced by what an upstream has of that name,
// nor is the upstream asked for it.
func TestS096PushedBefore(t *testing.T) {
	up := newHostile(t)
	up.image(t, "team/app", "v1", random(10))
	up.image(t, "team/app", "v2", random(10))
	w := open(t, at(t, up.URL, syncer.Content{Prefix: "**"}))
	ctx := t.Context()
	local := pushTag(t, w, "team/app", "v1", "ours")
	for _, c := range []struct {
		tag   registry.Tag
		local registry.Digest
	}{{"v1", local}, {"v2", ""}} {
		if res, err := w.Resolve(ctx, nobody, "team/app", tag(c.tag), c.local); !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("%s: %+v, %v", c.tag, res, err)
		}
	}
	if _, err := w.Open(ctx, nobody, "team/app", registry.SHA256.FromBytes(random(10)), registry.Whole); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("a blob: %v", err)
	}
	if n := up.asked(""); n != 0 {
		t.Errorf("%d requests about a repository that is ours", n)
	}
	if got := w.pointsTo(t, "team/app", "v1"); got != local {
		t.Errorf("the tag points to %s", got)
	}
	if c, err := w.Covers(ctx, "team/app"); err != nil || !c.Claimed {
		t.Errorf("Covers: %+v, %v", c, err)
	}
	// Whoever says that it does not count is believed, over a restart as well, until
	// the next push.
	if err := w.Forget(ctx, "team/app"); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.start(t, at(t, up.URL))
	if _, err := w.Resolve(ctx, nobody, "team/app", tag("v2"), ""); err != nil {
		t.Errorf("after Forget: %v", err)
	}
	if err := w.Claim(ctx, nobody, "team/app"); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.start(t, at(t, up.URL))
	if c, err := w.Covers(ctx, "team/app"); err != nil || !c.Claimed {
		t.Errorf("Covers after a push: %+v, %v", c, err)
	}
}

// TestS096PushedMeanwhile: a push that comes while the upstream is being asked wins,
// whether the tag was there before or not.
func TestS096PushedMeanwhile(t *testing.T) {
	for _, there := range []bool{false, true} {
		up := newHostile(t)
		up.image(t, "a", "v1", random(10))
		w := open(t, at(t, up.URL))
		ctx := t.Context()
		var was registry.Digest
		if there {
			res, err := w.Resolve(ctx, nobody, "a", tag("v1"), "")
			if err != nil {
				t.Fatal(err)
			}
			was = res.Digest
			up.image(t, "a", "v1", random(20))
			w.later.Store(int64(5 * time.Minute))
		}
		var pushed registry.Digest
		up.set(func() {
			up.answer = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/manifests/") && pushed == "" {
					pushed = pushTag(t, w, "a", "v1", "ours")
				}
				return false
			}
		})
		res, err := w.Resolve(ctx, nobody, "a", tag("v1"), was)
		if there && err != nil || !there && !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("there %v: %+v, %v", there, res, err)
		}
		if got := w.pointsTo(t, "a", "v1"); got != pushed {
			t.Errorf("there %v: the push was replaced by %s", there, got)
		}
		if c, err := w.Covers(ctx, "a"); err != nil || !c.Claimed {
			t.Errorf("there %v: Covers: %+v, %v", there, c, err)
		}
	}
}

// TestS096PushedPast: a push that nobody told the mirror of is noticed when the tag
// would be moved.
func TestS096PushedPast(t *testing.T) {
	up := newHostile(t)
	up.image(t, "a", "v1", random(10))
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1"), ""); err != nil {
		t.Fatal(err)
	}
	local := pushTag(t, w, "a", "v1", "ours")
	w.later.Store(int64(5 * time.Minute))
	if res, err := w.Resolve(ctx, nobody, "a", tag("v1"), local); err != nil || res.Digest != local || res.Warning != "" {
		t.Errorf("%+v, %v", res, err)
	}
	if got := w.pointsTo(t, "a", "v1"); got != local {
		t.Errorf("the push was replaced by %s", got)
	}
}

// TestS096OtherRule: a registry that can't be asked is no reason to take what another
// one has of the same name; one that does not have it, or refuses us, is.
func TestS096OtherRule(t *testing.T) {
	for name, c := range map[string]struct {
		status int // of the first upstream
		want   error
	}{"500": {500, registry.ErrUnavailable}, "429": {429, registry.ErrTooManyRequests}, "404": {404, nil}, "401": {401, nil}} {
		t.Run(name, func(t *testing.T) {
			inside, outside := newHostile(t), newHostile(t)
			ours, _ := inside.image(t, "team/app", "v1", random(10))
			inside.image(t, "team/app", "v2", random(10))
			for _, tag := range []string{"v1", "v2"} {
				outside.image(t, "team/app", tag, random(10))
			}
			w := open(t, at(t, inside.URL), at(t, outside.URL))
			ctx := t.Context()
			if _, err := w.Resolve(ctx, nobody, "team/app", tag("v1"), ""); err != nil {
				t.Fatal(err)
			}
			w.later.Store(int64(5 * time.Minute))
			inside.set(func() {
				inside.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(c.status); return true }
			})
			if _, err := w.Resolve(ctx, nobody, "team/app", tag("v2"), ""); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			res, err := w.Resolve(ctx, nobody, "team/app", tag("v1"), ours)
			if err != nil || c.want != nil && (res.Digest != ours || res.Warning == "") {
				t.Errorf("the tag that is here: %+v, %v", res, err)
			}
			if got := w.pointsTo(t, "team/app", "v1"); c.want != nil && got != ours {
				t.Errorf("the tag moved to %s", got)
			}
		})
	}
}

// TestS069RoutePushed: who says that Docker Hub's image is meant does not get one that
// somebody has pushed here under that name.
func TestS069RoutePushed(t *testing.T) {
	up := newHostile(t)
	hub := at(t, up.URL, syncer.Content{Prefix: "library/**"})
	hub.Host = "docker.io"
	w := open(t, hub)
	pushTag(t, w, "library/nginx", "v1", "ours")
	if got, err := w.Route(t.Context(), "docker.io", "library/nginx"); err != nil || got != "docker.io/library/nginx" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestS096Claimed: nothing is fetched into a repository that was pushed to, over
// restarts, until somebody says otherwise.
func TestS096Claimed(t *testing.T) {
	up := newHostile(t)
	up.image(t, "a", "v1")
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	if err := w.Claim(ctx, registry.Actor{ID: "eve"}, "a"); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.start(t, at(t, up.URL))
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1"), ""); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("Resolve: %v", err)
	}
	if c, err := w.Covers(ctx, "a"); err != nil || !c.Claimed || c.Push != registry.PushAllow {
		t.Errorf("Covers: %+v, %v", c, err)
	}
	if n := up.asked(""); n != 0 {
		t.Errorf("%d requests", n)
	}
	if err := w.Forget(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1"), ""); err != nil {
		t.Errorf("after Forget: %v", err)
	}
}

// TestS096PushedDuringCopies: copies of a schedule that have begun put nothing into a
// repository that was pushed to since, and leave that to be no failure; those of others go on.
func TestS096PushedDuringCopies(t *testing.T) {
	up := newHostile(t)
	for _, repo := range []string{"a", "b"} {
		up.image(t, repo, "v1", random(10))
		up.image(t, repo, "v2", random(20))
	}
	r := at(t, up.URL, syncer.Content{Prefix: "a"}, syncer.Content{Prefix: "b"})
	r.OnDemand, r.Interval = false, time.Hour
	w := &world{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{}), root: t.TempDir(), later: &skew}
	skew.Store(0)
	up.set(func() {
		up.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/a/manifests/v1") {
				pushTag(t, w, "a", "ours", "ours")
				if err := w.Claim(t.Context(), nobody, "a"); err != nil {
					t.Error(err)
				}
			}
			return false
		}
	})
	w.start(t, r)
	done := finished(t, w, 0)
	if done.LastError != "" {
		t.Errorf("the copy: %+v", done)
	}
	for repo, want := range map[registry.Name][]registry.Tag{"a": {"ours"}, "b": {"v1", "v2"}} {
		tags, err := w.catalog.Tags(t.Context(), nobody, repo, registry.Page[registry.Tag]{Limit: 10})
		if diff := cmp.Diff(want, tags.Items); err != nil || diff != "" {
			t.Errorf("tags of %s: %v\n%s", repo, err, diff)
		}
	}
}
