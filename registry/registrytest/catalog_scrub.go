package registrytest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func scrubTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ScrubDamaged", testScrubDamaged},
		{"ScrubFalseAlarm", testScrubFalseAlarm},
		{"ScrubEverything", testScrubEverything},
		{"ScrubMissing", testScrubMissing},
		{"ScrubDamagesPaged", testScrubDamagesPaged},
	}
}

// patient is a Reaper of copies that may be damaged.
type patient struct {
	*recorder
	mu  sync.Mutex
	bad map[registry.Locator]error
}

func newPatient() *patient {
	return &patient{recorder: newRecorder(), bad: make(map[registry.Locator]error)}
}

// Verify finds what hurt has done.
func (p *patient) Verify(ctx context.Context, s registry.Stored, _ int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.bad[s.Locator]; err != nil {
		return err
	}
	return ctx.Err()
}

func (p *patient) hurt(s registry.Stored, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bad[s.Locator] = err
}

// soon waits until done is so.
func soon(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// isUnknown reports whether repo does not know the blob d.
func (c *catalog) isUnknown(t *testing.T, repo registry.Name, d registry.Digest) bool {
	t.Helper()
	_, err := c.Blob(t.Context(), alice, repo, d)
	if err != nil && !errors.Is(err, registry.ErrBlobUnknown) {
		t.Fatalf("Blob: %v", err)
	}
	return err != nil
}

// A damaged copy does not count as stored, in any repository; what is pushed
// again takes its place in all of them, and the copy is removed.
func testScrubDamaged(t *testing.T, b CatalogBackend) {
	p := newPatient()
	c := b.open(t, CatalogOptions{Reaper: p})
	image := c.imageBytes(t, "a", "1")
	m := c.put(t, "a", registry.TypeManifest, image)
	data := []byte("layer")
	s := c.link(t, "a", data)
	_, err := c.Mount(t.Context(), alice, "b", s.Digest, "a")
	must(t, "Mount", err)
	good := c.link(t, "a", []byte("another"))
	c.checkBlob(t, "b", s)

	p.hurt(s, registry.ErrDigestInvalid)
	must(t, "ReportReads", c.ReportReads(t.Context(), []registry.ReadReport{{Stored: good}, {Stored: s, Damaged: true}}))
	soon(t, "the damaged blob is unknown", func() bool { return c.isUnknown(t, "a", s.Digest) })
	if !c.isUnknown(t, "b", s.Digest) {
		t.Error("the damaged blob is still known in the repository it was mounted in")
	}
	_, err = c.Mount(t.Context(), alice, "c", s.Digest, "a")
	wantErr(t, "Mount of a damaged blob", err, registry.ErrBlobUnknown)
	c.checkBlob(t, "a", good)
	_, err = c.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Digest: m}})
	must(t, "Manifest beside a damaged blob", err)
	list, err := c.Damages(t.Context(), alice, nil, 10)
	must(t, "Damages", err)
	if len(list) != 1 || list[0].Digest != s.Digest || list[0].Size != s.Size || list[0].Found == 0 || list[0].Reason == "" {
		t.Errorf("Damages: got %+v, want %s", list, s.Digest)
	}
	st, err := c.ScrubStatus(t.Context(), alice)
	must(t, "ScrubStatus", err)
	if st.Damaged != 1 {
		t.Errorf("ScrubStatus: got %+v, want one that is damaged", st)
	}

	again := c.copyOf("a", data)
	got, err := c.Link(t.Context(), alice, "d", again)
	must(t, "Link of what was damaged", err)
	if got != again {
		t.Errorf("Link: got %+v, want the new copy, %+v", got, again)
	}
	for _, repo := range []registry.Name{"a", "b", "d"} {
		c.checkBlob(t, repo, again)
	}
	if gone := p.wait(t, 1); !gone[s] {
		t.Errorf("removed was %v, want the damaged copy, %v", gone, s)
	}
	list, err = c.Damages(t.Context(), alice, nil, 10)
	must(t, "Damages", err)
	if len(list) != 0 {
		t.Errorf("Damages of a store that was healed: %+v", list)
	}
}

