//go:build e2e

package e2e

import (
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
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/syncer"
)

// takeOverWithin is how long it may take until another syncer has the rights of one that
// was killed: they hold for a minute, and it is looked for them each twenty seconds.
const takeOverWithin = 2 * time.Minute

// syncers is a system of many programs, two of each, that mirrors and replicates.
type syncers struct {
	*System
	far    *pacedUpstream    // what is fetched from
	hq     *System           // what is told of there comes here; what is pushed here goes there
	stages map[string]string // the directory of each syncer, by where it listens
	db     *sqldb.DB         // theirs
	client *http.Client
}

func startSyncers(t *testing.T, seed uint64) *syncers {
	t.Helper()
	const secret = "what both registries know"
	x := &syncers{far: newPacedUpstream(t, 12<<20, seed), stages: map[string]string{}, client: &http.Client{Timeout: takeOverWithin}}
	t.Cleanup(x.client.CloseIdleConnections)
	told := []string{loopback(freePort(t)), loopback(freePort(t))} // each syncer has its own
	x.hq = Start(t, Options{Topology: Linked, Edit: func(c map[string]any) {
		var sinks []any
		for _, to := range told {
			sinks = append(sinks, map[string]any{"type": "http", "address": "http://" + to + "/", "secret": secret})
		}
		c["extensions"] = map[string]any{"events": map[string]any{"enable": true, "sinks": sinks}}
	}})
	dir, order := t.TempDir(), []string{}
	x.System = Start(t, Options{Topology: Replicas, Mirror: true, Edit: func(c map[string]any) {
		mirroring(
			map[string]any{"urls": []string{x.far.url}, "onDemand": true, "content": []any{map[string]any{"prefix": "far/**"}}},
			map[string]any{"urls": []string{x.hq.URL()}, "localPushes": "forward", "content": []any{map[string]any{"prefix": "out/**"}}},
			map[string]any{
				"urls": []string{x.hq.URL()}, "localPushes": "deny", "content": []any{map[string]any{"prefix": "told/**"}},
				"notices": map[string]any{"secret": secret}, "prune": map[string]any{"grace": "0s"},
			},
		)(c)
		listen := c["services"].(map[string]any)["syncer"].(map[string]any)["listen"].(string)
		if x.stages[listen] == "" {
			x.stages[listen] = filepath.Join(dir, fmt.Sprint(len(order)))
			order = append(order, listen)
		}
		of := c["extensions"].(map[string]any)["sync"].(map[string]any)
		of["downloadDir"] = x.stages[listen]
		of["notices"] = map[string]any{"listen": told[slices.Index(order, listen)]}
	}})
	cfg, _, err := config.Load(x.Config)
	if err != nil {
		t.Fatal(err)
	}
	if x.db, err = postgres.OpenSyncer(t.Context(), cfg.Storage, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.db.Close() })
	return x
}

// fetching returns the syncer that has the right to fetch a blob.
func (x *syncers) fetching(t *testing.T, d digest.Digest) *Process {
	t.Helper()
	var holder string
	if err := x.db.QueryRow(t.Context(), `SELECT holder FROM fills WHERE digest = $1`, string(d)).Scan(&holder); err != nil {
		t.Fatalf("who fetches %s: %v", d, err)
	}
	for _, p := range x.of("syncer") {
		cfg, _, err := config.Load(p.Args[1])
		if err != nil {
			t.Fatal(err)
		}
		if syncer.HolderHere(filepath.Join(x.stages[cfg.Services.Syncer.Listen], ".berth-sync")) == holder {
			return p
		}
	}
	t.Fatalf("%s fetches %s, which is no syncer of ours", holder, d)
	return nil
}

// staged counts the syncers that have a part of a blob.
func (x *syncers) staged(d digest.Digest) (n int) {
	for _, dir := range x.stages {
		if _, err := os.Stat(filepath.Join(dir, ".berth-sync", d.Algorithm().String()+"-"+d.Encoded()+".part")); err == nil {
			n++
		}
	}
	return n
}

// push pushes an image, and returns its digest. A gateway may still ask a syncer that is
// gone: it is tried again then.
func (x *syncers) push(t *testing.T, to *System, repo, tag, text string) string {
	t.Helper()
	c := &killClient{base: to.URL() + "/v2/" + repo, http: x.client}
	manifest := imageOf([]byte("{}"), text, []byte(text))
	await(t, repo+":"+tag+" is pushed", func() bool {
		err := c.pushImage(c.base+"/manifests/"+tag, manifest, []byte("{}"), []byte(text))
		if err != nil && !errors.Is(err, errServer) {
			t.Fatal(err)
		}
		return err == nil
	})
	return digest.FromBytes(manifest).String()
}

