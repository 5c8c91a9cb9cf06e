package metadata_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// handClock is a clock that a test moves.
type handClock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func newClock() *handClock { return &handClock{at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// keeper is a store with real bytes and a clock that a test moves.
type keeper struct {
	*store
	blobs *memory.Blobs
	clock *handClock
}

// Times of the stores in these tests.
const (
	lease = 10 * time.Minute
	undo  = time.Hour
)

// newKeeper opens a store. Its workers in the background see the same clock; they
// may collect what a test is about to.
func newKeeper(t testing.TB, at place, o metadata.Options) *keeper {
	t.Helper()
	k := &keeper{blobs: memory.NewBlobs(), clock: newClock()}
	o.Now = k.clock.now
	if o.GC.Undo == 0 {
		o.GC.Undo = undo
	}
	k.store = openStore(t, at, o, k.blobs)
	return k
}

// upload stores content and returns the copy, which nobody knows yet.
func (k *keeper) upload(t testing.TB, text string) registry.Stored {
	t.Helper()
	u, err := k.blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.blobs.Commit(t.Context(), u, strings.NewReader(text), registry.SHA256.FromString(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// link uploads content and makes it known in repo.
func (k *keeper) link(t testing.TB, repo registry.Name, text string) registry.Stored {
	t.Helper()
	s, err := k.Link(t.Context(), alice, repo, k.upload(t, text))
	if err != nil {
		t.Fatalf("Link: %v", err)
	}
	return s
}

// push pushes an image whose content differs by its name.
func (k *keeper) push(t testing.TB, repo registry.Name, name string, tags ...registry.Tag) registry.ManifestPut {
	t.Helper()
	m := image(k.link(t, repo, "config of "+name), []registry.Stored{k.link(t, repo, "layer of "+name)}, tags...)
	put(t, k, repo, m)
	return m
}

// collect lets time pass and collects all that goes then, in as many steps as one
// thing follows the other.
func (k *keeper) collect(t testing.TB, pass time.Duration) (sum metadata.Collected) {
	t.Helper()
	k.clock.move(pass)
	done, err := metadata.CollectAll(t.Context(), k.Catalog, false)
	if err != nil {
		t.Fatalf("collecting: %v", err)
	}
	return done
}

// settle collects until everything has gone that can go.
func (k *keeper) settle(t testing.TB) {
	t.Helper()
	for range 8 {
		k.collect(t, undo+2*lease)
	}
}

// copies waits for the garbage queue and returns what is stored.
func (k *keeper) copies(t testing.TB) []string {
	t.Helper()
	k.drain(t)
	all, err := k.blobs.Copies(t.Context(), "", nil, 1000)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{}
	for _, s := range all {
		content, err := k.blobs.Open(t.Context(), s, registry.Whole)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		content.Close()
		texts = append(texts, string(b))
	}
	slices.Sort(texts)
	return texts
}

// drain waits until the garbage queue is empty.
func (k *keeper) drain(t testing.TB) {
	t.Helper()
	for {
		var n int
		if err := k.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM garbage WHERE attempts >= 0`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		time.Sleep(time.Millisecond) // another goroutine removes them
	}
}

// has reports whether repo has a manifest.
func (k *keeper) has(t testing.TB, repo registry.Name, d registry.Digest) bool {
	t.Helper()
	_, err := k.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}, NoBytes: true})
	return err == nil
}

// sound runs fsck.
func (k *keeper) sound(t testing.TB) {
	t.Helper()
	for f, err := range k.Fsck(t.Context(), k.blobs, true) {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("fsck: %v", f)
	}
}

// I7: what nothing refers to goes when its time has come, step by step, down to
// the bytes and the repository; what is tagged stays.
func TestI7CollectsWhatIsUnreachable(t *testing.T) { onEach(t, testI7CollectsWhatIsUnreachable) }

func testI7CollectsWhatIsUnreachable(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	ctx := t.Context()
	kept := k.push(t, "a", "kept", "v1")
	gone := k.push(t, "a", "gone", "old")
	k.push(t, "b", "other", "latest")
	k.link(t, "c", "never used")
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("DeleteTag", k.DeleteTag(ctx, alice, "a", "old", registry.Condition{}))
	must("DeleteManifest", k.DeleteManifest(ctx, alice, "b", tagged(t, k, "b", "latest")))

	k.collect(t, undo-time.Second)
	if !k.has(t, "a", gone.Digest) {
		t.Error("the untagged manifest went before its undo window ended")
	}
	k.settle(t)
	if k.has(t, "a", gone.Digest) {
		t.Error("the untagged manifest is still there")
	}
	if !k.has(t, "a", kept.Digest) {
		t.Error("the tagged manifest has gone")
	}
	if diff := cmp.Diff([]string{"config of kept", "layer of kept"}, k.copies(t)); diff != "" {
		t.Errorf("stored bytes: -want +got\n%s", diff)
	}
	list, err := k.Repositories(ctx, alice, registry.Page[registry.Name]{Limit: 10})
	if diff := cmp.Diff([]registry.Name{"a"}, list.Items); err != nil || diff != "" {
		t.Errorf("Repositories: -want +got\n%s (%v)", diff, err)
	}
	k.sound(t)
}

// What an index needs stays with it; what refers to a manifest follows it.
func TestI7IndexesAndReferrers(t *testing.T) { onEach(t, testI7IndexesAndReferrers) }

func testI7IndexesAndReferrers(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	one, two := k.push(t, "a", "one"), k.push(t, "a", "two")
	idx := index([]registry.ManifestPut{one, two}, "multi")
	put(t, k, "a", idx)
	empty := k.link(t, "a", "{}")
	signature := referrer(empty, "application/x-signature", one)
	put(t, k, "a", signature)
	about := referrer(empty, "application/x-note", signature) // about a referrer
	put(t, k, "a", about)
	all := []registry.ManifestPut{one, two, idx, signature, about}

	k.settle(t)
	for i, m := range all {
		if !k.has(t, "a", m.Digest) {
			t.Errorf("manifest %d has gone though the index is tagged", i)
		}
	}
	if err := k.DeleteTag(t.Context(), alice, "a", "multi", registry.Condition{}); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	for i, m := range all {
		if k.has(t, "a", m.Digest) {
			t.Errorf("manifest %d is there though the index has gone", i)
		}
	}
	if got := k.copies(t); len(got) > 0 {
		t.Errorf("stored bytes are left: %q", got)
	}
	k.sound(t)
}

// I2: what was uploaded, mounted or said to be there can be used for a lease, in
// each of the three ways to hear of it.
func TestI2Promises(t *testing.T) { onEach(t, testI2Promises) }

func testI2Promises(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	ctx := t.Context()
	layer := k.link(t, "a", "layer")
	config := k.link(t, "a", "{}")
	head := func(repo registry.Name, s registry.Stored) {
		t.Helper()
		if _, err := k.Blob(ctx, alice, repo, s.Digest); err != nil {
			t.Fatalf("Blob: %v", err)
		}
	}
	// Steps shorter than a lease: there never is a moment without a promise.
	for range 30 {
		k.collect(t, lease-time.Second)
		head("a", layer)
		head("a", config)
	}
	if _, err := k.Mount(ctx, alice, "b", layer.Digest, "a"); err != nil {
		t.Fatal(err)
	}
	k.collect(t, lease-time.Second)
	head("b", layer)
	m := image(config, []registry.Stored{layer})
	k.collect(t, lease-time.Second)
	put(t, k, "a", m)

	// An untagged manifest is promised, too: an index may list it.
	for range 30 {
		k.collect(t, lease-time.Second)
		if !k.has(t, "a", m.Digest) {
			t.Fatal("the manifest has gone though somebody was told that it is there")
		}
	}
	k.settle(t)
	if k.has(t, "a", m.Digest) {
		t.Error("the untagged manifest is still there")
	}
	if got := k.copies(t); len(got) > 0 {
		t.Errorf("stored bytes are left: %q", got)
	}
	k.sound(t)
}

// Who was told that content is there while a manifest needed it can use it for a
// lease after the manifest was deleted for good.
func TestI2PromisesOfNeededContent(t *testing.T) { onEach(t, testI2PromisesOfNeededContent) }

func testI2PromisesOfNeededContent(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{GC: metadata.GC{Undo: time.Nanosecond}})
	m := k.push(t, "a", "x", "latest")
	layer := registry.SHA256.FromString("layer of x")
	k.settle(t)
	for range 2 { // the second answer may come from a cache
		if _, err := k.Blob(t.Context(), alice, "a", layer); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.DeleteManifest(t.Context(), alice, "a", m.Digest); err != nil {
		t.Fatal(err)
	}
	k.collect(t, lease-time.Second)
	for range 2 {
		if _, err := k.Blob(t.Context(), alice, "a", layer); err != nil {
			t.Fatalf("within a lease after the delete: %v", err)
		}
	}
	k.collect(t, lease-time.Second)
	if _, err := k.Blob(t.Context(), alice, "a", layer); err != nil {
		t.Errorf("within a lease after it was promised: %v", err)
	}
	k.settle(t)
	_, err := k.Blob(t.Context(), alice, "a", layer)
	if err == nil {
		t.Error("the layer is still there")
	}
}

// A read writes only if content that nothing needs was promised long ago.
func TestReadsDoNotWrite(t *testing.T) { onEach(t, testReadsDoNotWrite) }

func testReadsDoNotWrite(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	m := k.push(t, "a", "x", "latest")
	loose := k.link(t, "a", "loose")
	queue := func() (sum int64) {
		t.Helper()
		if err := k.db.QueryRow(t.Context(), `SELECT CAST(COALESCE(SUM(due), 0) AS BIGINT) FROM reviews`).Scan(&sum); err != nil {
			t.Fatal(err)
		}
		return sum
	}
	read := func() {
		t.Helper()
		for _, d := range []registry.Digest{loose.Digest, registry.SHA256.FromString("layer of x"), m.Digest} {
			if _, err := k.Blob(t.Context(), alice, "a", d); err != nil {
				t.Fatal(err)
			}
		}
		if !k.has(t, "a", m.Digest) {
			t.Fatal("no manifest")
		}
	}
	before := queue()
	for range 5 {
		k.clock.move(lease/5 - time.Second)
		read()
	}
	if got := queue(); got != before {
		t.Error("a read wrote although more than half of the promise was left")
	}
	k.clock.move(10 * time.Second)
	read()
	if got := queue(); got == before {
		t.Error("a promise that was half over was not renewed")
	}
	k.clock.move(100 * lease)
	before = queue()
	for _, d := range []registry.Digest{registry.SHA256.FromString("layer of x"), m.Digest} {
		if _, err := k.Blob(t.Context(), alice, "a", d); err != nil {
			t.Fatal(err)
		}
	}
	if got := queue(); got != before {
		t.Error("reading what a manifest needs wrote")
	}
}

// A link brings back what was condemned, and takes a new copy of what was given up.
func TestLinkRevives(t *testing.T) { onEach(t, testLinkRevives) }

func testLinkRevives(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	first := k.link(t, "a", "x")
	k.collect(t, 2*lease) // the link goes, and the copy is condemned
	second, err := k.Link(t.Context(), alice, "b", k.upload(t, "x"))
	if err != nil || second != first {
		t.Fatalf("Link of what was condemned: got %v (%v), want %v", second, err, first)
	}
	k.collect(t, 2*time.Minute) // beyond the fence
	k.drain(t)
	if got := k.copies(t); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("stored: %q, want x", got)
	}
	k.collect(t, 2*lease)
	k.collect(t, 2*time.Minute)
	if got := k.copies(t); len(got) > 0 {
		t.Fatalf("stored: %q, want nothing", got)
	}
	third := k.link(t, "a", "x")
	if third.Locator == first.Locator {
		t.Error("the copy that was given up came back")
	}
	k.sound(t)
}

// Nothing goes where collection is off, nor outside the time window.
func TestPoliciesOfPools(t *testing.T) { onEach(t, testPoliciesOfPools) }

func testPoliciesOfPools(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{
		Pools:  []registry.Pool{"/off", "/slow"},
		PoolGC: map[registry.Pool]metadata.GC{"/off": {Off: true}, "/slow": {Lease: 100 * lease}},
	})
	for _, repo := range []registry.Name{"a", "off/a", "slow/a"} {
		s := blob(string(repo))
		s.Pool = registry.PoolOf(repo, []registry.Pool{"/off", "/slow"})
		if _, err := k.Link(t.Context(), alice, repo, s); err != nil {
			t.Fatal(err)
		}
	}
	k.collect(t, 2*lease)
	for repo, want := range map[registry.Name]bool{"a": false, "off/a": true, "slow/a": true} {
		_, err := k.Blob(t.Context(), alice, repo, registry.SHA256.FromString(string(repo)))
		if got := err == nil; got != want {
			t.Errorf("%s: there %v, want %v", repo, got, want)
		}
	}
}

// An upload that was never linked goes once it is old, but not at the first sight:
// it may be about to be linked.
func TestStrayCopies(t *testing.T) { onEach(t, testStrayCopies) }

func testStrayCopies(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	k.clock.move(time.Since(k.clock.now())) // uploads are born by the real clock
	ctx := t.Context()
	k.upload(t, "stray")
	late := k.upload(t, "linked late")
	sweep := func(pass time.Duration) {
		t.Helper()
		k.clock.move(pass)
		if err := metadata.SweepStrays(ctx, k.Catalog); err != nil {
			t.Fatal(err)
		}
	}
	sweep(48 * time.Hour) // the upload took two days
	if got := k.copies(t); len(got) != 2 {
		t.Fatalf("stored: %q: something went at the first sight", got)
	}
	if _, err := k.Link(ctx, alice, "a", late); err != nil {
		t.Fatalf("Link after the first sweep: %v", err)
	}
	sweep(25 * time.Hour)
	if got := k.copies(t); !slices.Equal(got, []string{"linked late"}) {
		t.Errorf("stored: %q, want only what is linked", got)
	}
}

// The sweep queues what has no review, as in a store from before there were any,
// and brings reviews back that a wrong clock has put far away.
func TestSweep(t *testing.T) { onEach(t, testSweep) }

func testSweep(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	k.push(t, "a", "untagged")
	kept := k.push(t, "a", "kept", "latest")
	k.link(t, "b", "loose")
	far := k.clock.now().Add(80 * 365 * 24 * time.Hour).UnixMicro()
	for _, spoil := range []string{`DELETE FROM reviews`, fmt.Sprintf(`UPDATE reviews SET due = %d, lease = %[1]d`, far)} {
		k.mustExec(t, spoil)
		if _, err := metadata.CollectAll(t.Context(), k.Catalog, true); err != nil {
			t.Fatal(err)
		}
	}
	k.settle(t)
	if got, want := k.copies(t), []string{"config of kept", "layer of kept"}; !slices.Equal(got, want) {
		t.Errorf("stored: %q, want %q", got, want)
	}
	if !k.has(t, "a", kept.Digest) {
		t.Error("the tagged manifest has gone")
	}
	k.sound(t)
}

// Reviews of a repository that is restored while a collector believes it to be
// deleted stay: nobody would queue them again.
func TestReviewsOfARestoredRepository(t *testing.T) { onEach(t, testReviewsOfARestoredRepository) }

func testReviewsOfARestoredRepository(t *testing.T, at newPlace) {
	clock := newClock()
	s := openStore(t, at(t), metadata.Options{Now: clock.now}, nil) // nobody collects
	pushImage(t, s, "a", "untagged")
	if _, err := s.Link(t.Context(), alice, "a", blob("loose")); err != nil {
		t.Fatal(err)
	}
	clock.move(100 * 24 * time.Hour)
	reviews := func() (n int) {
		t.Helper()
		if err := s.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM reviews`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := reviews()
	if err := metadata.PassOver(t.Context(), s.Catalog); err != nil {
		t.Fatal(err)
	}
	if got := reviews(); got != before || before < 2 {
		t.Errorf("%d reviews are left of %d", got, before)
	}
}

// An identity of a repository is never used again: who has read it before the
// repository went must not see another one by it.
func TestRepositoryIdentitiesAreNotReused(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		k := newKeeper(t, at(t), metadata.Options{})
		id := func(repo registry.Name) (n int64) {
			t.Helper()
			if err := k.db.QueryRow(t.Context(), `SELECT id FROM repositories WHERE name = $1`, string(repo)).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		k.link(t, "a", "x")
		first := id("a")
		k.settle(t)
		k.link(t, "b", "x")
		if second := id("b"); second == first {
			t.Errorf("repository b has identity %d, which a had", second)
		}
	})
}

// TestS153DeleteOfWhatIsNeeded: a blob that a manifest needs can't be deleted, in any
// repository that needs it, nor a manifest that an index lists; both stay whole.
func TestS153DeleteOfWhatIsNeeded(t *testing.T) { onEach(t, testS153DeleteOfWhatIsNeeded) }

func testS153DeleteOfWhatIsNeeded(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{})
	one, two := k.push(t, "a", "one", "one"), k.push(t, "b", "one", "one")
	put(t, k, "a", index([]registry.ManifestPut{one}, "all"))
	needed := []registry.Digest{registry.SHA256.FromString("config of one"), registry.SHA256.FromString("layer of one")}
	for _, repo := range []registry.Name{"a", "b"} {
		for _, d := range needed {
			wantErr(t, "Unlink", k.Unlink(t.Context(), alice, repo, d), registry.ErrInUse)
		}
	}
	wantErr(t, "DeleteManifest of a child", k.DeleteManifest(t.Context(), alice, "a", one.Digest), registry.ErrInUse)
	if err := k.DeleteManifest(t.Context(), alice, "b", two.Digest); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	if !k.has(t, "a", one.Digest) {
		t.Error("the manifest has gone")
	}
	if diff := cmp.Diff([]string{"config of one", "layer of one"}, k.copies(t)); diff != "" {
		t.Errorf("stored bytes: -want +got\n%s", diff)
	}
	k.sound(t)
}
