package rpc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// owned are layouts whose files may become the store's own.
type owned struct {
	*shelves
	files   []registry.LayoutFile
	removed []registry.Digest
}

func (o *owned) TakeOver(_ context.Context, s registry.Stored) (registry.Stored, error) {
	if s.Size != 7 {
		return registry.Stored{}, registry.ErrDigestInvalid
	}
	s.Locator = "ours"
	return s, nil
}

func (o *owned) LayoutFiles(_ context.Context, p registry.Pool, repo registry.Name) iter.Seq2[registry.LayoutFile, error] {
	return func(yield func(registry.LayoutFile, error) bool) {
		for _, f := range o.files {
			if !yield(f, nil) {
				return
			}
		}
		if p != "/hot" || repo != "team/app" {
			yield(registry.LayoutFile{}, registry.ErrUnavailable)
		}
	}
}

func (o *owned) RemoveLayoutFiles(_ context.Context, p registry.Pool, _ registry.Name, blobs []registry.Digest) (int64, error) {
	if len(blobs) > maxLayoutDigests || p != "/hot" {
		return 0, errors.New("too many at a time, or of another pool")
	}
	o.removed = append(o.removed, blobs...)
	return int64(len(blobs)), nil
}

func (o *owned) RemoveLayout(_ context.Context, p registry.Pool, repo registry.Name) (int64, error) {
	if p != "/hot" {
		return 0, registry.ErrUnavailable
	}
	return int64(len(repo)), nil
}

// TestOwnedLayouts has files of another registry become the store's own in another
// process.
func TestOwnedLayouts(t *testing.T) {
	o := &owned{shelves: &shelves{Blobs: memory.NewBlobs()}}
	var all []registry.Digest
	for i := range 2500 {
		d := registry.SHA256.FromString(fmt.Sprint(i))
		o.files, all = append(o.files, registry.LayoutFile{Digest: d, Size: int64(i)}), append(all, d)
	}
	var b registry.Layouts = newPair().blobs(t, o)
	s := registry.Stored{Digest: all[0], Size: 7, Pool: "/hot", Locator: registry.LayoutLocator("team/app")}
	made, err := b.TakeOver(t.Context(), s)
	want := s
	want.Locator = "ours"
	if err != nil || made != want {
		t.Errorf("TakeOver: %+v, %v; want %+v", made, err, want)
	}
	s.Size = 8
	if _, err := b.TakeOver(t.Context(), s); !errors.Is(err, registry.ErrDigestInvalid) {
		t.Errorf("TakeOver of damaged bytes: %v", err)
	}
	var files []registry.LayoutFile
	for f, err := range b.LayoutFiles(t.Context(), "/hot", "team/app") {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if diff := cmp.Diff(o.files, files); diff != "" {
		t.Error(diff)
	}
	for _, err = range b.LayoutFiles(t.Context(), "", "team/app") {
		if err != nil {
			break
		}
	}
	if !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("LayoutFiles that break off: %v", err)
	}
	if n, err := b.RemoveLayoutFiles(t.Context(), "/hot", "team/app", all); err != nil || n != 2500 {
		t.Errorf("RemoveLayoutFiles: %d, %v", n, err)
	}
	if diff := cmp.Diff(all, o.removed); diff != "" {
		t.Error(diff)
	}
	if n, err := b.RemoveLayout(t.Context(), "/hot", "team/app"); err != nil || n != 8 {
		t.Errorf("RemoveLayout: %d, %v", n, err)
	}
	if _, err := b.RemoveLayout(t.Context(), "", "team/app"); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("RemoveLayout that fails: %v", err)
	}
}

// Files of a blobstore that can only read them stay where they are.
func TestLayoutsStay(t *testing.T) {
	var b registry.Layouts = newPair().blobs(t, &shelves{Blobs: memory.NewBlobs()})
	s := registry.Stored{Digest: registry.SHA256.FromString(""), Locator: registry.LayoutLocator("a")}
	if _, err := b.TakeOver(t.Context(), s); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("TakeOver: %v", err)
	}
	if _, err := b.RemoveLayout(t.Context(), "", "a"); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("RemoveLayout: %v", err)
	}
	if _, err := b.RemoveLayoutFiles(t.Context(), "", "a", nil); err != nil {
		t.Errorf("RemoveLayoutFiles of none: %v", err)
	}
}
