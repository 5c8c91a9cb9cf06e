package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/services/metadata"
)

func globs(t testing.TB, texts ...string) glob.Set {
	t.Helper()
	set, err := glob.CompileAll(texts)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestMaxRepos(t *testing.T) { onEach(t, testMaxRepos) }

func testMaxRepos(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{Limits: metadata.Limits{MaxRepos: 2}}, nil)
	pushImage(t, s, "a", "x", "v1")
	b := pushImage(t, s, "b", "x", "v1")
	pushImage(t, s, "a", "y", "v2") // no new one
	full := func() {
		t.Helper()
		link(t, s, "c", blob("config of x"))
		link(t, s, "c", blob("layer of x"))
		_, err := s.PutManifest(t.Context(), alice, "c", b)
		wantErr(t, "one more repository", err, registry.ErrTooManyRequests)
		if diff := cmp.Diff(map[string]string{"limit": "2"}, registry.AsError(err).Detail); diff != "" {
			t.Errorf("detail (-want +got):\n%s", diff)
		}
	}
	full()
	if err := s.DeleteManifest(t.Context(), alice, "b", b.Digest); err != nil {
		t.Fatal(err)
	}
	put(t, s, "c", b) // there is room again
	put(t, s, "c", b) // and it is there now
	_, err := s.PutManifest(t.Context(), alice, "b", b)
	wantErr(t, "a repository that had room once", err, registry.ErrTooManyRequests)
}

func link(t testing.TB, c registry.Catalog, repo registry.Name, s registry.Stored) {
	t.Helper()
	if _, err := c.Link(t.Context(), alice, repo, s); err != nil {
		t.Fatal(err)
	}
}

// However many make a repository at once, no more come to be than may be.
func TestMaxReposInParallel(t *testing.T) { onEach(t, testMaxReposInParallel) }

func testMaxReposInParallel(t *testing.T, at newPlace) {
	const limit, pushes = 5, 40
	s := openStore(t, at(t), metadata.Options{Limits: metadata.Limits{MaxRepos: limit}}, nil)
	config := blob("config")
	m := image(config, []registry.Stored{config}, "v1")
	var wg sync.WaitGroup
	errs := make([]error, pushes)
	for i := range pushes {
		repo := registry.Name(fmt.Sprint("r", i))
		link(t, s, repo, config)
		wg.Go(func() { _, errs[i] = s.PutManifest(context.Background(), alice, repo, m) })
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		switch {
		case err == nil:
			made++
		case !errors.Is(err, registry.ErrTooManyRequests):
			t.Errorf("got error %v, want TooManyRequests", err)
		}
	}
	if made != limit {
		t.Errorf("%d repositories were made, want %d", made, limit)
	}
}

func TestImmutableTags(t *testing.T) { onEach(t, testImmutableTags) }

func testImmutableTags(t *testing.T, at newPlace) {
	s := openStore(t, at(t), metadata.Options{Limits: metadata.Limits{Immutable: []metadata.ImmutableTags{
		{Repositories: globs(t, "prod/**"), Tags: globs(t, "v*")},
		{Repositories: globs(t, "frozen")},
	}}}, nil)
	ctx := t.Context()
	for _, test := range []struct {
		repo   registry.Name
		tag    registry.Tag
		stands bool
	}{
		{"prod/a", "v1", true}, {"prod/a", "latest", false}, {"dev/a", "v1", false}, {"frozen", "latest", true},
	} {
		one := pushImage(t, s, test.repo, "one "+string(test.tag), test.tag)
		put(t, s, test.repo, one) // the same again
		two := pushImage(t, s, test.repo, "two "+string(test.tag), "other-"+test.tag)
		two.Tags = []registry.Tag{test.tag}
		_, moved := s.PutManifest(ctx, alice, test.repo, two)
		removed := s.DeleteTag(ctx, alice, test.repo, test.tag, registry.Condition{})
		gone := s.DeleteManifest(ctx, alice, test.repo, one.Digest)
		if !test.stands {
			if err := errors.Join(moved, removed, gone); err != nil {
				t.Errorf("%s:%s is not immutable: %v", test.repo, test.tag, err)
			}
			continue
		}
		for what, err := range map[string]error{"move": moved, "DeleteTag": removed, "DeleteManifest": gone} {
			wantErr(t, fmt.Sprintf("%s of %s:%s", what, test.repo, test.tag), err, registry.ErrDenied)
		}
		if got := tagged(t, s, test.repo, test.tag); got != one.Digest {
			t.Errorf("%s:%s points to %s, want %s", test.repo, test.tag, got, one.Digest)
		}
	}
}