// history returns what a tag was at headquarters, the first first.
func (x *syncers) history(t *testing.T, repo, tag string) (all []string) {
	t.Helper()
	resp, err := x.client.Get(x.hq.URL() + "/api/v1/repositories/" + repo + "/-/tags/" + tag + "/history?limit=1000")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Changes []struct {
			Digest string `json:"digest"`
		} `json:"changes"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	for _, c := range answer.Changes {
		all = append(all, c.Digest)
	}
	slices.Reverse(all)
	return all
}

// here returns what a tag is, "" if it is not here.
func (x *syncers) here(t *testing.T, repo, tag string) string {
	t.Helper()
	resp, err := x.client.Get(x.URL() + "/v2/" + repo + "/manifests/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	return resp.Header.Get("Docker-Content-Digest")
}

// await waits until ok, for as long as it may take to take over.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(takeOverWithin); !ok(); time.Sleep(10 * readyPause) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", takeOverWithin, what)
		}
	}
}

// TestMirrorTwoSyncers kills one of two syncers, that which is fetching a blob, while
// clients of both gateways pull it, pushes are passed on, and another registry tells of
// what is set and removed there: with two of each program, over PostgreSQL and S3. It
// stays away, or comes back at once. In both cases the blob is fetched by two at most and
// right, clients of the other one see nothing but a pause, each push arrives once and in
// order, and what was told of comes and goes.
//
// SYNCER_KILLS is the number of kills (4), KILL_SEED the seed.
func TestMirrorTwoSyncers(t *testing.T) {
	kills := envInt(t, "SYNCER_KILLS", 4)
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d kills, KILL_SEED=%d", kills, seed)
	x := startSyncers(t, seed)
	var gateways []string
	for _, p := range x.of("gateway") {
		gateways = append(gateways, strings.TrimSuffix(p.ready, "/readyz"))
	}
	first, content := x.far.add()
	for _, g := range gateways { // it serves before it has reached the syncers
		awaitBlob(t, x.client, g+"/v2/far/away/blobs/"+string(first), content)
	}
	x.push(t, x.hq, "told/app", "stays", "first")
	goes := x.push(t, x.hq, "told/app", "goes", "first")
	await(t, "the first of what was told of is here", func() bool { return x.here(t, "told/app", "goes") == goes })
	var pushed []string
	for n := range kills {
		d, content := x.far.add()
		broken := make(chan error, 8)
		var clients sync.WaitGroup
		for i := range cap(broken) {
			url := gateways[i%2] + "/v2/far/away/blobs/" + string(d)
			clients.Go(func() { broken <- pullBlob(x.client, url, content) })
		}
		await(t, "half of the blob has come", func() bool { return x.far.sent.Load() >= int64(x.far.size)/2 })
		if asked := x.far.asked(d); asked != 1 {
			t.Errorf("%d requests upstream for %d clients of two gateways", asked, cap(broken))
		}
		victim, both := x.fetching(t, d), x.staged(d) == 2 // one that was back a moment ago may have none
		for i := range 3 {
			pushed = append(pushed, x.push(t, x.System, "out/app", "latest", fmt.Sprint("before ", n, i)))
		}
		victim.Kill(t)
		killed := time.Now()
		for i := range 3 {
			pushed = append(pushed, x.push(t, x.System, "out/app", "latest", fmt.Sprint("behind ", n, i)))
		}
		comes := x.push(t, x.hq, "told/app", "goes", fmt.Sprint("told ", n))
		back := n%2 == 1
		if back {
			victim.Restart(t)
		}
		clients.Wait()
		close(broken)
		saw := 0
		for err := range broken {
			if err != nil {
				saw++
				if strings.Contains(err.Error(), "other bytes") {
					t.Error(err)
				}
			}
		}
		if saw == cap(broken) && (both || n == 0) {
			t.Errorf("clients of the syncer that was not killed see it")
		}
		awaitBlob(t, x.client, gateways[n%2]+"/v2/far/away/blobs/"+string(d), content)
		if asked := x.far.asked(d); asked > 2 {
			t.Errorf("%d requests upstream", asked)
		}
		await(t, "what was told of is here", func() bool { return x.here(t, "told/app", "goes") == comes })
		await(t, "all pushes are passed on", func() bool { h := x.history(t, "out/app", "latest"); return len(h) >= len(pushed) })
		if got := x.history(t, "out/app", "latest"); !slices.Equal(got, pushed) {
			t.Errorf("what the tag was there: %v\nwant %v", got, pushed)
		}
		c := &killClient{base: x.hq.URL() + "/v2/told/app", http: x.client}
		if _, err := c.do(http.MethodDelete, c.base+"/manifests/goes", nil, http.StatusAccepted, nil); err != nil {
			t.Fatal(err)
		}
		await(t, "what was removed is gone", func() bool { return x.here(t, "told/app", "goes") == "" })
		t.Logf("kill %d (back at once: %v): %d of %d clients saw it; all was done after %v", n+1, back, saw, cap(broken), time.Since(killed).Round(time.Second))
		if !back {
			victim.Restart(t)
		}
	}
	if x.here(t, "told/app", "stays") == "" {
		t.Error("what was not removed is gone")
	}
	checkStore(t, x.System, 24) // and reads all data
}
