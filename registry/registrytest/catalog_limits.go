package registrytest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

func limitTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ReadOnly", testReadOnly},
		{"ReadOnlyIsBounded", testReadOnlyIsBounded},
		{"Usage", testUsage},
		{"OpenUploads", testOpenUploads},
	}
}

func testReadOnly(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	d := c.image(t, "prod/a", "x", "v1")
	data := c.get(t, "prod/a", registry.Reference{Tag: "v1"}).Bytes
	changes := map[string]func() error{
		"Admit":  func() error { _, err := c.Admit(ctx, alice, "prod/a"); return err },
		"Link":   func() error { _, err := c.Link(ctx, alice, "prod/a", c.copyOf("prod/a", []byte("new"))); return err },
		"Mount":  func() error { _, err := c.Mount(ctx, alice, "prod/a", d, ""); return err },
		"Unlink": func() error { return c.Unlink(ctx, alice, "prod/a", sha256of([]byte("layer of x"))) },
		"PutManifest": func() error {
			_, err := c.PutManifest(ctx, alice, "prod/a", registry.ManifestPut{Digest: d, MediaType: registry.TypeManifest, Bytes: data, Tags: []registry.Tag{"v2"}})
			return err
		},
		"RollbackTag": func() error {
			_, err := c.RollbackTag(ctx, alice, "prod/a", "v1", d, registry.Condition{})
			return err
		},
		"ApplyRetention": func() error { _, err := c.ApplyRetention(ctx, alice, "prod/a"); return err },
		"DeleteTag":      func() error { return c.DeleteTag(ctx, alice, "prod/a", "v1", registry.Condition{}) },
		"DeleteManifest": func() error { return c.DeleteManifest(ctx, alice, "prod/a", d) },
	}
	set := func(pattern, reason string) {
		t.Helper()
		must(t, "SetReadOnly", c.SetReadOnly(ctx, alice, registry.ReadOnly{Repositories: pattern, Reason: reason}))
	}
	set("prod/**", "moving")
	set("other", "")
	for what, change := range changes {
		err := change()
		wantErr(t, what, err, registry.ErrUnsupported)
		if text := registry.AsError(err).Text(); !strings.Contains(text, "prod/**") || !strings.Contains(text, "moving") {
			t.Errorf("%s: nobody says why: %s", what, text)
		}
	}
	c.checkTag(t, "prod/a", "v1", d)
	c.image(t, "dev/a", "x", "v1")

	set("other", "again")
	got, err := c.ReadOnlys(ctx, alice)
	must(t, "ReadOnlys", err)
	want := []registry.ReadOnly{{Repositories: "other", Reason: "again", Actor: alice.ID}, {Repositories: "prod/**", Reason: "moving", Actor: alice.ID}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(registry.ReadOnly{}, "Since")); diff != "" {
		t.Errorf("ReadOnlys: -want +got\n%s", diff)
	}
	must(t, "ClearReadOnly", c.ClearReadOnly(ctx, alice, "prod/**"))
	must(t, "ClearReadOnly again", c.ClearReadOnly(ctx, alice, "prod/**"))
	must(t, "PutManifest", changes["PutManifest"]())
	must(t, "DeleteTag", changes["DeleteTag"]())
}

func testReadOnlyIsBounded(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	for _, pattern := range []string{"", "[", "{a", strings.Repeat("a", 2000)} {
		err := c.SetReadOnly(t.Context(), alice, registry.ReadOnly{Repositories: pattern})
		wantErr(t, fmt.Sprintf("pattern %.9q", pattern), err, registry.ErrParameterInvalid)
	}
	err := c.SetReadOnly(t.Context(), alice, registry.ReadOnly{Repositories: "a", Reason: strings.Repeat("x", registry.MaxReason+1)})
	wantErr(t, "a long reason", err, registry.ErrTooLarge)
	for i := range registry.MaxReadOnlys {
		must(t, "SetReadOnly", c.SetReadOnly(t.Context(), alice, registry.ReadOnly{Repositories: fmt.Sprint("r", i)}))
	}
	err = c.SetReadOnly(t.Context(), alice, registry.ReadOnly{Repositories: "more"})
	wantErr(t, "one more", err, registry.ErrTooLarge)
	must(t, "SetReadOnly again", c.SetReadOnly(t.Context(), alice, registry.ReadOnly{Repositories: "r0", Reason: "x"}))
}

