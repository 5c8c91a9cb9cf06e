package syncer_test

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/syncer"
)

// finished waits until a rule's copy has come to its end.
func finished(t *testing.T, w *world, since int64) registry.MirrorRule {
	t.Helper()
	var r registry.MirrorRule
	waitFor(t, "the copy has ended", func() bool {
		rules, err := w.MirrorRules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		r = rules[0]
		return !r.Running && r.LastRun > since
	})
	return r
}

// TestPoll: a schedule copies the tags that it selects, of an index the platforms it
// wants, what refers to them to any depth, and the tags of old signatures.
func TestPoll(t *testing.T) {
	up := newHostile(t)
	amd, _ := up.image(t, "library/nginx", "", []byte("amd64 layer"))
	arm, _ := up.image(t, "library/nginx", "", []byte("arm64 layer"))
	up.mu.Lock()
	index, _ := up.add(t, "library/nginx", "1.27.1", registry.TypeIndex, map[string]any{
		"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": []map[string]any{
			{"mediaType": registry.TypeManifest, "digest": amd, "size": len(up.manifests["library/nginx/"+string(amd)].content), "platform": map[string]string{"os": "linux", "architecture": "amd64"}},
			{"mediaType": registry.TypeManifest, "digest": arm, "size": len(up.manifests["library/nginx/"+string(arm)].content), "platform": map[string]string{"os": "linux", "architecture": "arm64"}},
		},
	})
	refer := func(to registry.Digest, what string) registry.Digest {
		size := len(up.manifests["library/nginx/"+string(to)].content)
		d, b := up.add(t, "library/nginx", "", registry.TypeManifest, map[string]any{
			"schemaVersion": 2, "mediaType": registry.TypeManifest, "artifactType": "application/x-" + what,
			"config": up.blob("application/vnd.oci.empty.v1+json", []byte("{}")),
			"layers": []registry.Descriptor{up.blob("text/plain", []byte(what))}, "subject": registry.Descriptor{MediaType: registry.TypeManifest, Digest: to, Size: int64(size)},
		})
		up.referrers[to] = append(up.referrers[to], registry.Descriptor{MediaType: registry.TypeManifest, Digest: d, Size: int64(len(b))})
		return d
	}
	sbom := refer(amd, "sbom")
	signed := refer(sbom, "signature-of-sbom")
	up.mu.Unlock()
	old := registry.Tag(strings.Replace(string(index), ":", "-", 1) + ".sig")
	up.image(t, "library/nginx", string(old), []byte("old signature"))
	up.image(t, "library/nginx", "latest", []byte("not selected"))
	up.image(t, "library/other", "1.27.1", []byte("not selected either"))

	r := at(t, up.URL, syncer.Content{Prefix: "library/nginx", Destination: "/hub", StripPrefix: true, Regex: regexp.MustCompile(`^1\.2[0-9].*`)})
	r.OnDemand, r.Interval, r.Platforms = false, time.Hour, []string{"linux/amd64"}
	w := open(t, r)
	ctx := t.Context()
	done := finished(t, w, 0)
	if done.LastError != "" || done.Done != 1 || done.Total != 1 {
		t.Errorf("the copy: %+v", done)
	}
	tags, err := w.catalog.Tags(ctx, nobody, "hub", registry.Page[registry.Tag]{Limit: 10})
	if diff := cmp.Diff([]registry.Tag{"1.27.1", old}, tags.Items); err != nil || diff != "" {
		t.Errorf("tags: %v\n%s", err, diff)
	}
	for d, want := range map[registry.Digest]bool{index: true, amd: true, arm: false, sbom: true, signed: true} {
		_, err := w.catalog.Manifest(ctx, nobody, "hub", registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
		if (err == nil) != want {
			t.Errorf("%s: %v, wanted %v", d, err, want)
		}
	}
	for layer, want := range map[string]bool{"amd64 layer": true, "arm64 layer": false, "sbom": true, "old signature": true, "not selected": false} {
		_, err := w.catalog.Blob(ctx, nobody, "hub", registry.SHA256.FromString(layer))
		if (err == nil) != want {
			t.Errorf("%s: %v, wanted %v", layer, err, want)
		}
	}
	// The next run fetches nothing again.
	before := up.asked("GET /v2/library/nginx/blobs/")
	if err := w.Trigger(ctx, done.Name); err != nil {
		t.Fatal(err)
	}
	finished(t, w, done.LastRun)
	if n := up.asked("GET /v2/library/nginx/blobs/") - before; n != 0 {
		t.Errorf("%d blobs were fetched again", n)
	}
	if err := w.Trigger(ctx, "nobody"); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("Trigger of no rule: %v", err)
	}
}

