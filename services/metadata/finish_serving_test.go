package metadata_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// finish makes the layout's files our own as a registry does that serves meanwhile.
func finish(t *testing.T, k *keeper, l metadata.LayoutOwner) metadata.Finished {
	t.Helper()
	done, err := k.Finish(t.Context(), l, &metadata.Finish{
		Serving: true, Fence: time.Nanosecond, Found: func(registry.Finding) {}, Progress: func(metadata.Finished) {},
	})
	if err != nil {
		t.Fatalf("Finish: %v", err)
	}
	return done
}

// readable checks that a blob of repository "a" can be read.
func readable(t *testing.T, k *keeper, l *layouts, text string) {
	t.Helper()
	b, err := k.Blob(t.Context(), alice, "a", registry.SHA256.FromString(text))
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	content, err := l.Open(t.Context(), b.Stored, registry.Whole)
	if err != nil {
		t.Errorf("%s: %v", text, err)
		return
	}
	defer content.Close()
	if got, err := io.ReadAll(content); err != nil || string(got) != text {
		t.Errorf("%s reads as %q, %v", text, got, err)
	}
}

// named is a layout of which an earlier run has given a file a name of our own.
type named struct {
	*layouts
	name registry.Stored
	used int
}

func (n *named) TakeOver(ctx context.Context, s registry.Stored) (registry.Stored, error) {
	if s.Digest == n.name.Digest {
		if content, err := n.Open(ctx, n.name, registry.Whole); err == nil {
			n.used++
			return n.name, content.Close()
		}
	}
	return n.layouts.TakeOver(ctx, s)
}

// A name that is in the queue of what is removed is not used: the collector may be
// about to remove it.
func TestI7FinishLeavesGarbage(t *testing.T) { onEach(t, testI7FinishLeavesGarbage) }

func testI7FinishLeavesGarbage(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	l.list(t, map[registry.Tag]registry.ManifestPut{"latest": l.image("x")})
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	n := &named{layouts: l, name: k.upload(t, "layer of x")}
	digest := registry.SHA256.FromString("layer of x")
	k.mustExec(t, `INSERT INTO garbage (pool, digest, locator, size, due, attempts) SELECT pool, digest, '`+string(n.name.Locator)+`', size, 9000000000000000, 0
		FROM blobs WHERE size = 10 AND pool = ''`)
	done := finish(t, k, n)
	if n.used != 1 || done.Blobs != 2 || done.Repositories != 1 {
		t.Errorf("the old name was found %d times; finished %+v, want 2 blobs and a repository", n.used, done)
	}
	if b, err := k.Blob(t.Context(), alice, "a", digest); err != nil || b.Locator == n.name.Locator {
		t.Errorf("%+v, %v: the copy that is garbage is in use", b, err)
	}
	readable(t, k, l, "layer of x")
	readable(t, k, l, "config of x")
	k.sound(t)
}

// What is being taken over stays where it is, and goes when it was.
func TestI7FinishBesideATakeover(t *testing.T) { onEach(t, testI7FinishBesideATakeover) }

func testI7FinishBesideATakeover(t *testing.T, at newPlace) {
	k, l := newLayouts(t, at(t))
	l.list(t, map[registry.Tag]registry.ManifestPut{"latest": l.image("x")})
	calls, files := 0, len(l.files)
	l.copied = func() {
		if calls++; calls != 2 { // the blobs, when the manifest is read
			return
		}
		if done := finish(t, k, l); done.Kept != 1 || done.Repositories != 0 {
			t.Errorf("finished %+v, want that the repository is kept", done)
		}
	}
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	if calls != 2 || len(l.files) != files {
		t.Fatalf("%d calls, %d files left of %d", calls, len(l.files), files)
	}
	if got := tagged(t, k, "a", "latest"); got == "" {
		t.Error("the tag is not there")
	}
	if done := finish(t, k, l); done.Blobs != 2 || done.Repositories != 1 || !l.gone {
		t.Errorf("finished %+v, want 2 blobs and a repository", done)
	}
	readable(t, k, l, "layer of x")
	readable(t, k, l, "config of x")
	k.sound(t)
}

// Nothing of a repository is linked any more whose files another process removes, or
// has removed since they were looked up.
func TestI7TakeoverOfAClosedRepository(t *testing.T) {
	for name, closes := range map[string]string{"closed": `UPDATE adoptions SET state = 2`, "gone": `DELETE FROM adoptions`} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, at newPlace) { testI7TakeoverOfAClosedRepository(t, at, closes) })
		})
	}
}

func testI7TakeoverOfAClosedRepository(t *testing.T, at newPlace, closes string) {
	k, l := newLayouts(t, at(t))
	l.list(t, map[registry.Tag]registry.ManifestPut{"latest": l.image("x")})
	calls := 0
	l.copied = func() {
		if calls++; calls == 2 {
			k.mustExec(t, closes)
		}
	}
	if err := adopt(t, k, l); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("Adopt: %v, want that it can't be", err)
	}
	if _, err := k.Blob(t.Context(), alice, "a", registry.SHA256.FromString("layer of x")); err == nil {
		t.Error("a file that is about to go was linked")
	}
}
