package allinone

import (
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// has reports whether a tag or digest is there.
func (e *edge) has(repo registry.Name, r registry.Reference) bool {
	e.t.Helper()
	_, err := e.catalog.Manifest(e.t.Context(), operator, repo, registry.ManifestQuery{Ref: r, NoBytes: true})
	if err != nil && !errors.Is(err, registry.ErrManifestUnknown) && !errors.Is(err, registry.ErrNameUnknown) {
		e.t.Fatal(err)
	}
	return err == nil
}

func (e *edge) remove(repo, reference string) {
	e.t.Helper()
	e.do(http.MethodDelete, "/v2/"+repo+"/manifests/"+reference, "", nil, http.StatusAccepted)
}

// pause pauses a rule, or lets it go on.
func (e *edge) pause(rule string, paused bool) {
	e.t.Helper()
	if err := e.mirror.get().Pause(e.t.Context(), rule, paused); err != nil {
		e.t.Fatal(err)
	}
}

// TestForwardRemoval: what is removed while the other registry can't be reached is
// removed there when it can be, in its order among the pushes; what was pushed there by
// others stays.
func TestForwardRemoval(t *testing.T) {
	for _, topology := range []string{"linked", "split"} {
		t.Run(topology, func(t *testing.T) { testForwardRemoval(t, topology == "split") })
	}
}

func testForwardRemoval(t *testing.T, split bool) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	e := newEnd(t, link, `,"forward":{"deletes":true}`, split)
	e.push("team/app", "old", []byte("old"))
	e.push("team/app", "moved", []byte("moved"))
	gone := e.push("team/app", "whole", []byte("whole"))
	e.settled(link.name())
	// An attempt at a moment in which a manifest is not here would give its push up.
	e.pause(link.name(), true)
	theirs := hq.push("team/app", "moved", []byte("by others"))

	link.setDown(true)
	first := e.push("team/app", "back", []byte("first"))
	e.remove("team/app", "back")
	second := e.push("team/app", "back", []byte("second"))
	e.push("team/app", "brief", []byte("brief"))
	e.remove("team/app", "brief")
	e.remove("team/app", "old")
	e.remove("team/app", "moved")
	e.remove("team/app", string(gone))
	e.do(http.MethodDelete, "/v2/team/app/manifests/never", "", nil, http.StatusNotFound)
	// A removal by digest is about all tags: neither does a push before it come later,
	// nor one behind it earlier.
	stays := e.push("team/tool", "one", []byte("stays"))
	e.remove("team/tool", string(stays))
	e.push("team/tool", "two", []byte("stays"))
	goes := e.push("team/tool", "three", []byte("goes"))
	e.push("team/tool", "four", []byte("goes"))
	e.remove("team/tool", string(goes))
	waiting := e.forwards(true)
	if len(waiting) != 14 || waiting[1].Tag != "back" || !waiting[1].Deletion || waiting[1].Digest != first || waiting[7].Tag != "" || waiting[7].Digest != gone {
		t.Errorf("to be passed on: %+v", waiting)
	}
	e.pause(link.name(), false)
	waitFor(t, func() bool { return e.forwards(true)[0].Attempts > 0 })
	link.setDown(false)
	e.settled(link.name())

	if got, want := hq.history("team/app", "back"), []registry.Digest{first, "", second}; !slices.Equal(got, want) {
		t.Errorf("the tag that came back was %v there, want %v", got, want)
	}
	for _, tag := range []registry.Tag{"brief", "old", "whole"} {
		if hq.has("team/app", registry.Reference{Tag: tag}) {
			t.Errorf("%s is there", tag)
		}
	}
	if hq.has("team/app", registry.Reference{Digest: gone}) {
		t.Error("the manifest that was removed is there")
	}
	for tag, want := range map[registry.Tag]bool{"one": false, "two": true, "three": false, "four": false} {
		if hq.has("team/tool", registry.Reference{Tag: tag}) != want {
			t.Errorf("team/tool:%s is there: %v", tag, !want)
		}
	}
	if got := hq.history("team/app", "moved"); got[len(got)-1] != theirs {
		t.Errorf("the tag that others have moved was %v", got)
	}
	for _, f := range e.forwards(false) {
		want := registry.ForwardDelivered
		switch {
		case f.Tag == "moved":
			want = registry.ForwardKept
		case f.Digest == goes && !f.Deletion: // it was removed here before it could be sent
			want = registry.ForwardDropped
		}
		if f.State != want {
			t.Errorf("it ended as %+v, want %s", f, want)
		}
	}
}

// TestForwardRemovalOff: removals stay here unless the rule says else.
func TestForwardRemovalOff(t *testing.T) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	e := newEnd(t, link, "", false)
	e.push("a/b", "v1", []byte("one"))
	e.settled(link.name())
	e.remove("a/b", "v1")
	if len(e.forwards(true)) != 0 || !hq.has("a/b", registry.Reference{Tag: "v1"}) {
		t.Errorf("the removal is passed on: %+v", e.forwards(false))
	}
}

// TestForwardRemovalUnsettled: a removal of which nobody says what became of it is
// passed on if it was made.
func TestForwardRemovalUnsettled(t *testing.T) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	e := newEnd(t, link, `,"forward":{"deletes":true}`, false)
	e.push("a/b", "v1", []byte("one"))
	e.push("a/b", "v2", []byte("two"))
	e.settled(link.name())
	e.mirror.lost = true
	e.remove("a/b", "v1")
	if _, err := e.mirror.get().Announce(t.Context(), operator, "a/b", registry.AnnouncedPush{Tags: []registry.Tag{"v2"}, Deletion: true}); err != nil {
		t.Fatal(err)
	}
	e.stop()
	e.age(2 * time.Minute)
	e.start(link.rule(`,"forward":{"deletes":true}`))
	e.settled(link.name())
	if hq.has("a/b", registry.Reference{Tag: "v1"}) {
		t.Error("v1 is there")
	}
	if !hq.has("a/b", registry.Reference{Tag: "v2"}) {
		t.Error("v2, which is here, is not there")
	}
}

// TestForwardDrop: who gives a push up that waits lets those behind it through, and what
// is stored here stays.
func TestForwardDrop(t *testing.T) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	e := newEnd(t, link, "", true)
	link.down.Store(true)
	e.push("a/b", "v1", []byte("one"))
	e.push("a/b", "v2", []byte("two"))
	m := e.mirror.get()
	if err := m.DropForward(t.Context(), e.forwards(true)[0].Number); err != nil {
		t.Fatal(err)
	}
	link.down.Store(false)
	e.settled(link.name())
	if hq.has("a/b", registry.Reference{Tag: "v1"}) || !hq.has("a/b", registry.Reference{Tag: "v2"}) || !e.has("a/b", registry.Reference{Tag: "v1"}) {
		t.Error("the push that was given up is there, or another is not")
	}
	all := e.forwards(false)
	if len(all) != 2 || all[0].State != registry.ForwardDropped || all[0].Error == "" {
		t.Errorf("they ended as %+v", all)
	}
	if err := m.DropForward(t.Context(), all[0].Number); err != nil {
		t.Error(err)
	}
	if n := len(e.forwards(false)); n != 1 {
		t.Errorf("%d are remembered, want 1", n)
	}
	if err := m.DropForward(t.Context(), all[0].Number); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("DropForward of none: %v", err)
	}
}