// TestOnlySigned: images without a signature are skipped, and that is no error.
func TestOnlySigned(t *testing.T) {
	up := newHostile(t)
	up.image(t, "a", "unsigned", []byte("x"))
	d, _ := up.image(t, "a", "signed", []byte("y"))
	up.image(t, "a", strings.Replace(string(d), ":", "-", 1)+".sig", []byte("z"))
	r := at(t, up.URL, syncer.Content{Prefix: "**", Exclude: regexp.MustCompile(`\.sig$`)})
	r.OnDemand, r.Interval, r.OnlySigned, r.CosignTags = false, time.Hour, true, false
	w := open(t, r)
	if done := finished(t, w, 0); done.LastError != "" {
		t.Errorf("the copy: %+v", done)
	}
	tags, err := w.catalog.Tags(t.Context(), nobody, "a", registry.Page[registry.Tag]{Limit: 10})
	if diff := cmp.Diff([]registry.Tag{"signed"}, tags.Items); err != nil || diff != "" {
		t.Errorf("tags: %v\n%s", err, diff)
	}
}

// TestPaused: a rule that is paused asks nobody, over restarts, and serves what is here.
func TestPaused(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1")
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1"), ""); err != nil {
		t.Fatal(err)
	}
	rules, err := w.MirrorRules(ctx)
	if err != nil || len(rules) != 1 {
		t.Fatal(rules, err)
	}
	if err := w.Pause(ctx, rules[0].Name, true); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.start(t, at(t, up.URL))
	skew.Store(int64(time.Hour))
	before := up.asked("")
	if res, err := w.Resolve(ctx, nobody, "a", tag("v1"), d); err != nil || res.Digest != d || res.Warning == "" {
		t.Errorf("what is here: %+v, %v", res, err)
	}
	if _, err := w.Resolve(ctx, nobody, "a", tag("v2"), ""); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("what is not here: %v", err)
	}
	if n := up.asked("") - before; n != 0 {
		t.Errorf("%d requests", n)
	}
	if err := w.Pause(ctx, rules[0].Name, false); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(ctx, nobody, "a", tag("v2"), ""); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Errorf("after that: %v", err)
	}
}

// TestTriggeredWhilePaused: copies that were due, or asked for, while their rule was paused
// are made soon after it is not any more, and not an interval later.
func TestTriggeredWhilePaused(t *testing.T) {
	up := newHostile(t)
	up.image(t, "a", "v1")
	rule := func() *syncer.Rule {
		r := at(t, up.URL, syncer.Content{Prefix: "a"})
		r.OnDemand, r.Interval = false, time.Hour
		return r
	}
	for name, w := range map[string]*world{
		"one":     open(t, rule()),
		"several": {Service: pair(t, memory.NewCatalog(memory.CatalogOptions{}), rule)[0]},
	} {
		ctx := t.Context()
		done := finished(t, w, 0)
		if err := w.Pause(ctx, done.Name, true); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second one finds room when the first was taken note of
			if err := w.Trigger(ctx, done.Name); err != nil {
				t.Fatal(err)
			}
			waitFor(t, name+": it is taken note of", func() bool { return w.Kicked() == 0 })
		}
		if err := w.Pause(ctx, done.Name, false); err != nil {
			t.Fatal(err)
		}
		finished(t, w, done.LastRun)
	}
}

