package registrytest

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

// MirrorBackend is an implementation of [registry.Mirror] to test.
type MirrorBackend struct {
	// New returns one with a single rule, on demand and without a schedule, that covers
	// hub/** by the same names and does with pushes what push says.
	New func(t *testing.T, push registry.PushRule) Mirrored
	// Cannot names tests of what it can't do.
	Cannot []string
}

// Mirrored is a mirror, what it fetches into, and what it fetches from.
type Mirrored struct {
	registry.Mirror
	Rule    string // name of the rule, which is what the upstream is called, too
	Catalog registry.Catalog
	// Upstream is the catalog of the upstream, and UpstreamBlobs its bytes.
	Upstream      registry.Catalog
	UpstreamBlobs registry.Blobs
	// Blobs are the bytes here.
	Blobs registry.Blobs
	// Down says whether the upstream can't be reached from now on.
	Down func(bool)
	// Background tells that pushes are passed on without being asked for.
	Background bool
}

// Mirror tests an implementation of [registry.Mirror].
func Mirror(t *testing.T, b MirrorBackend) {
	open := func(push registry.PushRule) func(*testing.T) Mirrored {
		return func(t *testing.T) Mirrored { return b.New(t, push) }
	}
	groups := []struct {
		push  registry.PushRule
		tests []test[Mirrored]
	}{
		{registry.PushAllow, []test[Mirrored]{
			{"pull", mirrorPull},
			{"nothing covers", mirrorUncovered},
			{"upstream is down", mirrorDown},
			{"claims", mirrorClaims},
			{"referrers", mirrorReferrers},
			{"steering", mirrorSteering},
			{"presence", mirrorPresence},
			{"nothing is passed on", mirrorForwardsNothing},
		}},
		{registry.PushForward, []test[Mirrored]{
			{"pushes are passed on", mirrorForwards},
			{"pushes that were not made", mirrorForwardsNot},
			{"pushes that are given up", mirrorForwardsDropped},
		}},
		{registry.PushDeny, []test[Mirrored]{{"pushes are refused", mirrorDenies}}},
	}
	for _, g := range groups {
		var cannot []string
		for _, c := range g.tests {
			for _, name := range b.Cannot {
				if c.name == name {
					cannot = append(cannot, name)
				}
			}
		}
		runAll(t, cannot, g.tests, open(g.push))
	}
}

// mirrorImage is an image that is somewhere.
type mirrorImage struct {
	digest, layer registry.Digest
	layerData     []byte
	size          int64 // of config and layer
}

// store puts an image of one layer into a catalog, as somebody who pushes.
func storeImage(t *testing.T, c registry.Catalog, b registry.Blobs, repo registry.Name, seed string, tags ...registry.Tag) mirrorImage {
	t.Helper()
	config, layer := []byte(`{"architecture":"amd64","os":"linux","seed":"`+seed+`"}`), []byte("layer of "+seed)
	for _, data := range [][]byte{config, layer} {
		storeBlob(t, c, b, repo, data)
	}
	m := imageOf(config, layer)
	_, err := c.PutManifest(t.Context(), alice, repo, registry.ManifestPut{Digest: sha256of(m), MediaType: registry.TypeManifest, Bytes: m, Tags: tags})
	must(t, "PutManifest", err)
	return mirrorImage{sha256of(m), sha256of(layer), layer, int64(len(config) + len(layer))}
}

func storeBlob(t *testing.T, c registry.Catalog, b registry.Blobs, repo registry.Name, data []byte) {
	t.Helper()
	u, err := b.Start(t.Context(), "", registry.SHA256)
	must(t, "Start", err)
	s, err := b.Commit(t.Context(), u, strings.NewReader(string(data)), sha256of(data))
	must(t, "Commit", err)
	_, err = c.Link(t.Context(), alice, repo, s)
	must(t, "Link", err)
}

func (m Mirrored) put(t *testing.T, repo registry.Name, seed string, tags ...registry.Tag) mirrorImage {
	t.Helper()
	return storeImage(t, m.Upstream, m.UpstreamBlobs, repo, seed, tags...)
}

func byTag(t registry.Tag) registry.Reference { return registry.Reference{Tag: t} }

