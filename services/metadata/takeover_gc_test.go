package metadata_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"strconv"
	"testing"
	"time"

	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// layouts are blobs beside the image layout of one repository of another registry.
type layouts struct {
	*memory.Blobs
	repo    registry.Name
	index   []byte
	version int // of the index
	files   map[registry.Digest][]byte
	gone    bool
	left    int    // how many files can be read before errStopped, if it is not negative
	copied  func() // called before copies are looked up, if it is not nil
}

// errStopped ends a take-over half way.
var errStopped = errors.New("stopped")

// list makes the index list manifests, which the layout has from then on.
func (l *layouts) list(t testing.TB, tags map[registry.Tag]registry.ManifestPut, untagged ...registry.ManifestPut) {
	t.Helper()
	list := imgspec.Index{}
	list.SchemaVersion = 2
	add := func(m registry.ManifestPut, tag registry.Tag) {
		l.files[m.Digest] = m.Bytes
		d := registry.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))}
		if tag != "" {
			d.Annotations = map[string]string{imgspec.AnnotationRefName: string(tag)}
		}
		list.Manifests = append(list.Manifests, d)
	}
	for tag, m := range tags {
		add(m, tag)
	}
	for _, m := range untagged {
		add(m, "")
	}
	var err error
	if l.index, err = json.Marshal(list); err != nil {
		t.Fatal(err)
	}
	l.version++
}

// image adds the content of an image to the layout and returns its manifest.
func (l *layouts) image(name string) registry.ManifestPut {
	var parts []registry.Stored
	for _, text := range []string{"config of " + name, "layer of " + name} {
		d := registry.SHA256.FromString(text)
		l.files[d] = []byte(text)
		parts = append(parts, registry.Stored{Digest: d, Size: int64(len(text))})
	}
	return image(parts[0], parts[1:])
}

func (l *layouts) Layouts(_ context.Context, p registry.Pool) iter.Seq2[registry.Name, error] {
	return func(yield func(registry.Name, error) bool) {
		if p == "" && !l.gone {
			yield(l.repo, nil)
		}
	}
}

func (l *layouts) LayoutStamp(context.Context, registry.Pool, registry.Name) (string, error) {
	return strconv.Itoa(l.version), nil
}

func (l *layouts) LayoutIndex(context.Context, registry.Pool, registry.Name) ([]byte, error) {
	return l.index, nil
}

func (l *layouts) LayoutCopies(_ context.Context, _ registry.Pool, repo registry.Name, blobs []registry.Digest) ([]registry.LayoutCopy, error) {
	if l.copied != nil {
		l.copied()
	}
	var all []registry.LayoutCopy
	for _, d := range blobs {
		if b, ok := l.files[d]; ok {
			all = append(all, registry.LayoutCopy{Stored: registry.Stored{Digest: d, Size: int64(len(b)), Locator: registry.LayoutLocator(repo)}, Modified: 1})
		}
	}
	return all, nil
}

func (l *layouts) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	if _, ok := s.Locator.Layout(); !ok {
		return l.Blobs.Open(ctx, s, r)
	}
	if l.left == 0 {
		return nil, errStopped
	}
	l.left--
	b, ok := l.files[s.Digest]
	if !ok {
		return nil, registry.ErrBlobUnknown
	}
	return file{bytes.NewReader(b)}, nil
}

func (l *layouts) TakeOver(ctx context.Context, s registry.Stored) (registry.Stored, error) {
	u, err := l.Start(ctx, "", registry.SHA256)
	if err != nil {
		return registry.Stored{}, err
	}
	return l.Commit(ctx, u, bytes.NewReader(l.files[s.Digest]), s.Digest)
}

func (l *layouts) LayoutFiles(context.Context, registry.Pool, registry.Name) iter.Seq2[registry.LayoutFile, error] {
	return func(yield func(registry.LayoutFile, error) bool) {
		for d, b := range l.files {
			if !yield(registry.LayoutFile{Digest: d, Size: int64(len(b))}, nil) {
				return
			}
		}
	}
}