// TestSemver: what counts as a semantic version is what zot takes for one: parts may be
// missing, and begin with zeros, as those of Ubuntu do.
func TestSemver(t *testing.T) {
	up := newHostile(t)
	want := []registry.Tag{"1", "1.2.3", "1.2.3-rc.1", "2024.01.15", "24.04", "24.04-rc-01", "v1.27"}
	for _, tag := range append(want, "latest", "1.2.3.4", "1.x", "1.2-a..b", "1-", "vv1", "1.2.3_4") {
		up.image(t, "a", string(tag))
	}
	r := at(t, up.URL, syncer.Content{Prefix: "a", Semver: true})
	r.OnDemand, r.Interval = false, time.Hour
	w := open(t, r)
	if done := finished(t, w, 0); done.LastError != "" {
		t.Errorf("the copy: %+v", done)
	}
	tags, err := w.catalog.Tags(t.Context(), nobody, "a", registry.Page[registry.Tag]{Limit: 100})
	if diff := cmp.Diff(want, tags.Items); err != nil || diff != "" {
		t.Errorf("tags: %v\n%s", err, diff)
	}
}

// TestEndlessList: an upstream that begins its list of tags, and never ends it, keeps the
// copies of a rule from going on for as long as those of an image may take, not for ever.
func TestEndlessList(t *testing.T) {
	for _, list := range []string{"/v2/_catalog", "/v2/a/tags/list"} {
		up := newHostile(t)
		up.image(t, "a", "v1")
		up.set(func() {
			up.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != list {
					return false
				}
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return true
			}
		})
		r := at(t, up.URL, syncer.Content{Prefix: "**"})
		r.OnDemand, r.Interval, r.Timeout = false, time.Hour, 100*time.Millisecond
		if done := finished(t, open(t, r), 0); done.LastError == "" {
			t.Errorf("%s: the copy: %+v", list, done)
		}
	}
}

// TestReferrers: who asks for what refers to a mirrored image gets what the upstream
// has, and not what only its list says.
func TestReferrers(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1")
	up.mu.Lock()
	sig, b := up.add(t, "a", "", registry.TypeManifest, map[string]any{
		"schemaVersion": 2, "mediaType": registry.TypeManifest, "artifactType": "application/x-sig",
		"config": up.blob("application/vnd.oci.empty.v1+json", []byte("{}")), "layers": []registry.Descriptor{},
		"subject": registry.Descriptor{MediaType: registry.TypeManifest, Digest: d, Size: 1},
	})
	up.mu.Unlock()
	liar, _ := up.image(t, "a", "")
	up.set(func() {
		up.referrers[d] = []registry.Descriptor{{MediaType: registry.TypeManifest, Digest: sig, Size: int64(len(b))}, {MediaType: registry.TypeManifest, Digest: liar, Size: 1}}
	})
	w := open(t, at(t, up.URL))
	ctx := t.Context()
	for range 5 {
		if err := w.FetchReferrers(ctx, nobody, "a", d); err != nil {
			t.Fatal(err)
		}
	}
	list, err := w.catalog.Referrers(ctx, nobody, "a", d, "", registry.Page[registry.Digest]{Limit: 10})
	if err != nil || len(list.Items) != 1 || list.Items[0].Digest != sig {
		t.Errorf("referrers: %v, %v", list, err)
	}
	if n := up.asked("GET /v2/a/referrers/"); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestMirrors: when a host fails the next of its rule is asked, but not for what the
// first says it does not have.
func TestMirrors(t *testing.T) {
	first, second := newHostile(t), newHostile(t)
	second.image(t, "a", "v1")
	r := at(t, first.URL)
	r.Hosts = append(r.Hosts, at(t, second.URL).Hosts...)
	w := open(t, r)
	if _, err := w.Resolve(t.Context(), nobody, "a", tag("v2"), ""); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Error(err)
	}
	if n := second.asked(""); n != 0 {
		t.Errorf("%d requests to a mirror for what the original does not have", n)
	}
	first.set(func() {
		first.answer = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(502); return true }
	})
	if _, err := w.Resolve(t.Context(), nobody, "a", tag("v1"), ""); err != nil {
		t.Error(err)
	}
}