// A manifest that was resolved is in the catalog, byte for byte, with its tag; a blob
// comes whole or in part, and is in the catalog then.
func mirrorPull(t *testing.T, m Mirrored) {
	ctx := t.Context()
	x := m.put(t, "hub/app", "x", "v1")
	res, err := m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	must(t, "Resolve", err)
	if diff := cmp.Diff(registry.Resolution{Digest: x.digest}, res); diff != "" {
		t.Errorf("Resolve: -want +got\n%s", diff)
	}
	here, err := m.Catalog.Manifest(ctx, alice, "hub/app", registry.ManifestQuery{Ref: byTag("v1")})
	must(t, "Manifest", err)
	if here.Digest != x.digest || sha256of(here.Bytes) != x.digest {
		t.Errorf("Manifest: got %s", here.Digest)
	}
	if pushed, err := m.Catalog.PushedTo(ctx, alice, "hub/app"); err != nil || pushed {
		t.Errorf("what was fetched counts as pushed: %v, %v", pushed, err)
	}
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("never"), "")
	wantErr(t, "Resolve of what nobody has", err, registry.ErrManifestUnknown)

	size, err := m.Stat(ctx, alice, "hub/app", x.layer)
	if err != nil || size != int64(len(x.layerData)) {
		t.Errorf("Stat: got %d, %v", size, err)
	}
	for _, c := range []struct {
		r    registry.Range
		want string
	}{{registry.Whole, string(x.layerData)}, {registry.Range{Offset: 2, Length: 3}, string(x.layerData[2:5])}} {
		content, err := m.Open(ctx, alice, "hub/app", x.layer, c.r)
		must(t, "Open", err)
		got, err := io.ReadAll(content)
		if err != nil || string(got) != c.want || content.Size() != int64(len(c.want)) {
			t.Errorf("Open: got %q of %d, %v, want %q", got, content.Size(), err, c.want)
		}
		must(t, "Close", content.Close())
	}
	m.await(t, "the blob in the catalog", func() bool {
		_, err := m.Catalog.Blob(ctx, alice, "hub/app", x.layer)
		return err == nil
	})
	_, err = m.Stat(ctx, alice, "hub/app", sha256of([]byte("no such blob")))
	wantErr(t, "Stat of what nobody has", err, registry.ErrBlobUnknown)
	_, err = m.Open(ctx, alice, "hub/app", sha256of([]byte("nor such")), registry.Whole)
	wantErr(t, "Open of what nobody has", err, registry.ErrBlobUnknown)
	name, err := m.Route(ctx, m.Rule, "hub/app")
	if err != nil || name != "hub/app" {
		t.Errorf("Route: got %q, %v", name, err)
	}
}

// await waits until something is so.
func (m Mirrored) await(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// What no rule covers is asked of nobody.
func mirrorUncovered(t *testing.T, m Mirrored) {
	ctx := t.Context()
	x := m.put(t, "other/app", "x", "v1")
	_, err := m.Resolve(ctx, alice, "other/app", byTag("v1"), "")
	wantErr(t, "Resolve", err, registry.ErrNameUnknown)
	_, err = m.Stat(ctx, alice, "other/app", x.layer)
	wantErr(t, "Stat", err, registry.ErrNameUnknown)
	_, err = m.Open(ctx, alice, "other/app", x.layer, registry.Whole)
	wantErr(t, "Open", err, registry.ErrNameUnknown)
	wantErr(t, "FetchReferrers", m.FetchReferrers(ctx, alice, "other/app", x.digest), registry.ErrNameUnknown)
	_, err = m.Route(ctx, "registry.example.com", "hub/app")
	wantErr(t, "Route", err, registry.ErrNameUnknown)
	c, err := m.Covers(ctx, "other/app")
	if err != nil || c != (registry.Coverage{}) {
		t.Errorf("Covers: got %+v, %v", c, err)
	}
}

// What is here is confirmed when nobody can be asked; what is not is not unknown then.
func mirrorDown(t *testing.T, m Mirrored) {
	ctx := t.Context()
	x := m.put(t, "hub/app", "x", "v1")
	_, err := m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	must(t, "Resolve", err)
	m.Down(true)
	res, err := m.Resolve(ctx, alice, "hub/app", byTag("v1"), x.digest)
	if err != nil || res.Digest != x.digest {
		t.Errorf("Resolve of what is here: got %+v, %v", res, err)
	}
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("v2"), "")
	wantErr(t, "Resolve of what is not here", err, registry.ErrUnavailable)
	_, err = m.Stat(ctx, alice, "hub/app", x.layer)
	wantErr(t, "Stat", err, registry.ErrUnavailable)
	_, err = m.Open(ctx, alice, "hub/app", x.layer, registry.Whole)
	wantErr(t, "Open", err, registry.ErrUnavailable)
	m.Down(false)
	m.put(t, "hub/app", "y", "v3")
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("v3"), "")
	must(t, "Resolve when it is up again", err)
}

