package allinone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
)

// edge is a registry over stores in memory, with a syncer that may be ended and
// started again.
type edge struct {
	t       *testing.T
	url     string
	dir     string
	blobs   *memory.Blobs
	catalog *memory.Catalog
	split   bool
	syncer  *syncer.Configured
	mirror  *swapped
	puts    atomic.Int64 // of manifests that came over HTTP
	dsn     string       // of PostgreSQL, "" for SQLite
}

// swapped is the mirror that a gateway asks, which changes when the syncer is started
// again.
type swapped struct {
	registry.Mirror
	mu   sync.RWMutex
	now  registry.Mirror
	lost bool // Settle does not arrive
}

func (s *swapped) get() registry.Mirror {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.now
}

func (s *swapped) Covers(ctx context.Context, n registry.Name) (registry.Coverage, error) {
	return s.get().Covers(ctx, n)
}

func (s *swapped) Route(ctx context.Context, upstream string, n registry.Name) (registry.Name, error) {
	return s.get().Route(ctx, upstream, n)
}

func (s *swapped) FetchReferrers(ctx context.Context, a registry.Actor, n registry.Name, d registry.Digest) error {
	return s.get().FetchReferrers(ctx, a, n, d)
}

func (s *swapped) Announce(ctx context.Context, a registry.Actor, n registry.Name, p registry.AnnouncedPush) (string, error) {
	return s.get().Announce(ctx, a, n, p)
}

func (s *swapped) Settle(ctx context.Context, receipt string, stored bool) error {
	if s.lost {
		return registry.ErrUnavailable
	}
	return s.get().Settle(ctx, receipt, stored)
}

func (s *swapped) Resolve(ctx context.Context, a registry.Actor, n registry.Name, r registry.Reference, d registry.Digest) (registry.Resolution, error) {
	return s.get().Resolve(ctx, a, n, r, d)
}

func (s *swapped) Claim(ctx context.Context, a registry.Actor, n registry.Name) error {
	return s.get().Claim(ctx, a, n)
}

func (s *swapped) Stat(ctx context.Context, a registry.Actor, n registry.Name, d registry.Digest) (int64, error) {
	return s.get().Stat(ctx, a, n, d)
}

func (s *swapped) Open(ctx context.Context, a registry.Actor, n registry.Name, d registry.Digest, r registry.Range) (registry.Content, error) {
	return s.get().Open(ctx, a, n, d, r)
}

// newEdge serves a registry; rules are what extensions.sync.registries has, "" for no
// syncer.
func newEdge(t *testing.T, split bool) *edge {
	t.Helper()
	return newEdgeOver(t, memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{}), split)
}

func newEdgeOver(t *testing.T, blobs *memory.Blobs, catalog *memory.Catalog, split bool) *edge {
	t.Helper()
	e := &edge{t: t, dir: t.TempDir(), blobs: blobs, catalog: catalog, split: split, mirror: new(swapped)}
	g := serveMirror(t, e.blobs, e.catalog, e.mirror)
	inner := g.Config.Handler
	g.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			e.puts.Add(1)
		}
		inner.ServeHTTP(w, r)
	})
	e.url = g.URL
	t.Cleanup(e.stop)
	return e
}

// start opens the syncer.
func (e *edge) start(rules string) {
	e.t.Helper()
	file := filepath.Join(e.dir, "config.json")
	metadata := ""
	if e.dsn != "" {
		metadata = fmt.Sprintf(`,"commit":false,"metadata":{"driver":"postgres","dsn":%q}`, e.dsn)
	}
	text := fmt.Sprintf(`{"storage":{"rootDirectory":%q%s},"http":{"port":"0"},"extensions":{"sync":{"registries":[%s]}}}`, e.dir, metadata, rules)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	cfg, _, err := config.Load(file)
	if err != nil {
		e.t.Fatal(err)
	}
	s, err := syncer.OpenConfigured(context.Background(), cfg, syncer.Parts{Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer, "postgres": postgres.OpenSyncer}}, e.blobs, e.catalog,
		func(err error) { e.t.Error(err) }, daemon.Process{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		e.t.Fatal(err)
	}
	e.syncer = s
	var m registry.Mirror = s
	if e.split {
		m = rpctest.Mirror(e.t, s)
	}
	e.mirror.mu.Lock()
	e.mirror.now = m
	e.mirror.mu.Unlock()
}

// age makes what waits older, in the database of a syncer that has ended.
func (e *edge) age(by time.Duration) {
	e.t.Helper()
	db, err := sqlite.OpenSyncer(e.t.Context(), config.Storage{Pool: config.Pool{RootDirectory: e.dir}}, func(err error) { e.t.Error(err) }, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	defer db.Close()
	err = db.Write(e.t.Context(), func(tx *sqldb.Tx) error {
		_, err := tx.Exec(`UPDATE forwards SET since = since - $1`, by.Microseconds())
		return err
	})
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *edge) stop() {
	if e.syncer == nil {
		return
	}
	if err := e.syncer.Close(); err != nil {
		e.t.Error(err)
	}
	e.syncer = nil
}

// push pushes an image with a layer of its own over HTTP, and returns its digest.
func (e *edge) push(repo, tag string, layer []byte) registry.Digest {
	e.t.Helper()
	upload := func(b []byte) registry.Descriptor {
		d := registry.SHA256.FromBytes(b)
		e.do(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+string(d), "application/octet-stream", b, http.StatusCreated)
		return registry.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(b))}
	}
	image, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": upload([]byte("{}")), "layers": []registry.Descriptor{upload(layer)}})
	if err != nil {
		e.t.Fatal(err)
	}
	e.do(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, registry.TypeManifest, image, http.StatusCreated)
	return registry.SHA256.FromBytes(image)
}

