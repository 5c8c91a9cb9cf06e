//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// migrateTargets are the moves that are tested, one after the other from the same
// source. Each starts what it needs and returns the function that returns the
// storage section of a new, empty target for the store at root.
var migrateTargets = []struct {
	name string
	open func(t *testing.T) (storage func(root string) map[string]any)
}{
	{"disk", func(t *testing.T) func(string) map[string]any {
		return func(string) map[string]any { return map[string]any{"rootDirectory": t.TempDir()} }
	}},
	{"postgres", func(t *testing.T) func(string) map[string]any {
		server := pgtest.Start(t, pgtest.Options{Durable: true})
		return func(root string) map[string]any {
			dsn := server.DSN(server.Database(t))
			return map[string]any{"rootDirectory": root, "metadata": map[string]any{"driver": "postgres", "dsn": dsn}}
		}
	}},
	{"postgres and S3", func(t *testing.T) func(string) map[string]any {
		database, objects := pgtest.Start(t, pgtest.Options{Durable: true}), s3test.Start(t)
		n := 0
		return func(string) map[string]any {
			n++
			return map[string]any{
				"rootDirectory": t.TempDir(),
				"metadata":      map[string]any{"driver": "postgres", "dsn": database.DSN(database.Database(t))},
				"storageDriver": map[string]any(objects.Driver(fmt.Sprint("target", n))), // a Driver hides its secrets
			}
		}
	}},
}

// TestMigrateKilled kills berth migrate with SIGKILL at random moments, goes on
// until it is through, and compares what the target serves with what was pushed.
// Both stores must pass fsck. MIGRATE_KILLS is the number of kills for each kind
// of target (50), KILL_SEED the seed of their times.
func TestMigrateKilled(t *testing.T) {
	kills := envInt(t, "MIGRATE_KILLS", 50)
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d kills, KILL_SEED=%d", kills, seed)
	source := Start(t, Options{Topology: Linked})
	content := pushToMigrate(t, source.URL(), seed)
	if err := source.Processes[0].Stop(); err != nil {
		t.Fatal(err)
	}
	for i, target := range migrateTargets {
		t.Run(target.name, func(t *testing.T) {
			m := &migrateLoop{source: source, storage: target.open(t), rnd: mrand.New(mrand.NewPCG(seed, uint64(i)))}
			for m.killed < kills {
				m.once(t, kills, content)
			}
			t.Logf("%d kills in %d migrations; one that is not killed takes %v", m.killed, m.moves, m.takes.Round(time.Millisecond))
		})
	}
}

// migrateLoop moves one store again and again.
type migrateLoop struct {
	source  *System
	storage func(root string) map[string]any // of a new target
	rnd     *mrand.Rand
	takes   time.Duration // how long a move takes
	killed  int
	moves   int
}

// once moves the store to a new target, with kills on the way.
func (m *migrateLoop) once(t *testing.T, kills int, content []migrated) {
	t.Helper()
	m.moves++
	opt := Options{Topology: Linked, Edit: func(c map[string]any) { c["storage"] = m.storage(m.source.Dir) }}
	config := writeConfig(t, t.TempDir(), "config.json", "", freePort(t), nil, opt)
	var out bytes.Buffer
	for m.takes > 0 && m.killed < kills {
		// So that a move is killed some twenty times.
		after := time.Duration(m.rnd.Int64N(int64(m.takes)/5)) + m.takes/50
		if m.kill(t, config, after, &out) {
			break
		}
		m.killed++
	}
	begin := time.Now()
	cmd := m.command(t, config)
	if text, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(text), "not empty") {
		t.Fatalf("migrate after %d kills: %v\n%s\nbefore:\n%s", m.killed, err, text, out.String())
	}
	if m.takes == 0 {
		m.takes = time.Since(begin)
	}
	for _, file := range []string{m.source.Config, config} {
		if text, err := exec.Command(Program(t, "berth"), "fsck", "--read-data", file).CombinedOutput(); err != nil {
			t.Fatalf("fsck after %d kills: %v\n%s", m.killed, err, text)
		}
	}
	m.serve(t, config, content)
}

func (m *migrateLoop) command(t *testing.T, config string) *exec.Cmd {
	return exec.Command(Program(t, "berth"), "migrate", "--from", m.source.Config, "--to", config)
}

// kill starts a migration and kills it. It reports whether it ended before.
func (m *migrateLoop) kill(t *testing.T, config string, after time.Duration, out *bytes.Buffer) (ended bool) {
	t.Helper()
	cmd := m.command(t, config)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		// The last kill may have come between its last word and its end: what goes on
		// then finds a target that is not empty.
		if err != nil && !strings.Contains(out.String(), "done: serve ") {
			t.Fatalf("migrate: %v\n%s", err, out.String())
		}
		return true
	case <-time.After(after):
	}
	if err := cmd.Process.Kill(); err != nil {
		return true
	}
	return (<-done) == nil
}

// serve serves the target and compares it with what was pushed.
func (m *migrateLoop) serve(t *testing.T, config string, content []migrated) {
	t.Helper()
	s := &System{Topology: Linked, Addr: loopback(httpPort(t, config)), Config: config}
	s.add(t, Options{}, "berth", config)
	p := s.Processes[0]
	p.start(t)
	p.waitReady(t)
	for _, c := range content {
		c.check(t, s.URL())
	}
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
}

// migrated is an image that must arrive.
type migrated struct {
	repo, tag string
	digest    digest.Digest
	blobs     []digest.Digest
}

func (c migrated) check(t *testing.T, url string) {
	t.Helper()
	want := map[string]digest.Digest{"/manifests/" + c.tag: c.digest}
	for _, b := range c.blobs {
		want["/blobs/"+b.String()] = b
	}
	for path, d := range want {
		resp, err := http.Get(url + "/v2/" + c.repo + path)
		if err != nil {
			t.Fatal(err)
		}
		verifier := d.Verifier()
		_, err = io.Copy(verifier, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !verifier.Verified() {
			t.Errorf("%s%s: %s %v, want the bytes of %s", c.repo, path, resp.Status, err, d)
		}
	}
}

// pushToMigrate pushes images, small and large, each tag often so that it has a
// history.
func pushToMigrate(t *testing.T, url string, seed uint64) []migrated {
	t.Helper()
	rnd := mrand.NewChaCha8([32]byte{byte(seed)})
	var all []migrated
	for i := range 40 {
		m := migrated{repo: fmt.Sprintf("migrate/r%d", i%5), tag: fmt.Sprintf("t%d", i)}
		client := &killClient{base: url + "/v2/" + m.repo, http: http.DefaultClient}
		for version := range 20 {
			config, layer := []byte("{}"), make([]byte, 1000)
			if version < 2 {
				layer = make([]byte, 10_000+i%8*1_000_000)
			}
			rnd.Read(layer)
			m.blobs = []digest.Digest{digest.FromBytes(config), digest.FromBytes(layer)}
			manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[{"mediaType":"a/b","digest":%q,"size":%d}]}`,
				imageManifest, m.blobs[0], len(config), m.blobs[1], len(layer))
			m.digest = digest.FromBytes(manifest)
			if err := client.pushImage(client.base+"/manifests/"+m.tag, manifest, config, layer); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, m)
	}
	return all
}