func (l *layouts) RemoveLayoutFiles(_ context.Context, _ registry.Pool, _ registry.Name, blobs []registry.Digest) (int64, error) {
	for _, d := range blobs {
		delete(l.files, d)
	}
	return 0, nil
}

func (l *layouts) RemoveLayout(context.Context, registry.Pool, registry.Name) (int64, error) {
	clear(l.files)
	l.gone = true
	return 0, nil
}

// file is the content of a file of a layout.
type file struct{ *bytes.Reader }

func (f file) Close() error                       { return nil }
func (f file) WriteTo(w io.Writer) (int64, error) { return f.Reader.WriteTo(w) }

// newLayouts returns a store beside the layout of repository "a".
func newLayouts(t *testing.T, at place) (*keeper, *layouts) {
	k := newKeeper(t, at, metadata.Options{})
	return k, &layouts{Blobs: k.blobs, repo: "a", files: make(map[registry.Digest][]byte), left: -1}
}

func adopt(t testing.TB, k *keeper, l *layouts) error {
	t.Helper()
	return k.Adopt(t.Context(), l, func(metadata.Taken) {})
}

// A take-over that was interrupted between manifests and their tags is completed
// much later: nothing has been collected meanwhile.
func TestI7CollectorWaitsForTakeover(t *testing.T) { onEach(t, testI7CollectorWaitsForTakeover) }

func testI7CollectorWaitsForTakeover(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	tags := make(map[registry.Tag]registry.ManifestPut)
	for i := range 20 {
		tags[registry.Tag(fmt.Sprint("v", i))] = l.image(fmt.Sprint(i))
	}
	child := l.image("child")
	l.files[child.Digest] = child.Bytes
	tags["multi"] = index([]registry.ManifestPut{child})
	l.list(t, tags)
	l.left = 19
	if err := adopt(t, k, l); !errors.Is(err, errStopped) {
		t.Fatalf("Adopt: got %v, want that it stops", err)
	}
	k.settle(t)
	l.left = -1
	if err := adopt(t, k, l); err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	k.settle(t)
	for tag, m := range tags {
		if got := tagged(t, k, "a", tag); got != m.Digest {
			t.Errorf("tag %s: got %q, want %q", tag, got, m.Digest)
		}
	}
	if !k.has(t, "a", child.Digest) {
		t.Error("what the index lists is not there")
	}
}

// Content of a repository whose directory was removed half way is collected in the
// end; if the directory comes back it is taken over again.
func TestI7CollectorDoesNotWaitForever(t *testing.T) { onEach(t, testI7CollectorDoesNotWaitForever) }

func testI7CollectorDoesNotWaitForever(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	tags := make(map[registry.Tag]registry.ManifestPut)
	for i := range 20 {
		tags[registry.Tag(fmt.Sprint("v", i))] = l.image(fmt.Sprint(i))
	}
	l.list(t, tags)
	l.left = 17
	if err := adopt(t, k, l); !errors.Is(err, errStopped) {
		t.Fatalf("Adopt: got %v, want that it stops", err)
	}
	l.left, l.gone = -1, true
	if err := adopt(t, k, l); err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	k.settle(t)
	for _, m := range tags {
		if k.has(t, "a", m.Digest) {
			t.Fatalf("%s is still there", m.Digest)
		}
	}
	l.gone = false
	if err := adopt(t, k, l); err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	for tag, m := range tags {
		if got := tagged(t, k, "a", tag); got != m.Digest {
			t.Errorf("tag %s: got %q, want %q", tag, got, m.Digest)
		}
	}
}

// A process that takes over what another has taken over meanwhile does not bring back
// what a user has deleted since (I6).
func TestTakeoverByTwo(t *testing.T) { onEach(t, testTakeoverByTwo) }