// Nothing is fetched into a repository that was pushed to, until somebody says that
// this does not count.
func mirrorClaims(t *testing.T, m Mirrored) {
	ctx := t.Context()
	m.put(t, "hub/app", "x", "v1")
	must(t, "Claim", m.Claim(ctx, alice, "hub/app"))
	storeImage(t, m.Catalog, m.Blobs, "hub/app", "ours", "mine")
	c, err := m.Covers(ctx, "hub/app")
	if diff := cmp.Diff(registry.Coverage{Rule: m.Rule, Push: registry.PushAllow, Claimed: true}, c); err != nil || diff != "" {
		t.Errorf("Covers: %v, -want +got\n%s", err, diff)
	}
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	wantErr(t, "Resolve", err, registry.ErrNameUnknown)
	must(t, "Forget", m.Forget(ctx, "hub/app"))
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	must(t, "Resolve after Forget", err)
	if c, err = m.Covers(ctx, "hub/app"); err != nil || c.Claimed {
		t.Errorf("Covers after Forget: %+v, %v", c, err)
	}
	// Past the mirror: nobody has claimed it.
	m.put(t, "hub/tool", "x", "v1")
	storeImage(t, m.Catalog, m.Blobs, "hub/tool", "ours", "mine")
	_, err = m.Resolve(ctx, alice, "hub/tool", byTag("v1"), "")
	wantErr(t, "Resolve of what was pushed to before", err, registry.ErrNameUnknown)
}

// What refers to a manifest comes with the question for it.
func mirrorReferrers(t *testing.T, m Mirrored) {
	ctx := t.Context()
	x := m.put(t, "hub/app", "x", "v1")
	storeBlob(t, m.Upstream, m.UpstreamBlobs, "hub/app", []byte("{}"))
	sig := referrer(x.digest, "application/signature", []byte("{}")).bytes()
	_, err := m.Upstream.PutManifest(ctx, alice, "hub/app", registry.ManifestPut{Digest: sha256of(sig), MediaType: registry.TypeManifest, Bytes: sig})
	must(t, "PutManifest", err)
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	must(t, "Resolve", err)
	must(t, "FetchReferrers", m.FetchReferrers(ctx, alice, "hub/app", x.digest))
	list, err := m.Catalog.Referrers(ctx, alice, "hub/app", x.digest, "", registry.Page[registry.Digest]{Limit: 10})
	if err != nil || len(list.Items) != 1 || list.Items[0].Digest != sha256of(sig) {
		t.Errorf("Referrers: got %+v, %v", list.Items, err)
	}
}

