package metadata_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
)

// pushed is a store with two images, an index, a referrer and a moved tag,
// whose blobs really are in a blobstore.
type pushed struct {
	*store
	blobs    *memory.Blobs
	contents []registry.Stored
	image    registry.ManifestPut
	referrer registry.ManifestPut
}

func pushAll(t *testing.T, at place, o metadata.Options) *pushed {
	t.Helper()
	p := &pushed{blobs: memory.NewBlobs()}
	p.store = openStore(t, at, o, nil)
	for i := range 3 {
		s := p.upload(t, fmt.Sprint("content ", i))
		if _, err := p.Link(t.Context(), alice, "a/b", s); err != nil {
			t.Fatal(err)
		}
		p.contents = append(p.contents, s)
	}
	p.image = image(p.contents[0], p.contents[1:2], "latest", "one")
	two := image(p.contents[0], p.contents[1:], "latest", "gone")
	p.referrer = referrer(p.contents[0], "application/vnd.example.sbom", p.image)
	for _, m := range []registry.ManifestPut{p.image, two, index([]registry.ManifestPut{p.image, two}, "all"), p.referrer} {
		put(t, p, "a/b", m)
	}
	if err := p.DeleteTag(t.Context(), alice, "a/b", "gone", registry.Condition{}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *pushed) upload(t *testing.T, text string) registry.Stored {
	t.Helper()
	u, err := p.blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.blobs.Commit(t.Context(), u, strings.NewReader(text), registry.SHA256.FromString(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// swept records that a sweep has queued what nothing needs.
func (p *pushed) swept(t *testing.T) {
	t.Helper()
	p.mustExec(t, "INSERT INTO sweeps (name, ended) VALUES ('rows', 1)")
}

// fsck returns the findings without the digests.
func (p *pushed) fsck(t *testing.T, deep bool) []string {
	t.Helper()
	var all []string
	for f, err := range p.Fsck(t.Context(), p.blobs, deep) {
		if err != nil {
			t.Fatalf("Fsck: %v", err)
		}
		all = append(all, f.Invariant+": "+f.Problem)
	}
	return all
}

func TestFsckOfAHealthyStore(t *testing.T) { onEach(t, testFsckOfAHealthyStore) }

func testFsckOfAHealthyStore(t *testing.T, at newPlace) {
	for _, deep := range []bool{false, true} {
		p := pushAll(t, at(t), metadata.Options{})
		if got := p.fsck(t, deep); len(got) != 0 {
			t.Errorf("deep=%v: got findings %q", deep, got)
		}
	}
}

func TestFsckOfASparseStore(t *testing.T) { onEach(t, testFsckOfASparseStore) }

func testFsckOfASparseStore(t *testing.T, at newPlace) {
	p := pushAll(t, at(t), metadata.Options{AllowSparse: true})
	put(t, p, "sparse", index([]registry.ManifestPut{p.image}, "x"))
	if got := p.fsck(t, true); len(got) != 0 {
		t.Errorf("got findings %q", got)
	}
}

func TestFsckFinds(t *testing.T) { onEach(t, testFsckFinds) }

func testFsckFinds(t *testing.T, at newPlace) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, p *pushed)
		deep  bool
		want  []string // how the findings begin
	}{
		{name: "manifest bytes", want: []string{"I1: the manifest's bytes do not hash"}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "UPDATE manifests SET payload = $1 WHERE subject IS NOT NULL", []byte("{}"))
		}},
		{name: "manifest size", want: []string{"I1: the manifest has"}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "UPDATE manifests SET size = size + 1 WHERE subject IS NOT NULL")
		}},
		{name: "tag without manifest", want: []string{"I1: tag one points to a manifest that does not exist", "I4: the last entry in the history of tag one"}, spoil: func(t *testing.T, p *pushed) {
			p.withoutForeignKeys(t, "UPDATE tags SET digest = (SELECT digest FROM blobs WHERE locator = '"+string(p.contents[0].Locator)+"') WHERE name = 'one'")
		}},
		{name: "tag without history", want: []string{"I4: the last entry in the history of tag one"}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "DELETE FROM tag_history WHERE name = 'one'")
		}},
		{name: "tag lost", want: []string{"I4: tag one does not exist"}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "DELETE FROM tags WHERE name = 'one'")
		}},
		{name: "link lost", want: []string{"I3: the manifest needs " + registry.SHA256.FromString("content 2").String()}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "DELETE FROM links WHERE digest = (SELECT digest FROM blobs WHERE locator = $1)", string(p.contents[2].Locator))
		}},
		{name: "reference lost", want: []string{"I3: the manifest's reference to " + registry.SHA256.FromString("content 2").String()}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "DELETE FROM manifest_references WHERE digest = (SELECT digest FROM blobs WHERE locator = $1)", string(p.contents[2].Locator))
		}},
		{name: "reference too many", want: []string{"I3: the manifest does not refer to"}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "INSERT INTO manifest_references SELECT repo_id, digest, digest, FALSE, FALSE FROM manifests WHERE subject IS NOT NULL")
		}},
		{name: "referrer's subject", want: []string{"I8: "}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "UPDATE manifests SET subject = NULL")
		}},
		{name: "referrer's type", want: []string{"I8: "}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "UPDATE manifests SET artifact_type = 'x/y' WHERE subject IS NOT NULL")
		}},
		{name: "referrer's annotations", want: []string{"I8: "}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "UPDATE manifests SET annotations = NULL WHERE subject IS NOT NULL")
		}},
		{name: "review of a manifest lost", want: []string{"I7: no tag, index or subject needs the manifest"}, spoil: func(t *testing.T, p *pushed) {
			p.swept(t)
			put(t, p, "a/b", image(p.contents[1], nil))
			p.mustExec(t, "DELETE FROM reviews WHERE kind = 1")
		}},
		{name: "review of a link lost", want: []string{"I7: no manifest of the repository needs the blob"}, spoil: func(t *testing.T, p *pushed) {
			p.swept(t)
			if _, err := p.Link(t.Context(), alice, "a/b", p.upload(t, "loose")); err != nil {
				t.Fatal(err)
			}
			p.mustExec(t, "DELETE FROM reviews WHERE kind = 2")
		}},
		{name: "review of a blob lost", want: []string{"I7: no repository has the blob"}, spoil: func(t *testing.T, p *pushed) {
			p.swept(t)
			s, err := p.Link(t.Context(), alice, "a/b", p.upload(t, "loose"))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Unlink(t.Context(), alice, "a/b", s.Digest); err != nil {
				t.Fatal(err)
			}
			p.mustExec(t, "DELETE FROM reviews WHERE kind = 3")
		}},
		{name: "review of a repository lost", want: []string{"I7: the repository has nothing in it"}, spoil: func(t *testing.T, p *pushed) {
			p.swept(t)
			s, err := p.Link(t.Context(), alice, "empty", p.upload(t, "loose"))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Unlink(t.Context(), alice, "empty", s.Digest); err != nil {
				t.Fatal(err)
			}
			p.mustExec(t, "DELETE FROM reviews WHERE kind = 4")
		}},
		{name: "a repository that only a deleted manifest is in", want: nil, spoil: func(t *testing.T, p *pushed) {
			p.swept(t)
			empty := index([]registry.ManifestPut{}, "x")
			put(t, p, "trash", empty)
			if err := p.DeleteManifest(t.Context(), alice, "trash", empty.Digest); err != nil {
				t.Fatal(err)
			}
			p.mustExec(t, "DELETE FROM reviews WHERE kind = 4")
		}},
		{name: "reviews from before there were any", want: nil, spoil: func(t *testing.T, p *pushed) {
			if _, err := p.Link(t.Context(), alice, "a/b", p.upload(t, "loose")); err != nil {
				t.Fatal(err)
			}
			p.mustExec(t, "DELETE FROM reviews")
		}},
		{name: "copy missing", want: []string{"I12: the blob's copy"}, spoil: func(t *testing.T, p *pushed) {
			if err := p.blobs.Remove(t.Context(), p.contents[0]); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "copy missing, deep", deep: true, want: []string{"I12: the blob's copy"}, spoil: func(t *testing.T, p *pushed) {
			if err := p.blobs.Remove(t.Context(), p.contents[0]); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "copy of another size", want: []string{"I12: the blob's copy"}, spoil: func(t *testing.T, p *pushed) {
			p.mustExec(t, "UPDATE blobs SET size = size + 1 WHERE locator = $1", string(p.contents[0].Locator))
		}},
		{name: "young copy nobody knows", want: nil, spoil: func(t *testing.T, p *pushed) { p.upload(t, "new") }},
		{name: "copy in the garbage queue", want: nil, spoil: func(t *testing.T, p *pushed) {
			p.upload(t, "content 0")
			if _, err := p.Link(t.Context(), alice, "a/b", p.upload(t, "content 0")); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pushAll(t, at(t), metadata.Options{})
			c.spoil(t, p)
			got := slices.DeleteFunc(p.fsck(t, c.deep), func(f string) bool {
				return strings.HasPrefix(f, "I1: the database is damaged: row  of tags") // SQLite's own words
			})
			if len(got) != len(c.want) {
				t.Fatalf("got findings %q, want %q", got, c.want)
			}
			for i, w := range c.want {
				if !strings.HasPrefix(got[i], w) {
					t.Errorf("finding %d: got %q, want %q", i, got[i], w)
				}
			}
		})
	}
}