func testTakeoverByTwo(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	kept, deleted := l.image("kept"), l.image("deleted")
	l.list(t, map[registry.Tag]registry.ManifestPut{"kept": kept, "deleted": deleted})
	other := *l
	calls := 0
	l.copied = func() {
		if calls++; calls != 3 { // the blobs, when both manifests are read
			return
		}
		if err := adopt(t, k, &other); err != nil {
			t.Fatal(err)
		}
		if err := k.DeleteManifest(t.Context(), alice, "a", deleted.Digest); err != nil {
			t.Fatal(err)
		}
	}
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	if calls < 3 {
		t.Fatalf("%d calls: the other process did nothing", calls)
	}
	for tag, want := range map[registry.Tag]registry.Digest{"kept": kept.Digest, "deleted": ""} {
		if got := tagged(t, k, "a", tag); got != want {
			t.Errorf("tag %s: got %q, want %q", tag, got, want)
		}
	}
	if k.has(t, "a", deleted.Digest) {
		t.Error("a manifest that was deleted is back")
	}
}

// What was collected because nothing named it comes back once the index names it;
// what a user deleted does not (I6).
func TestTakeoverBringsBackWhatWasCollected(t *testing.T) {
	onEach(t, testTakeoverBringsBackWhatWasCollected)
}

func testTakeoverBringsBackWhatWasCollected(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	kept, collected, deleted := l.image("kept"), l.image("collected"), l.image("deleted")
	tags := map[registry.Tag]registry.ManifestPut{"kept": kept}
	l.list(t, tags, collected, deleted)
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	if err := k.DeleteManifest(t.Context(), alice, "a", deleted.Digest); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	if k.has(t, "a", collected.Digest) {
		t.Fatal("the untagged manifest was not collected")
	}
	tags = maps.Clone(tags)
	tags["again"], tags["never"] = collected, deleted
	l.list(t, tags)
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[registry.Tag]registry.Digest{"kept": kept.Digest, "again": collected.Digest, "never": ""} {
		if got := tagged(t, k, "a", tag); got != want {
			t.Errorf("tag %s: got %q, want %q", tag, got, want)
		}
	}
}

// A manifest whose tag the index of another registry moves or removes goes as one
// whose tag a user moves: it is promised to who reads it by digest, from a cache
// or not, and collected in the end.
func TestTakeoverUntags(t *testing.T) { onEach(t, testTakeoverUntags) }

func testTakeoverUntags(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	first, second, removed := l.image("first"), l.image("second"), l.image("removed")
	l.list(t, map[registry.Tag]registry.ManifestPut{"latest": first, "removed": removed})
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	k.settle(t)
	old := []registry.Digest{first.Digest, removed.Digest}
	for _, d := range old { // a cache may know now that it needs no promise
		k.has(t, "a", d)
	}
	l.list(t, map[registry.Tag]registry.ManifestPut{"latest": second}, first)
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	k.clock.move(undo)
	for range 3 {
		for _, d := range old {
			if !k.has(t, "a", d) {
				t.Fatalf("%s has gone though it was promised", d)
			}
		}
		k.collect(t, lease-time.Second)
	}
	k.settle(t)
	for _, d := range old {
		if k.has(t, "a", d) {
			t.Errorf("%s is still there", d)
		}
	}
}

// A file of the layout stays if our own copy of the same content is damaged: it may
// be the only one that is whole.
func TestI7FinishKeepsWhatIsDamagedHere(t *testing.T) {
	onEach(t, testI7FinishKeepsWhatIsDamagedHere)
}

func testI7FinishKeepsWhatIsDamagedHere(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	k.link(t, "b", "layer of x")
	l.list(t, map[registry.Tag]registry.ManifestPut{"latest": l.image("x")})
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	k.mustExec(t, `UPDATE blobs SET damaged = 1 WHERE locator NOT LIKE 'layout:%'`)
	f := &metadata.Finish{Found: func(registry.Finding) {}, Progress: func(metadata.Finished) {}}
	if _, err := k.Finish(t.Context(), l, f); err != nil {
		t.Fatal(err)
	}
	if _, ok := l.files[registry.SHA256.FromString("layer of x")]; !ok {
		t.Error("the file has gone")
	}
	if _, ok := l.files[registry.SHA256.FromString("config of x")]; ok {
		t.Error("a file whose content is elsewhere is still there")
	}
}