func testUsage(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	c.image(t, "a", "x", "v1")
	c.link(t, "a", []byte("shared"))
	c.link(t, "b", []byte("shared"))
	size := int64(len(c.get(t, "a", registry.Reference{Tag: "v1"}).Bytes))
	own := size + int64(len("config of x")+len("layer of x"))
	for repo, want := range map[registry.Name]registry.Usage{
		"a": {Manifests: 1, Blobs: 3, Logical: own + 6, Unique: own},
		"b": {Blobs: 1, Logical: 6},
	} {
		got, err := c.Usage(t.Context(), alice, repo)
		must(t, "Usage", err)
		if got != want {
			t.Errorf("Usage of %s: got %+v, want %+v", repo, got, want)
		}
	}
	if u := (registry.Usage{Logical: 10, Unique: 4}); u.Shared() != 6 {
		t.Errorf("Shared: %d", u.Shared())
	}
	_, err := c.Usage(t.Context(), alice, "nowhere")
	wantErr(t, "Usage", err, registry.ErrNameUnknown)
}

// testOpenUploads counts the sessions of each owner, whatever is told twice or of
// sessions that nobody knew.
func testOpenUploads(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	note := func(notes []registry.UploadNote, want ...int64) {
		t.Helper()
		got, err := c.NoteUploads(t.Context(), notes, []string{"user ann", "192.0.2.7", "user nobody"})
		must(t, "NoteUploads", err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after %v: -want +got\n%s", notes, diff)
		}
	}
	var ids []registry.UploadID
	for range 4 {
		ids = append(ids, registry.NewUploadID(time.Now()))
	}
	note(nil, 0, 0, 0)
	begun := []registry.UploadNote{{ID: ids[0], Owner: "user ann"}, {ID: ids[1], Owner: "user ann"}, {ID: ids[2], Owner: "192.0.2.7"}}
	note(begun, 2, 1, 0)
	note(begun, 2, 1, 0)
	note([]registry.UploadNote{{ID: ids[0]}, {ID: ids[3]}, {ID: ids[1], Owner: "user ann"}}, 1, 1, 0)
	note([]registry.UploadNote{{ID: ids[0]}, {ID: ids[1]}, {ID: ids[2]}}, 0, 0, 0)

	many := make([]registry.UploadNote, registry.MaxUploadNotes)
	for i := range many {
		many[i] = registry.UploadNote{ID: registry.NewUploadID(time.Now()), Owner: "user ann"}
	}
	note(many, int64(len(many)), 0, 0)
	for what, bad := range map[string]struct {
		notes  []registry.UploadNote
		owners []string
		want   error
	}{
		"too many notes":  {append(many, begun...), nil, registry.ErrTooLarge},
		"too many owners": {nil, make([]string, registry.MaxUploadNotes+1), registry.ErrTooLarge},
		"no id":           {[]registry.UploadNote{{ID: "../x", Owner: "a"}}, nil, registry.ErrParameterInvalid},
		"a long owner":    {[]registry.UploadNote{{ID: ids[0], Owner: strings.Repeat("x", registry.MaxUploadOwner+1)}}, nil, registry.ErrParameterInvalid},
		"a long question": {nil, []string{strings.Repeat("x", registry.MaxUploadOwner+1)}, registry.ErrParameterInvalid},
	} {
		_, err := c.NoteUploads(t.Context(), bad.notes, bad.owners)
		wantErr(t, what, err, bad.want)
	}
	note(nil, int64(len(many)), 0, 0)
}
