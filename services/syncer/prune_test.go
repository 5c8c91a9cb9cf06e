package syncer_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer"
)

// pruned is a rule that copies all of an upstream and removes what is gone there.
func pruned(t *testing.T, up *hostile, p syncer.Prune) *syncer.Rule {
	t.Helper()
	r := at(t, up.URL, syncer.Content{Prefix: "**"})
	r.Interval, r.Prune = time.Hour, p
	return r
}

// again runs the copies once more.
func again(t *testing.T, w *world, last registry.MirrorRule) registry.MirrorRule {
	t.Helper()
	if err := w.Trigger(t.Context(), last.Name); err != nil {
		t.Fatal(err)
	}
	return finished(t, w, last.LastRun)
}

func (w *world) wantTags(t *testing.T, what string, repo registry.Name, want ...registry.Tag) {
	t.Helper()
	tags, err := w.catalog.Tags(t.Context(), nobody, repo, registry.Page[registry.Tag]{Limit: 100})
	if diff := cmp.Diff(want, tags.Items); err != nil || diff != "" {
		t.Errorf("%s: tags: %v\n%s", what, err, diff)
	}
}

// gone takes a tag from the upstream.
func (h *hostile) gone(repo, tag string) {
	h.set(func() { delete(h.manifests, repo+"/"+tag) })
}

// TestPrune: a tag that is gone upstream goes here after the grace, and can be brought
// back; its digest stays, and so does what is still there.
func TestPrune(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", []byte("one"))
	up.image(t, "a", "v2", []byte("two"))
	w := open(t, pruned(t, up, syncer.Prune{On: true, Grace: 24 * time.Hour}))
	ctx := t.Context()
	last := finished(t, w, 0)
	up.gone("a", "v1")
	last = again(t, w, last)
	w.wantTags(t, "within the grace", "a", "v1", "v2")
	lines, err := w.Explain(ctx, "a")
	if text := strings.Join(lines, "\n"); err != nil || !strings.Contains(text, "gone from "+up.URL+" for 24h") || !strings.Contains(text, "v1 is gone since ") {
		t.Errorf("Explain: %v\n%s", err, text)
	}
	skew.Add(int64(25 * time.Hour))
	last = again(t, w, last)
	w.wantTags(t, "after the grace", "a", "v2")
	if last.Prune != "on" || last.Pruned != 1 || last.LastError != "" {
		t.Errorf("the rule: %+v", last)
	}
	if _, err := w.catalog.Manifest(ctx, nobody, "a", registry.ManifestQuery{Ref: registry.Reference{Digest: d}}); err != nil {
		t.Errorf("the digest: %v", err)
	}
	log, err := w.catalog.AuditLog(ctx, nobody, registry.AuditQuery{Action: "mirror", Limit: 10})
	if err != nil || len(log.Items) != 1 || log.Items[0].Action != "mirror.prune" || log.Items[0].Object != "a:v1" || log.Items[0].Actor != "berth-sync" {
		t.Errorf("the audit log: %+v, %v", log.Items, err)
	}
	if err := w.catalog.Undelete(ctx, nobody, "a", registry.Reference{Tag: "v1"}); err != nil {
		t.Errorf("Undelete: %v", err)
	}
}

