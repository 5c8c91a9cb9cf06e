package metadata_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata"
)

// events returns all events behind a position, each as a line of text.
func events(t *testing.T, s *store, after metadata.Position) ([]string, metadata.Position) {
	t.Helper()
	var all []string
	for {
		page, err := s.Events(t.Context(), after, 3) // many pages
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			text := fmt.Sprintf("%s %s %s %s", e.Kind, e.Repo, e.Name, shortDigest(e.Digest))
			if e.Locator != "" {
				text += fmt.Sprintf(" %s of %d bytes at %q", e.Pool, e.Size, e.Locator)
			}
			if e.Number > 0 {
				text += fmt.Sprintf(" #%d", e.Number)
			}
			if e.Actor != "alice" && e.Actor != "" || e.At == 0 || e.Repo != "" && e.RepoID == 0 {
				t.Errorf("event %+v: want an actor, a time and an identity", e)
			}
			all = append(all, strings.Join(strings.Fields(text), " "))
			if !after.Before(e.Position) {
				t.Errorf("position %v comes after %v", e.Position, after)
			}
			after = e.Position
		}
		if len(page) < 3 {
			return all, after
		}
	}
}

func shortDigest(d registry.Digest) string {
	if d == "" {
		return ""
	}
	return d.Encoded()[:8]
}

// Each operation tells what it has changed, once, and nothing if it changed
// nothing.
func TestEvents(t *testing.T) { onEach(t, testEvents) }

func testEvents(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	config := blob("config")
	m := image(config, nil, "one", "two")
	other := image(config, nil, "one")
	other.Bytes = append(other.Bytes, '\n')
	other.Digest = registry.SHA256.FromBytes(other.Bytes)
	must := func(_ any, err error) error { return err }
	b, x, y := shortDigest(config.Digest), shortDigest(m.Digest), shortDigest(other.Digest)
	place := fmt.Sprintf(" of %d bytes at %q", config.Size, config.Locator)
	var after metadata.Position
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"link", func() error { return must(s.Link(t.Context(), alice, "a", config)) }, []string{"repository a", "link a " + b + place}},
		{"link again", func() error { return must(s.Link(t.Context(), alice, "a", config)) }, nil},
		{"put", func() error { return must(s.PutManifest(t.Context(), alice, "a", m)) }, []string{"manifest a " + x, "tag a one " + x + " #1", "tag a two " + x + " #1"}},
		{"put again", func() error { return must(s.PutManifest(t.Context(), alice, "a", m)) }, nil},
		{"move a tag", func() error { return must(s.PutManifest(t.Context(), alice, "a", other)) }, []string{"manifest a " + y, "tag a one " + y + " #2"}},
		{"mount", func() error { return must(s.Mount(t.Context(), alice, "b", config.Digest, "a")) }, []string{"repository b", "link b " + b + place}},
		{"mount again", func() error { return must(s.Mount(t.Context(), alice, "b", config.Digest, "a")) }, nil},
		{"mount a manifest", func() error { return must(s.Mount(t.Context(), alice, "b", m.Digest, "a")) }, []string{"link b " + x}},
		{"unlink", func() error { return s.Unlink(t.Context(), alice, "b", config.Digest) }, []string{"unlink b " + b}},
		{"unlink again", func() error {
			if err := s.Unlink(t.Context(), alice, "b", config.Digest); !errors.Is(err, registry.ErrBlobUnknown) {
				return fmt.Errorf("got error %w, want ErrBlobUnknown", err)
			}
			return nil
		}, nil},
		{"delete a tag", func() error { return s.DeleteTag(t.Context(), alice, "a", "one", registry.Condition{}) }, []string{"tag a one #3"}},
		{"delete a manifest", func() error { return s.DeleteManifest(t.Context(), alice, "a", m.Digest) }, []string{"tag a two #2", "manifest-deleted a " + x}},
		{"a key", func() error { return must(s.UploadKeys(t.Context())) }, []string{"key"}},
	} {
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var got []string
		got, after = events(t, s, after)
		if c.name == "a key" && len(got) == 1 {
			got[0], _, _ = strings.Cut(got[0], " ") // its name is random
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: events (-want +got):\n%s", c.name, diff)
		}
	}
}

// A reader never passes a transaction that is still open: what it commits would
// be lost for it.
func TestEventsOfOpenTransactions(t *testing.T) {
	s := openStore(t, onPostgres(t), metadata.Options{}, nil)
	begun, end, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		first := true
		ended <- s.db.Write(t.Context(), func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil {
				return err
			}
			if _, err := tx.Exec(`INSERT INTO events (kind, at, actor) VALUES ('slow', 1, '')`); err != nil {
				return err
			}
			if first {
				first = false
				close(begun)
				<-end
			}
			return nil
		})
	}()
	<-begun
	if _, err := s.Link(t.Context(), alice, "a", blob("x")); err != nil {
		t.Fatal(err)
	}
	if got, _ := events(t, s, metadata.Position{}); len(got) != 0 {
		t.Errorf("events %q are shown while a transaction with an earlier one is open", got)
	}
	close(end)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	got, _ := events(t, s, metadata.Position{})
	if len(got) != 3 || got[0] != "slow" {
		t.Errorf("got events %q, want the slow one and two of the link", got)
	}
}

// The feed keeps what the slowest reader needs, and forgets a reader that needs
// too much.
func TestTrimFeed(t *testing.T) { onEach(t, testTrimFeed) }

func testTrimFeed(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{}, nil)
	for i := range 20 {
		if _, err := s.Link(t.Context(), alice, "a", blob(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Events(t.Context(), metadata.Position{}, 100)
	if err != nil || len(all) != 21 {
		t.Fatalf("got %d events, %v, want 21", len(all), err)
	}
	count := func() int {
		left, err := s.Events(t.Context(), metadata.Position{}, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		return len(left)
	}
	metadata.RegisterReader(t, s.Catalog, "slow", all[4].Position)
	metadata.RegisterReader(t, s.Catalog, "fast", all[19].Position)
	metadata.TrimFeed(t, s.Catalog, 1000)
	if got := count(); got != 17 { // the one at the position stays
		t.Errorf("with a reader behind the fifth of 21 events %d are left, want 17", got)
	}
	metadata.TrimFeed(t, s.Catalog, 10)
	if got := count(); got != 1 {
		t.Errorf("beyond the limit %d events are left, want the last one", got)
	}
	if metadata.HasReader(t, s.Catalog, "slow") || metadata.HasReader(t, s.Catalog, "fast") {
		t.Error("a reader that lost events is still registered")
	}
	// Numbers go on.
	if _, err := s.Link(t.Context(), alice, "a", blob("last")); err != nil {
		t.Fatal(err)
	}
	if got, _ := events(t, s, all[20].Position); len(got) != 1 {
		t.Errorf("behind the last position are events %q, want one", got)
	}
	// Many steps.
	s.mustExec(t, `INSERT INTO events (kind, at, actor) SELECT 'x', 1, '' FROM tag_history UNION ALL
		SELECT 'x', 1, '' FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3500) SELECT i FROM n) n`)
	metadata.TrimFeed(t, s.Catalog, 10)
	if got := count(); got != 1 {
		t.Errorf("of thousands of events %d are left, want the last one", got)
	}
}
