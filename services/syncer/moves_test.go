package syncer_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer"
)

// TestS095TagMoves: a rule that wants no tag to go back does not follow an upstream
// that serves an old release, and one that believes in versions does not let one change;
// what is here is served with a warning. Each move and each that was not followed
// leaves one audit event with both digests.
func TestS095TagMoves(t *testing.T) {
	for name, c := range map[string]struct {
		moves syncer.Moves
		tag   registry.Tag
		want  []int // which image the tag is here when it is 0, 1, 2, 0, 1, 2 upstream
		held  int
	}{
		"by default":          {"", "latest", []int{0, 1, 2, 0, 1, 2}, 0},
		"any":                 {syncer.MovesAny, "1.2.3", []int{0, 1, 2, 0, 1, 2}, 0},
		"forward":             {syncer.MovesForward, "latest", []int{0, 1, 2, 2, 2, 2}, 2},
		"forward: a version":  {syncer.MovesForward, "1.2.3", []int{0, 1, 2, 2, 2, 2}, 2},
		"versions: a version": {syncer.MovesVersions, "v1.2.3-rc.1", []int{0, 0, 0, 0, 0, 0}, 4},
		"versions: a line":    {syncer.MovesVersions, "1.2", []int{0, 1, 2, 2, 2, 2}, 2},
	} {
		for _, copies := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", copied"}[copies], func(t *testing.T) {
				up := newHostile(t)
				var images [3]registry.Digest
				for i := range images {
					images[i], _ = up.image(t, "a", itoa(i), []byte("layer "+itoa(i)))
				}
				r := at(t, up.URL, syncer.Content{Prefix: "a"})
				r.Moves = c.moves
				w := open(t, r)
				ctx := t.Context()
				var local registry.Digest
				moves := 0
				for step, want := range c.want {
					up.set(func() { up.manifests["a/"+string(c.tag)] = up.manifests["a/"+itoa(step%3)] })
					w.later.Add(int64(2 * time.Minute))
					var res registry.Resolution
					var err error
					if copies {
						err = w.Copy(ctx)
					} else {
						res, err = w.Resolve(ctx, nobody, "a", tag(c.tag), local)
					}
					if err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
					m, err := w.catalog.Manifest(ctx, nobody, "a", registry.ManifestQuery{Ref: tag(c.tag)})
					if err != nil || m.Digest != images[want] {
						t.Fatalf("step %d: the tag is image %d, %v; want %d", step, slices.Index(images[:], m.Digest), err, want)
					}
					if held := want != step%3; !copies && held != strings.Contains(res.Warning, "not followed") {
						t.Errorf("step %d: the warning %q", step, res.Warning)
					}
					if local != "" && local != m.Digest {
						moves++
					}
					local = m.Digest
				}
				for action, want := range map[string]int{"tag.move": moves, "mirror.hold": c.held} {
					log, err := w.catalog.AuditLog(ctx, nobody, registry.AuditQuery{Action: action, Object: "a:" + string(c.tag), Limit: 100})
					if err != nil || len(log.Items) != want {
						t.Errorf("%d events %s, want %d: %+v, %v", len(log.Items), action, want, log.Items, err)
					}
				}
			})
		}
	}
}

// TestS095Held: what is held is asked for no more often than another tag, is told of
// once, outlives its removal here, and comes with a rollback and with another rule only.
func TestS095Held(t *testing.T) {
	up := newHostile(t)
	old, _ := up.image(t, "a", "v1.0.0", []byte("old"))
	r := at(t, up.URL)
	r.Moves = syncer.MovesVersions
	w := open(t, r)
	ctx := t.Context()
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1.0.0"), ""); err != nil {
		t.Fatal(err)
	}
	changed, _ := up.image(t, "a", "v1.0.0", []byte("new"))
	for range 3 {
		w.later.Add(int64(2 * time.Minute))
		before := up.asked("")
		for range 5 {
			if res, err := w.Resolve(ctx, nobody, "a", tag("v1.0.0"), old); err != nil || res.Digest != old {
				t.Fatal(res, err)
			}
		}
		if n := up.asked("") - before; n > 2 {
			t.Errorf("%d requests for a tag that is held", n)
		}
	}
	log, err := w.catalog.AuditLog(ctx, nobody, registry.AuditQuery{Action: "mirror.hold", Limit: 10})
	if err != nil || len(log.Items) != 1 {
		t.Fatalf("events: %+v, %v", log.Items, err)
	}
	e := log.Items[0]
	want := registry.AuditEvent{
		ID: e.ID, At: e.At, Actor: "berth-sync", Action: "mirror.hold", Object: registry.TagMove("a", "v1.0.0", old, changed), Status: 403, Result: "DENIED",
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Error(diff)
	}
	if err := w.catalog.DeleteTag(ctx, nobody, "a", "v1.0.0", registry.Condition{}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Resolve(ctx, nobody, "a", tag("v1.0.0"), ""); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("a tag that was removed here: %v", err)
	}
	w.close()
	w.start(t, at(t, up.URL))
	if res, err := w.Resolve(ctx, nobody, "a", tag("v1.0.0"), ""); err != nil || res.Digest != changed {
		t.Errorf("by another rule: %+v, %v", res, err)
	}
}