func TestReadOnly(t *testing.T) { onEach(t, testReadOnly) }

func testReadOnly(t *testing.T, at newPlace) {
	place := at(t)
	s := openStore(t, place, metadata.Options{}, nil)
	m := pushImage(t, s, "prod/a", "x", "v1")
	s.options.Limits.ReadOnly = globs(t, "prod/**")
	s = s.crash(t)
	wantReadOnly(t, s, "prod/a", m)
	if got := tagged(t, s, "prod/a", "v1"); got != m.Digest {
		t.Errorf("a read-only repository can't be read: %s", got)
	}
	pushImage(t, s, "dev/a", "x", "v1")
}

// wantReadOnly checks that nothing changes repo, which has m.
func wantReadOnly(t *testing.T, c registry.Catalog, repo registry.Name, m registry.ManifestPut) {
	t.Helper()
	ctx := t.Context()
	for what, call := range map[string]func() error{
		"Admit":          func() error { _, err := c.Admit(ctx, alice, repo); return err },
		"Link":           func() error { _, err := c.Link(ctx, alice, repo, blob("new")); return err },
		"Mount":          func() error { _, err := c.Mount(ctx, alice, repo, m.Digest, ""); return err },
		"Unlink":         func() error { return c.Unlink(ctx, alice, repo, blob("layer of x").Digest) },
		"PutManifest":    func() error { _, err := c.PutManifest(ctx, alice, repo, m); return err },
		"ApplyRetention": func() error { _, err := c.ApplyRetention(ctx, alice, repo); return err },
		"RollbackTag": func() error {
			_, err := c.RollbackTag(ctx, alice, repo, "v1", m.Digest, registry.Condition{})
			return err
		},
		"DeleteTag":      func() error { return c.DeleteTag(ctx, alice, repo, "v1", registry.Condition{}) },
		"DeleteManifest": func() error { return c.DeleteManifest(ctx, alice, repo, m.Digest) },
	} {
		wantErr(t, what, call(), registry.ErrUnsupported)
	}
}

// What one process makes read-only, others learn of in a while, and it outlives
// them all.
func TestReadOnlyEverywhere(t *testing.T) { onEach(t, testReadOnlyEverywhere) }

func testReadOnlyEverywhere(t *testing.T, at newPlace) {
	place := at(t)
	s := openStore(t, place, metadata.Options{Follow: time.Millisecond}, nil)
	m := pushImage(t, s, "prod/a", "x", "v1")
	shared := s.db.Dialect().Shared != nil
	other := s
	if shared {
		other = openStore(t, place, metadata.Options{Follow: time.Millisecond}, nil)
	}
	if err := s.SetReadOnly(t.Context(), alice, registry.ReadOnly{Repositories: "prod/**", Reason: "moving"}); err != nil {
		t.Fatal(err)
	}
	wantReadOnly(t, s, "prod/a", m)
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := other.Admit(t.Context(), alice, "prod/a")
		if errors.Is(err, registry.ErrUnsupported) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("another process never hears of it: %v", err)
		}
	}
	if shared {
		other.close(t)
	}
	s.options.Limits.ReadOnly = globs(t, "old/*")
	s = s.crash(t)
	wantReadOnly(t, s, "prod/a", m)
	all, err := s.ReadOnlys(t.Context(), alice)
	if err != nil || len(all) != 2 || all[0].Repositories != "old/*" || all[1].Reason != "moving" || all[1].Since == 0 {
		t.Errorf("ReadOnlys: %+v (%v)", all, err)
	}
}
