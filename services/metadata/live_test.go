package metadata_test

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

// TestS151PoliciesFollowTheFile: retention, garbage collection, read-only repositories and
// immutable tags are those of the file, all of a file that is right and none of one that
// is not.
func TestS151PoliciesFollowTheFile(t *testing.T) {
	first := config.Defaults()
	first.Storage.RootDirectory = t.TempDir()
	next := *first
	p := daemon.Process{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New()}
	p.Live = config.NewLive(first, func() (*config.Config, []config.Warning, error) { c := next; return &c, nil, nil }, p.Log, p.Metrics)
	s, err := metadata.OpenConfigured(t.Context(), first, metadata.Drivers{Databases: map[string]metadata.OpenDB{"sqlite": sqlite.OpenConfigured}}, nil, func(error) {}, p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, system := t.Context(), registry.Actor{System: true}
	content := []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
	put := func(tag registry.Tag) error {
		_, err := s.PutManifest(ctx, system, "a/b", registry.ManifestPut{Digest: registry.SHA256.FromBytes(content), MediaType: registry.TypeIndex, Bytes: content, Tags: []registry.Tag{tag}})
		return err
	}
	keeps := func(tag registry.Tag) bool {
		all, err := s.ExplainRetention(ctx, system, "a/b", registry.Reference{}, registry.Page[string]{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range all.Items {
			if d.Tag == tag {
				return d.Keep
			}
		}
		t.Fatalf("no decision about %s: %+v", tag, all.Items)
		return false
	}
	for _, tag := range []registry.Tag{"v1", "nightly"} {
		if err := put(tag); err != nil {
			t.Fatal(err)
		}
	}
	if !keeps("v1") || !keeps("nightly") {
		t.Fatal("retention without policies")
	}
	patterns := []string{"v.*"}
	next.Storage.Retention = &config.Retention{Policies: []config.RetentionPolicy{{Repositories: []string{"**"}, KeepTags: []config.KeepTag{{Patterns: patterns}}}}}
	next.Storage.ImmutableTags = []config.ImmutableTags{{Repositories: []string{"a/**"}, Tags: []string{"v1"}}}
	if err := p.Live.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if !keeps("v1") || keeps("nightly") {
		t.Error("the new retention does not hold")
	}
	if err := s.DeleteTag(ctx, system, "a/b", "v1", registry.Condition{}); err == nil {
		t.Error("an immutable tag is gone")
	}

	good := next
	next.Storage.ReadOnly, next.Storage.GCTimeWindow = []string{"**"}, "never"
	if err := p.Live.Reload(ctx); err == nil {
		t.Error("a file that is wrong was applied")
	}
	if err := put("v2"); err != nil {
		t.Errorf("half of a file that is wrong holds: %v", err)
	}
	next = good
	next.Storage.ReadOnly, next.Storage.GCDelay = []string{"a/**"}, 48*time.Hour
	if err := p.Live.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if err := put("v3"); !errors.Is(err, registry.ErrUnsupported) {
		t.Errorf("a push to a repository that is read-only now: %v", err)
	}
	for _, key := range []string{"storage.retention", "storage.gcDelay", "storage.readOnly", "storage.immutableTags", "http.accessControl"} {
		if !p.Live.Applies(key) {
			t.Errorf("%s waits for a restart", key)
		}
	}
	if p.Live.Applies("storage.quotas") || p.Live.Applies("storage.maxRepos") || p.Live.Applies("storage.subPaths") {
		t.Error("what can't change is said to have changed")
	}
}
