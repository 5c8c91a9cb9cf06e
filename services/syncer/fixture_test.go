package syncer_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// world is a syncer over stores in memory.
type world struct {
	*syncer.Service
	blobs   *memory.Blobs
	catalog *memory.Catalog
	front   func(*memory.Catalog) syncer.Catalog // what the syncer sees of catalog; nil: all
	root    string
	db      *sqldb.DB
	later   *atomic.Int64 // how far the clock of syncer and upstreams is ahead
	close   func()
}

var nobody registry.Actor

// skew is how far the clock is ahead. Tests run one after the other.
var skew atomic.Int64

func clock() time.Time { return time.Now().Add(time.Duration(skew.Load())) }

// at returns a rule for an upstream, which mirrors all of it unless content says else.
func at(t *testing.T, url string, content ...syncer.Content) *syncer.Rule {
	t.Helper()
	r := &syncer.Rule{Host: upstream.HostOf(url), OnDemand: true, Fresh: time.Minute, Timeout: time.Hour, Content: content, CosignTags: true}
	h, err := upstream.New(upstream.Options{URL: url, Transport: http.DefaultTransport, UserAgent: "berth/test", Now: clock})
	if err != nil {
		t.Fatal(err)
	}
	r.Hosts = []*upstream.Host{h}
	return r
}

func open(t *testing.T, rules ...*syncer.Rule) *world {
	t.Helper()
	w := &world{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{}), root: t.TempDir(), later: &skew}
	skew.Store(0)
	w.start(t, rules...)
	return w
}

// start opens the syncer over what is there.
func (w *world) start(t *testing.T, rules ...*syncer.Rule) {
	t.Helper()
	db, err := sqlite.OpenSyncer(t.Context(), config.Storage{Pool: config.Pool{RootDirectory: w.root}}, func(err error) { t.Error(err) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.db = db
	var catalog syncer.Catalog = w.catalog
	if w.front != nil {
		catalog = w.front(w.catalog)
	}
	w.Service, err = syncer.New(t.Context(), db, w.blobs, catalog, syncer.Options{
		Rules: rules, Staging: filepath.Join(w.root, "staging"), Holder: "test", Log: slog.New(slog.DiscardHandler),
		Now: clock,
	})
	if err != nil {
		t.Fatal(errors.Join(err, db.Close()))
	}
	closed := false
	w.close = func() {
		if !closed {
			closed = true
			if err := errors.Join(w.Service.Close(), db.Close()); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(w.close)
}

// pushBlob stores a blob in a repository.
func (w *world) pushBlob(t *testing.T, repo registry.Name, text string) registry.Descriptor {
	t.Helper()
	u, err := w.blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := w.blobs.Commit(t.Context(), u, strings.NewReader(text), registry.SHA256.FromString(text))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.catalog.Link(t.Context(), nobody, repo, stored); err != nil {
		t.Fatal(err)
	}
	return registry.Descriptor{MediaType: "application/octet-stream", Digest: stored.Digest, Size: stored.Size}
}

// linked waits until the catalog knows a blob.
func (w *world) linked(t *testing.T, repo registry.Name, d registry.Digest) registry.Blob {
	t.Helper()
	var b registry.Blob
	waitFor(t, fmt.Sprintf("%s is in %s", d, repo), func() (ok bool) {
		var err error
		b, err = w.catalog.Blob(t.Context(), nobody, repo, d)
		return err == nil
	})
	return b
}

// fetches waits until what is being fetched is as ok says.
func (w *world) fetches(t *testing.T, what string, ok func([]registry.Fill) bool) {
	t.Helper()
	waitFor(t, what, func() bool {
		fills, err := w.Fills(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return ok(fills)
	})
}

// waitFor waits until ok says that what holds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// nothing matches no tag.
var nothing = regexp.MustCompile(`^$`)
