package metadata_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
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
	if !p.Live.Applies("storage.retention") || !p.Live.Applies("http.accessControl") {
		t.Error("what has changed is said to wait for a restart")
	}
}

// TestS151EachKeyFollowsTheFile changes one key after the other.
func TestS151EachKeyFollowsTheFile(t *testing.T) {
	var told atomic.Int64
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { told.Add(1) }))
	defer sink.Close()
	first := config.Defaults()
	first.Storage.RootDirectory = t.TempDir()
	sub := config.SubPath{Pool: config.Pool{RootDirectory: t.TempDir(), GCDelay: time.Hour, GCInterval: time.Hour}}
	first.Storage.SubPaths = map[string]config.SubPath{"/sub": sub}
	next := *first
	p := daemon.Process{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New()}
	p.Live = config.NewLive(first, func() (*config.Config, []config.Warning, error) { c := next; return &c, nil, nil }, p.Log, p.Metrics)
	s, err := metadata.OpenConfigured(t.Context(), first, metadata.Drivers{Databases: map[string]metadata.OpenDB{"sqlite": sqlite.OpenConfigured}}, nil, func(error) {}, p)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	metadata.SetQuotaDelay(s.Catalog, time.Millisecond)
	ctx, system := t.Context(), registry.Actor{System: true}
	put := func(repo registry.Name, content string) error {
		_, err := s.PutManifest(ctx, system, repo, registry.ManifestPut{Digest: registry.SHA256.FromString(content), MediaType: registry.TypeIndex, Bytes: []byte(content)})
		return err
	}
	const empty = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
	list := func(name string, size int) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"digest":%q,"size":%d}],"annotations":{"n":%q}}`,
			registry.TypeIndex, registry.SHA256.FromString(empty), size, name)
	}
	if err := put("a/b", empty); err != nil {
		t.Fatal(err)
	}
	here := func() metadata.GC { return metadata.Policy(s.Catalog, "") }
	there := func() metadata.GC { return metadata.Policy(s.Catalog, "/sub") }
	inSub := func(change func(*config.Pool)) {
		sub.Pool = next.Storage.SubPaths["/sub"].Pool
		change(&sub.Pool)
		next.Storage.SubPaths = map[string]config.SubPath{"/sub": sub}
	}
	repos := 0
	for _, row := range []struct {
		key    string
		change func()
		holds  func() bool
	}{
		{"log.auditRetention", func() { next.Log.AuditRetention = 5 * time.Hour }, func() bool { return metadata.AuditKeep(s.Catalog) == 5*time.Hour }},
		{"storage.gc", func() { next.Storage.GC = false }, func() bool { return here().Off }},
		{"storage.gcDelay", func() { next.Storage.GCDelay = 3 * time.Hour }, func() bool { return here().Lease == 3*time.Hour }},
		{"storage.gcInterval", func() { next.Storage.GCInterval = 4 * time.Hour }, func() bool { return here().Interval == 4*time.Hour }},
		{"storage.gcTimeWindow", func() { next.Storage.GCTimeWindow = "01:00-02:00" }, func() bool { return here().From == 60 && here().To == 120 }},
		{"storage.undoWindow", func() { next.Storage.UndoWindow = 50 * time.Hour }, func() bool { return here().Undo == 50*time.Hour }},
		{"storage.subPaths.*.gc", func() { inSub(func(p *config.Pool) { p.GC = true }) }, func() bool { return !there().Off }},
		{"storage.subPaths.*.gcDelay", func() { inSub(func(p *config.Pool) { p.GCDelay = 7 * time.Hour }) }, func() bool { return there().Lease == 7*time.Hour }},
		{"storage.maxRepos", func() { next.Storage.MaxRepos = 1 }, func() bool {
			repos++
			return errors.Is(put(registry.Name(fmt.Sprint("new/", repos)), empty), registry.ErrTooManyRequests)
		}},
		{"storage.allowWrongSizes", func() { next.Storage.AllowWrongSizes = true }, func() bool { return put("a/b", list("size", 1)) == nil }},
		{"storage.allowSparse", func() { next.Storage.AllowSparse = true }, func() bool { return put("a/b", sparse) == nil }},
		{"storage.cache.bytes", func() { next.Storage.Cache.Bytes = 7 }, func() bool {
			u, err := s.CacheUsage(ctx, system)
			return err == nil && u[0].Limit == 7
		}},
		{"storage.cache.pins", func() { next.Storage.Cache.Pins = []string{"a/b:v1"} }, func() bool {
			all, err := s.Pins(ctx, system)
			return err == nil && len(all) == 1
		}},
		{"storage.verifyReads", func() { next.Storage.VerifyReads = config.VerifyAlways }, func() bool { return metadata.VerifiedUntil(s.Catalog, 1) == 0 }},
		{"extensions.scrub", func() {
			next.Extensions = &config.Extensions{Scrub: &config.Scrub{Interval: 5 * time.Hour, Rate: 3}}
		}, func() bool {
			st, err := s.ScrubStatus(ctx, system)
			return err == nil && st.Rate == 3_000_000
		}},
		{"extensions.events", func() {
			yes, e := true, *next.Extensions
			e.Events = &config.Events{Enable: &yes, Sinks: []config.Sink{{Type: "http", Address: sink.URL, Timeout: time.Minute}}}
			next.Extensions = &e
		}, func() bool {
			if err := put("a/b", list(fmt.Sprint("event", told.Load(), time.Now()), len(empty))); err != nil {
				t.Fatal(err)
			}
			return told.Load() > 0
		}},
		// The last one: nothing can be pushed then.
		{"storage.quotas", func() { next.Storage.Quotas = []config.Quota{{Repositories: []string{"a/**"}, Bytes: 1}} }, func() bool {
			return errors.Is(put("a/b", list(fmt.Sprint("quota", time.Now()), len(empty))), registry.ErrDenied)
		}},
	} {
		if row.holds() {
			t.Fatalf("%s holds before", row.key)
		}
		row.change()
		if err := p.Live.Reload(ctx); err != nil {
			t.Fatalf("%s: %v", row.key, err)
		}
		if !p.Live.Applies(row.key) {
			t.Errorf("%s waits for a restart", row.key)
		}
		for deadline := time.Now().Add(time.Minute); !row.holds(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not hold", row.key)
			}
		}
	}
	next.Storage.Quotas, next.Storage.MaxRepos = nil, 0
	if err := p.Live.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if err := put("c/d", empty); err != nil {
		t.Errorf("limits that are gone: %v", err)
	}
	for _, key := range []string{"storage.subPaths.*.rootDirectory", "storage.rootDirectory", "storage.metadata"} {
		if p.Live.Applies(key) {
			t.Errorf("%s is said to have changed", key)
		}
	}
}

// sparse is an index of what is not here.
var sparse = fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":%q,"digest":%q,"size":3}]}`, registry.TypeIndex, registry.SHA256.FromString("no"))