func (e *edge) do(method, path, mediaType string, body []byte, want int) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, bytes.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		b, _ := io.ReadAll(resp.Body)
		e.t.Fatalf("%s %s: %d %s, want %d", method, path, resp.StatusCode, b, want)
	}
}

// history returns what a tag was, the first first.
func (e *edge) history(repo registry.Name, tag registry.Tag) []registry.Digest {
	e.t.Helper()
	changes, err := e.catalog.TagHistory(e.t.Context(), operator, repo, tag, 1000)
	if err != nil && !errors.Is(err, registry.ErrNameUnknown) {
		e.t.Fatal(err)
	}
	var all []registry.Digest
	for _, c := range changes {
		all = append(all, c.Digest)
	}
	slices.Reverse(all)
	return all
}

// forwards lists what is passed on.
func (e *edge) forwards(open bool) []registry.Forward {
	e.t.Helper()
	all, err := e.mirror.get().Forwards(e.t.Context(), registry.ForwardQuery{Limit: 1000, Open: open})
	if err != nil {
		e.t.Fatal(err)
	}
	return all
}

// settled waits until nothing is left to pass on. Attempts are made at once.
func (e *edge) settled(rule string) {
	e.t.Helper()
	for range 6000 {
		if len(e.forwards(true)) == 0 {
			return
		}
		if err := e.mirror.get().Reforward(e.t.Context(), rule); err != nil {
			e.t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	e.t.Fatalf("still to be passed on: %+v", e.forwards(true))
}

func (x *line) rule(more string) string {
	return fmt.Sprintf(`{"urls":[%q],"localPushes":"forward"%s}`, x.url(), more)
}

func (x *line) name() string { return x.Addr().String() }

// TestForward: what is pushed while the other registry can't be reached is there in the
// same order when it can be, each push once; the status of each tag says how far it is;
// and the repository goes on being a mirror of what others push there.
func TestForward(t *testing.T) {
	for _, topology := range []string{"linked", "split"} {
		t.Run(topology, func(t *testing.T) { testForward(t, topology == "split") })
	}
}

func testForward(t *testing.T, split bool) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	e := newEnd(t, link, `,"onDemand":true,"manifestCheckInterval":"1ms"`, split)
	link.down.Store(true)
	var want []registry.Digest
	for i := range 10 {
		d := e.push("team/app", "latest", fmt.Appendf(nil, "layer %d", i))
		want = append(want, d)
		e.do(http.MethodGet, "/v2/team/app/manifests/latest", "", nil, http.StatusOK)
	}
	e.push("team/tool", "v1", []byte("tool"))
	open := e.forwards(true)
	if len(open) != 11 || open[0].State != registry.ForwardWaiting || open[0].Upstream != link.name()+"/team/app" || open[0].Tag != "latest" {
		t.Errorf("to be passed on: %+v", open)
	}
	if got := hq.history("team/app", "latest"); len(got) != 0 {
		t.Errorf("passed on although nobody is reached: %v", got)
	}
	if got := e.history("team/app", "latest"); !slices.Equal(got, want) {
		t.Errorf("the tag was %v here, want %v", got, want)
	}
	link.down.Store(false)
	e.settled(link.name())
	if diff := cmp.Diff(want, hq.history("team/app", "latest")); diff != "" {
		t.Errorf("what the tag was there differs (-want +got):\n%s", diff)
	}
	all := e.forwards(false)
	if len(all) != 2 || all[0].State != registry.ForwardDelivered || all[0].Digest != want[9] || all[1].Tag != "v1" {
		t.Errorf("the last of each tag: %+v", all)
	}
	// Others push there: it comes here.
	d := hq.push("team/app", "latest", []byte("from headquarters"))
	waitFor(t, func() bool { // the tag is not followed before it is counted that all is passed on
		e.do(http.MethodGet, "/v2/team/app/manifests/latest", "", nil, http.StatusOK)
		m, err := e.catalog.Manifest(t.Context(), operator, "team/app", registry.ManifestQuery{Ref: registry.Reference{Tag: "latest"}})
		return err == nil && m.Digest == d
	})
	if len(e.forwards(true)) != 0 {
		t.Errorf("what was fetched is passed on: %+v", e.forwards(true))
	}
}

// newEnd is an edge with one rule, for what is behind a line.
func newEnd(t *testing.T, link *line, more string, split bool) *edge {
	t.Helper()
	e := newEdge(t, split)
	e.start(link.rule(more))
	return e
}

// nothing is a mirror without rules.
type nothing struct{ registry.Mirror }

func (nothing) Covers(context.Context, registry.Name) (registry.Coverage, error) {
	return registry.Coverage{}, nil
}

func (nothing) Resolve(context.Context, registry.Actor, registry.Name, registry.Reference, registry.Digest) (registry.Resolution, error) {
	return registry.Resolution{}, registry.ErrNameUnknown
}

func (nothing) Stat(context.Context, registry.Actor, registry.Name, registry.Digest) (int64, error) {
	return 0, registry.ErrNameUnknown
}

func (nothing) Open(context.Context, registry.Actor, registry.Name, registry.Digest, registry.Range) (registry.Content, error) {
	return nil, registry.ErrNameUnknown
}