// Rules can be paused, asked and triggered, by their names only.
func mirrorSteering(t *testing.T, m Mirrored) {
	ctx := t.Context()
	rule := func() registry.MirrorRule {
		rules, err := m.MirrorRules(ctx)
		if err != nil || len(rules) != 1 || rules[0].Name != m.Rule || !rules[0].OnDemand || rules[0].Push != registry.PushAllow || len(rules[0].Scope) == 0 {
			t.Fatalf("MirrorRules: %+v, %v", rules, err)
		}
		return rules[0]
	}
	if rule().Paused {
		t.Error("the rule is paused")
	}
	for what, err := range map[string]error{
		"Pause": m.Pause(ctx, "nobody", true), "Trigger": m.Trigger(ctx, "nobody"), "Reforward": m.Reforward(ctx, "nobody"),
	} {
		wantErr(t, what+" of no rule", err, registry.ErrNameUnknown)
	}
	_, err := m.Examine(ctx, "nobody")
	wantErr(t, "Examine of no rule", err, registry.ErrNameUnknown)
	wantErr(t, "Trigger without a schedule", m.Trigger(ctx, m.Rule), registry.ErrUnsupported)
	steps, err := m.Examine(ctx, m.Rule)
	if err != nil || len(steps) == 0 {
		t.Errorf("Examine: %+v, %v", steps, err)
	}
	for _, s := range steps {
		if !s.OK {
			t.Errorf("Examine: %+v", s)
		}
	}
	x := m.put(t, "hub/app", "x", "v1")
	must(t, "Pause", m.Pause(ctx, m.Rule, true))
	if !rule().Paused {
		t.Error("the rule is not paused")
	}
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	wantErr(t, "Resolve while it is paused", err, registry.ErrUnavailable)
	must(t, "Pause, no more", m.Pause(ctx, m.Rule, false))
	before := rule().Saved
	must(t, "Served", m.Served(ctx, []registry.Served{{Repository: "hub/app", Bytes: 5}, {Repository: "other/app", Bytes: 7}, {Repository: "hub/tool", Bytes: 11}}))
	if got := rule().Saved - before; got != 16 {
		t.Errorf("Served: %d bytes are saved, want 16", got)
	}
	wantErr(t, "Served of less than nothing", m.Served(ctx, []registry.Served{{Repository: "hub/app", Bytes: -1}}), registry.ErrParameterInvalid)
	wantErr(t, "Served of too many", m.Served(ctx, slices.Repeat([]registry.Served{{Repository: "hub/app"}}, registry.MaxServed+1)), registry.ErrTooLarge)
	must(t, "Pause of all", m.Pause(ctx, registry.AllRules, true))
	if !rule().Paused {
		t.Error("all are paused, and the rule is not")
	}
	must(t, "Pause of all, no more", m.Pause(ctx, registry.AllRules, false))
	res, err := m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	if err != nil || res.Digest != x.digest {
		t.Errorf("Resolve after that: %+v, %v", res, err)
	}
	for _, repo := range []registry.Name{"hub/app", "other/app"} {
		if lines, err := m.Explain(ctx, repo); err != nil || len(lines) == 0 {
			t.Errorf("Explain: %q, %v", lines, err)
		}
	}
	if _, err := m.Fills(ctx); err != nil {
		t.Errorf("Fills: %v", err)
	}
	if _, err := m.Check(ctx); err != nil {
		t.Errorf("Check: %v", err)
	}
}

// How much of a tag is here is told in bytes.
func mirrorPresence(t *testing.T, m Mirrored) {
	ctx := t.Context()
	_, err := m.Presence(ctx, "hub/app", registry.Page[registry.Tag]{Limit: 10})
	wantErr(t, "Presence of no repository", err, registry.ErrNameUnknown)
	x := m.put(t, "hub/app", "x", "v1")
	_, err = m.Resolve(ctx, alice, "hub/app", byTag("v1"), "")
	must(t, "Resolve", err)
	check := func(what string, have int64, state registry.Presence) {
		t.Helper()
		list, err := m.Presence(ctx, "hub/app", registry.Page[registry.Tag]{Limit: 10})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("Presence: %+v, %v", list, err)
		}
		got := list.Items[0]
		if got.Tag != "v1" || got.Digest != x.digest || got.State != state || got.Have != have || got.Size != x.size || len(got.Platforms) != 1 {
			t.Errorf("%s: Presence: got %+v, want %s with %d of %d", what, got, state, have, x.size)
		}
	}
	check("only the manifest", 0, registry.Missing)
	content, err := m.Open(ctx, alice, "hub/app", x.layer, registry.Whole)
	must(t, "Open", err)
	_, err = io.Copy(io.Discard, content)
	must(t, "reading", err)
	must(t, "Close", content.Close())
	m.await(t, "the blob in the catalog", func() bool {
		_, err := m.Catalog.Blob(ctx, alice, "hub/app", x.layer)
		return err == nil
	})
	check("with its layer", int64(len(x.layerData)), registry.Partial)
}

func mirrorDenies(t *testing.T, m Mirrored) {
	c, err := m.Covers(t.Context(), "hub/app")
	if diff := cmp.Diff(registry.Coverage{Rule: m.Rule, Push: registry.PushDeny}, c); err != nil || diff != "" {
		t.Errorf("Covers: %v, -want +got\n%s", err, diff)
	}
}
