package registrytest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// push is what a gateway does.
func (m Mirrored) push(t *testing.T, repo registry.Name, seed string, tag registry.Tag) mirrorImage {
	t.Helper()
	config, layer := []byte(`{"architecture":"amd64","os":"linux","seed":"`+seed+`"}`), []byte("layer of "+seed)
	d := sha256of(imageOf(config, layer))
	receipt, err := m.Announce(t.Context(), alice, repo, registry.AnnouncedPush{Tags: []registry.Tag{tag}, Digest: d})
	must(t, "Announce", err)
	x := storeImage(t, m.Catalog, m.Blobs, repo, seed, tag)
	if receipt == "" {
		t.Fatal("Announce: there is no receipt")
	}
	must(t, "Settle", m.Settle(t.Context(), receipt, true))
	return x
}

func (m Mirrored) forwards(t *testing.T, q registry.ForwardQuery) []registry.Forward {
	t.Helper()
	q.Limit = 100
	all, err := m.Forwards(t.Context(), q)
	must(t, "Forwards", err)
	return all
}

// settled waits until nothing is left to be passed on.
func (m Mirrored) settled(t *testing.T) {
	t.Helper()
	m.await(t, "all is passed on", func() bool {
		must(t, "Reforward", m.Reforward(t.Context(), m.Rule))
		return len(m.forwards(t, registry.ForwardQuery{Open: true})) == 0
	})
}

// Pushes are passed on in their order when the upstream can be reached, and the
// repository goes on being a mirror.
func mirrorForwards(t *testing.T, m Mirrored) {
	ctx := t.Context()
	c, err := m.Covers(ctx, "hub/app")
	if diff := cmp.Diff(registry.Coverage{Rule: m.Rule, Push: registry.PushForward, Forward: true}, c); err != nil || diff != "" {
		t.Errorf("Covers: %v, -want +got\n%s", err, diff)
	}
	m.Down(true)
	first, second := m.push(t, "hub/app", "one", "v1"), m.push(t, "hub/app", "two", "v1")
	m.push(t, "hub/tool", "three", "v1")
	open := m.forwards(t, registry.ForwardQuery{Open: true})
	if len(open) != 3 || open[0].Digest != first.digest || open[1].Digest != second.digest || open[0].Number >= open[1].Number ||
		open[0].Rule != m.Rule || open[0].Repository != "hub/app" || open[0].Tag != "v1" || open[0].Actor != alice.ID || open[0].Since == 0 {
		t.Errorf("Forwards: got %+v", open)
	}
	if some := m.forwards(t, registry.ForwardQuery{Repository: "hub/tool"}); len(some) != 1 || some[0].Repository != "hub/tool" {
		t.Errorf("Forwards of a repository: got %+v", some)
	}
	if some := m.forwards(t, registry.ForwardQuery{After: open[1].Number}); len(some) != 1 {
		t.Errorf("Forwards behind a number: got %+v", some)
	}
	if some := m.forwards(t, registry.ForwardQuery{Rule: "nobody"}); len(some) != 0 {
		t.Errorf("Forwards of no rule: got %+v", some)
	}
	m.Down(false)
	m.settled(t)
	history, err := m.Upstream.TagHistory(ctx, alice, "hub/app", "v1", 10)
	must(t, "TagHistory", err)
	if len(history) != 2 || history[0].Digest != second.digest || history[1].Digest != first.digest {
		t.Errorf("the tag was %+v there", history)
	}
	for _, f := range m.forwards(t, registry.ForwardQuery{}) {
		if f.State != registry.ForwardDelivered {
			t.Errorf("Forwards: got %+v", f)
		}
	}
	theirs := m.put(t, "hub/app", "theirs", "v2")
	res, err := m.Resolve(ctx, alice, "hub/app", byTag("v2"), "")
	if err != nil || res.Digest != theirs.digest {
		t.Errorf("Resolve: got %+v, %v", res, err)
	}
}

// A push that was announced and not made is not passed on.
func mirrorForwardsNot(t *testing.T, m Mirrored) {
	ctx := t.Context()
	m.Down(true)
	receipt, err := m.Announce(ctx, alice, "hub/app", registry.AnnouncedPush{Tags: []registry.Tag{"v1", "v2"}, Digest: sha256of([]byte("never"))})
	must(t, "Announce", err)
	if all := m.forwards(t, registry.ForwardQuery{}); len(all) != 2 || all[0].State != registry.ForwardAnnounced {
		t.Errorf("Forwards: got %+v", all)
	}
	must(t, "Settle", m.Settle(ctx, receipt, false))
	if all := m.forwards(t, registry.ForwardQuery{}); len(all) != 0 {
		t.Errorf("Forwards: got %+v", all)
	}
	for _, bad := range []string{"", "x", "1", "1+x", "1+0", "+"} {
		wantErr(t, "Settle of "+bad, m.Settle(ctx, bad, true), registry.ErrParameterInvalid)
	}
	receipt, err = m.Announce(ctx, alice, "other/app", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: sha256of([]byte("x"))})
	if err != nil || receipt != "" {
		t.Errorf("Announce of what no rule covers: got %q, %v", receipt, err)
	}
	_, err = m.Forwards(ctx, registry.ForwardQuery{Limit: 1001})
	wantErr(t, "Forwards with a large limit", err, registry.ErrParameterInvalid)
}

// A push that is given up lets those behind it through.
func mirrorForwardsDropped(t *testing.T, m Mirrored) {
	ctx := t.Context()
	m.Down(true)
	m.push(t, "hub/app", "one", "v1")
	two := m.push(t, "hub/app", "two", "v2")
	number := m.forwards(t, registry.ForwardQuery{Open: true})[0].Number
	must(t, "DropForward", m.DropForward(ctx, number))
	m.Down(false)
	m.settled(t)
	_, err := m.Upstream.Manifest(ctx, alice, "hub/app", registry.ManifestQuery{Ref: byTag("v1")})
	wantErr(t, "Manifest that was given up", err, registry.ErrManifestUnknown)
	there, err := m.Upstream.Manifest(ctx, alice, "hub/app", registry.ManifestQuery{Ref: byTag("v2")})
	if err != nil || there.Digest != two.digest {
		t.Errorf("the one behind it: got %s, %v", there.Digest, err)
	}
	must(t, "DropForward of what has ended", m.DropForward(ctx, number))
	wantErr(t, "DropForward of none", m.DropForward(ctx, number), registry.ErrNameUnknown)
}

// Without a rule for it nothing is passed on.
func mirrorForwardsNothing(t *testing.T, m Mirrored) {
	ctx := t.Context()
	receipt, err := m.Announce(ctx, alice, "hub/app", registry.AnnouncedPush{Tags: []registry.Tag{"v1"}, Digest: sha256of([]byte("x"))})
	if err != nil || receipt != "" {
		t.Errorf("Announce: got %q, %v", receipt, err)
	}
	wantErr(t, "Reforward", m.Reforward(ctx, m.Rule), registry.ErrUnsupported)
	wantErr(t, "DropForward", m.DropForward(ctx, 1), registry.ErrNameUnknown)
	if all := m.forwards(t, registry.ForwardQuery{}); len(all) != 0 {
		t.Errorf("Forwards: got %+v", all)
	}
}
