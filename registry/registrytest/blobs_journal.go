package registrytest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func journalTests() []test[*blobs] {
	return []test[*blobs]{
		{"JournalKeepsObjects", testJournalKeepsObjects},
		{"JournalNeverReplaces", testJournalNeverReplaces},
		{"JournalLists", testJournalLists},
		{"JournalNames", testJournalNames},
		{"JournalSurvivesACrash", testJournalSurvivesACrash},
	}
}

func (b *blobs) wantObject(t *testing.T, name string, want []byte) {
	t.Helper()
	got, err := b.ReadJournal(t.Context(), name)
	must(t, "ReadJournal", err)
	if !bytes.Equal(got, want) {
		t.Errorf("object %s has %d bytes that differ from the %d that were added", name, len(got), len(want))
	}
}

func testJournalKeepsObjects(t *testing.T, b *blobs) {
	for i, content := range [][]byte{noise(1, 1), noise(100_000, 2), noise(registry.MaxJournalObject, 3), nil} {
		name := fmt.Sprintf("0.object-%d", i)
		must(t, "AppendJournal", b.AppendJournal(t.Context(), name, content))
		b.wantObject(t, name, content)
		must(t, "RemoveJournal", b.RemoveJournal(t.Context(), name))
		_, err := b.ReadJournal(t.Context(), name)
		wantErr(t, "ReadJournal after RemoveJournal", err, registry.ErrBlobUnknown)
		must(t, "RemoveJournal again", b.RemoveJournal(t.Context(), name))
	}
	wantErr(t, "AppendJournal of too much", b.AppendJournal(t.Context(), "a", noise(registry.MaxJournalObject+1, 0)), registry.ErrSizeInvalid)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantCanceled(t, "AppendJournal", b.AppendJournal(ctx, "b", nil))
	// They are no blobs.
	copies, err := b.Copies(t.Context(), "", nil, 10)
	must(t, "Copies", err)
	if len(copies) != 0 {
		t.Errorf("Copies lists %v", copies)
	}
}

func testJournalNeverReplaces(t *testing.T, b *blobs) {
	must(t, "AppendJournal", b.AppendJournal(t.Context(), "a", []byte("one")))
	wantErr(t, "AppendJournal of another object", b.AppendJournal(t.Context(), "a", []byte("two")), registry.ErrPreconditionFailed)
	must(t, "AppendJournal of the same", b.AppendJournal(t.Context(), "a", []byte("one")))
	b.wantObject(t, "a", []byte("one"))
}

func testJournalLists(t *testing.T, b *blobs) {
	want := []string{"0", "0.1", "0a", "a", "a-1", "a.b", "b"}
	for i := range want {
		must(t, "AppendJournal", b.AppendJournal(t.Context(), want[(i*3)%len(want)], []byte("x")))
	}
	slices.Sort(want)
	for _, limit := range []int{1, 2, 7, 1000} {
		var got []string
		after := ""
		for {
			page, err := b.ListJournal(t.Context(), after, limit)
			must(t, "ListJournal", err)
			got = append(got, page...)
			if len(page) < limit {
				break
			}
			after = page[len(page)-1]
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d: got %q, want %q", limit, got, want)
		}
	}
}

func testJournalNames(t *testing.T, b *blobs) {
	for _, name := range []string{"", ".", "..", "../a", "a/b", ".a", "-a", "A", "a b", "a\x00", "ä", strings.Repeat("a", 121)} {
		wantErr(t, fmt.Sprintf("AppendJournal of %q", name), b.AppendJournal(t.Context(), name, nil), registry.ErrSizeInvalid)
		_, err := b.ReadJournal(t.Context(), name)
		wantErr(t, fmt.Sprintf("ReadJournal of %q", name), err, registry.ErrBlobUnknown)
		must(t, "RemoveJournal", b.RemoveJournal(t.Context(), name))
	}
}

func testJournalSurvivesACrash(t *testing.T, b *blobs) {
	if b.backend.Reopen == nil {
		t.Skip("the backend can't be opened again")
	}
	must(t, "AppendJournal", b.AppendJournal(t.Context(), "a", []byte("one")))
	b.Blobs = b.backend.Reopen(t, b.Blobs)
	b.wantObject(t, "a", []byte("one"))
	must(t, "AppendJournal", b.AppendJournal(t.Context(), "b", []byte("two")))
	b.wantObject(t, "b", []byte("two"))
}