// A copy that is said to be damaged and is not stays.
func testScrubFalseAlarm(t *testing.T, b CatalogBackend) {
	p := newPatient()
	c := b.open(t, CatalogOptions{Reaper: p})
	fine, bad := c.link(t, "a", []byte("fine")), c.link(t, "a", []byte("bad"))
	stranger := c.copyOf("a", []byte("fine"))
	p.hurt(bad, registry.ErrDigestInvalid)
	p.hurt(stranger, registry.ErrDigestInvalid)
	must(t, "ReportReads", c.ReportReads(t.Context(), []registry.ReadReport{
		{Stored: fine, Damaged: true}, {Stored: stranger, Damaged: true}, {Stored: bad, Damaged: true},
	}))
	soon(t, "the damaged blob is unknown", func() bool { return c.isUnknown(t, "a", bad.Digest) })
	c.checkBlob(t, "a", fine)
	// Who read it before it was damaged can't make it whole.
	must(t, "ReportReads", c.ReportReads(t.Context(), []registry.ReadReport{{Stored: bad}}))
	if !c.isUnknown(t, "a", bad.Digest) {
		t.Error("a damaged blob is known again because somebody had read it")
	}
}

// StartScrub finds what nobody has read.
func testScrubEverything(t *testing.T, b CatalogBackend) {
	p := newPatient()
	c := b.open(t, CatalogOptions{Reaper: p, Pools: []registry.Pool{"/b"}})
	var bad []registry.Stored
	for _, repo := range []registry.Name{"a", "b/c"} {
		c.link(t, repo, []byte("fine"))
		s := c.link(t, repo, []byte("bad"))
		p.hurt(s, registry.ErrDigestInvalid)
		bad = append(bad, s)
	}
	must(t, "StartScrub", c.StartScrub(t.Context(), alice))
	soon(t, "the damaged blobs are unknown", func() bool { return c.isUnknown(t, "a", bad[0].Digest) && c.isUnknown(t, "b/c", bad[1].Digest) })
	list, err := c.Damages(t.Context(), alice, nil, 10)
	must(t, "Damages", err)
	if len(list) != 2 || list[0].Pool != "" || list[1].Pool != "/b" {
		t.Errorf("Damages: got %+v, want one of each pool", list)
	}
	// A file that somebody has put back from a backup is whole again.
	p.hurt(bad[0], nil)
	must(t, "StartScrub", c.StartScrub(t.Context(), alice))
	soon(t, "the blob that was put back is known", func() bool { return !c.isUnknown(t, "a", bad[0].Digest) })
}

// A copy that is not there is damaged, too.
func testScrubMissing(t *testing.T, b CatalogBackend) {
	p := newPatient()
	c := b.open(t, CatalogOptions{Reaper: p})
	s := c.link(t, "a", []byte("one"))
	p.hurt(s, registry.ErrBlobUnknown)
	must(t, "ReportReads", c.ReportReads(t.Context(), []registry.ReadReport{{Stored: s, Damaged: true}}))
	soon(t, "the missing blob is unknown", func() bool { return c.isUnknown(t, "a", s.Digest) })
	again := c.copyOf("a", []byte("one"))
	_, err := c.Link(t.Context(), alice, "a", again)
	must(t, "Link", err)
	c.checkBlob(t, "a", again)
}

func testScrubDamagesPaged(t *testing.T, b CatalogBackend) {
	p := newPatient()
	c := b.open(t, CatalogOptions{Reaper: p})
	const n = 7
	var reports []registry.ReadReport
	for i := range n {
		s := c.link(t, "a", noise(10, byte(i)))
		p.hurt(s, registry.ErrDigestInvalid)
		reports = append(reports, registry.ReadReport{Stored: s, Damaged: true})
	}
	must(t, "ReportReads", c.ReportReads(t.Context(), reports))
	var all []registry.Damage
	soon(t, "all are damaged", func() bool {
		var err error
		all, err = c.Damages(t.Context(), alice, nil, 100)
		must(t, "Damages", err)
		return len(all) == n
	})
	var paged []registry.Damage
	for after := (*registry.Damage)(nil); ; {
		page, err := c.Damages(t.Context(), alice, after, 3)
		must(t, "Damages", err)
		paged = append(paged, page...)
		if len(page) < 3 {
			break
		}
		after = &page[2]
	}
	if diff := cmp.Diff(all, paged); diff != "" {
		t.Errorf("pages differ from the whole list (-whole +pages):\n%s", diff)
	}
}