func TestFsckFindsAnOldCopy(t *testing.T) { onEach(t, testFsckFindsAnOldCopy) }

func testFsckFindsAnOldCopy(t *testing.T, at newPlace) {
	now := time.Now()
	p := pushAll(t, at(t), metadata.Options{Now: func() time.Time { return now }})
	p.upload(t, "nobody knows it")
	now = now.Add(23 * time.Hour)
	if got := p.fsck(t, false); len(got) != 0 {
		t.Errorf("after 23 hours: got findings %q", got)
	}
	now = now.Add(2 * time.Hour)
	if got := p.fsck(t, false); len(got) != 1 || !strings.HasPrefix(got[0], "I12: nothing knows the copy") {
		t.Errorf("after 25 hours: got findings %q, want one", got)
	}
}

// A caller that has seen enough may leave.
func TestFsckCanBeLeft(t *testing.T) { onEach(t, testFsckCanBeLeft) }

func testFsckCanBeLeft(t *testing.T, at newPlace) {
	p := pushAll(t, at(t), metadata.Options{})
	p.mustExec(t, "UPDATE manifests SET size = size + 1")
	n := 0
	for range p.Fsck(t.Context(), p.blobs, false) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("got %d findings, want 2", n)
	}
}

// Pages follow each other without gaps.
func TestFsckOfManyRows(t *testing.T) { onEach(t, testFsckOfManyRows) }

func testFsckOfManyRows(t *testing.T, at newPlace) {
	p := pushAll(t, at(t), metadata.Options{})
	m := p.image
	const tags = 1200 // more than two pages
	for i := range tags {
		if len(m.Tags) == registry.MaxTagsPerPut {
			put(t, p, "a/b", m)
			m.Tags = nil
		}
		m.Tags = append(m.Tags[:len(m.Tags):len(m.Tags)], tagNumber(i))
	}
	put(t, p, "a/b", m)
	p.mustExec(t, "DELETE FROM tag_history WHERE name LIKE 'v%'")
	var got, want []string
	for f, err := range p.Fsck(t.Context(), p.blobs, false) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Problem)
	}
	for i := range tags {
		want = append(want, fmt.Sprintf("the last entry in the history of tag %s is not what it points to", tagNumber(i)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

// withoutForeignKeys changes the database while the store is closed.
func (p *pushed) withoutForeignKeys(t *testing.T, statement string) {
	t.Helper()
	p.close(t)
	p.place.withoutForeignKeys(t, statement)
	p.store = openStore(t, p.place, p.options, p.reaper)
}