// TestPruneDoubts: no tag goes because a list could not be had, was cut off, is empty,
// or leaves out what the upstream still has; nor if another upstream has it, if it is
// told of only, or if it came back within the grace.
func TestPruneDoubts(t *testing.T) {
	type world2 struct {
		*world
		up *hostile
	}
	list := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/tags/list") }
	answer := func(up *hostile, f func(http.ResponseWriter, *http.Request) bool) {
		up.set(func() { up.answer = f })
	}
	for name, c := range map[string]struct {
		doubt  func(t *testing.T, w world2)
		prune  syncer.Prune
		second bool // another rule has the tag, too
		runs   bool // without an error
	}{
		"list fails": {doubt: func(_ *testing.T, w world2) {
			answer(w.up, func(rw http.ResponseWriter, r *http.Request) bool {
				if list(r) {
					rw.WriteHeader(http.StatusInternalServerError)
				}
				return list(r)
			})
		}},
		"list is cut off": {doubt: func(_ *testing.T, w world2) {
			answer(w.up, func(rw http.ResponseWriter, r *http.Request) bool {
				if list(r) {
					_, _ = rw.Write([]byte(`{"name":"a","tags":["v2"`))
				}
				return list(r)
			})
		}},
		"second page fails": {doubt: func(_ *testing.T, w world2) {
			answer(w.up, func(rw http.ResponseWriter, r *http.Request) bool {
				switch {
				case !list(r):
					return false
				case r.URL.Query().Has("last"):
					rw.WriteHeader(http.StatusBadGateway)
				default:
					rw.Header().Set("Link", `</v2/a/tags/list?last=v2>; rel="next"`)
					_, _ = rw.Write([]byte(`{"name":"a","tags":["v2"]}`))
				}
				return true
			})
		}},
		"list is empty": {runs: true, doubt: func(_ *testing.T, w world2) { w.up.gone("a", "v2") }},
		"list leaves out what is there": {runs: true, doubt: func(t *testing.T, w world2) {
			w.up.image(t, "a", "v1", []byte("one"))
			answer(w.up, func(rw http.ResponseWriter, r *http.Request) bool {
				if list(r) {
					_, _ = rw.Write([]byte(`{"name":"a","tags":["v2"]}`))
				}
				return list(r)
			})
		}},
		"question for the tag is refused": {doubt: func(_ *testing.T, w world2) {
			answer(w.up, func(rw http.ResponseWriter, r *http.Request) bool {
				asked := strings.HasSuffix(r.URL.Path, "/manifests/v1")
				if asked {
					rw.WriteHeader(http.StatusForbidden)
				}
				return asked
			})
		}},
		"another upstream has it": {runs: true, second: true},
		"it was pushed": {runs: true, doubt: func(t *testing.T, w world2) {
			m, err := w.catalog.Manifest(t.Context(), nobody, "a", registry.ManifestQuery{Ref: tag("v1")})
			if err != nil {
				t.Fatal(err)
			}
			// Past the gateway: nobody has told the syncer.
			if _, err := w.catalog.PutManifest(t.Context(), nobody, "a", registry.ManifestPut{Digest: m.Digest, MediaType: m.MediaType, Bytes: m.Bytes, Tags: []registry.Tag{"v1"}}); err != nil {
				t.Fatal(err)
			}
		}},
		"it is pinned": {runs: true, doubt: func(t *testing.T, w world2) {
			if err := w.catalog.SetPin(t.Context(), nobody, registry.Pin{Pattern: "a:v1"}); err != nil {
				t.Fatal(err)
			}
		}},
		"dry run": {runs: true, prune: syncer.Prune{On: true, DryRun: true}},
		"off":     {runs: true, prune: syncer.Prune{Grace: time.Nanosecond}},
		"back within the grace": {runs: true, prune: syncer.Prune{On: true, Grace: 2 * time.Hour}, doubt: func(t *testing.T, w world2) {
			rules, err := w.MirrorRules(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			w.up.image(t, "a", "v1", []byte("one"))
			again(t, w.world, rules[0])
			w.up.gone("a", "v1")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			up := newHostile(t)
			up.image(t, "a", "v1", []byte("one"))
			up.image(t, "a", "v2", []byte("two"))
			p := c.prune
			if p == (syncer.Prune{}) {
				p = syncer.Prune{On: true, Grace: time.Minute}
			}
			rules := []*syncer.Rule{pruned(t, up, p)}
			if c.second {
				other := newHostile(t)
				other.image(t, "a", "v1", []byte("one"))
				rules = append(rules, at(t, other.URL))
			}
			w := world2{open(t, rules...), up}
			last := finished(t, w.world, 0)
			up.gone("a", "v1")
			again(t, w.world, last) // it is noted to be gone
			skew.Add(int64(time.Hour))
			if c.doubt != nil {
				c.doubt(t, w)
			}
			seen, err := w.MirrorRules(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			last = again(t, w.world, seen[0])
			if (last.LastError == "") != c.runs {
				t.Errorf("the copy: %+v", last)
			}
			w.wantTags(t, name, "a", "v1", "v2")
			if last.Pruned != 0 {
				t.Errorf("%d tags are said to be removed", last.Pruned)
			}
		})
	}
}

// TestPruneMirror: an upstream's mirror that answers in its place may lag behind.
func TestPruneMirror(t *testing.T) {
	up, behind := newHostile(t), newHostile(t)
	up.image(t, "a", "v1", []byte("one"))
	behind.image(t, "a", "v0", []byte("old"))
	r := pruned(t, up, syncer.Prune{On: true})
	r.Hosts = append(r.Hosts, at(t, behind.URL).Hosts...)
	w := open(t, r)
	last := finished(t, w, 0)
	up.set(func() {
		up.answer = func(rw http.ResponseWriter, _ *http.Request) bool { rw.WriteHeader(http.StatusBadGateway); return true }
	})
	again(t, w, last)
	if _, err := w.catalog.Manifest(t.Context(), nobody, "a", registry.ManifestQuery{Ref: tag("v1")}); err != nil {
		t.Errorf("the tag: %v", err)
	}
}
