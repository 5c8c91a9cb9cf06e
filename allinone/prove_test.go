package allinone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/blobstore/s3"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// envInt returns a number of the environment.
func envInt(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// allParts are those of the program with everything in it.
func allParts() Parts {
	return Stores(
		map[string]blobstore.OpenPool{"local": disk.OpenPool, "s3": s3.OpenPool},
		metadata.Drivers{Databases: map[string]metadata.OpenDB{"sqlite": sqlite.OpenConfigured, "postgres": postgres.OpenConfigured}},
	)
}

// engine is a kind of store. new returns the storage section of an empty one;
// again that of the same store with an empty database.
type engine struct {
	name string
	new  func(t *testing.T) (storage map[string]any, again func(t *testing.T) map[string]any)
}

func dsn(t *testing.T) map[string]any {
	_, dsn := pgtest.Shared(t).Schema(t)
	return map[string]any{"driver": "postgres", "dsn": dsn}
}

var engines = []engine{
	{"disk and SQLite", func(t *testing.T) (map[string]any, func(*testing.T) map[string]any) {
		root := t.TempDir()
		return map[string]any{"rootDirectory": root}, func(t *testing.T) map[string]any {
			for _, suffix := range []string{"", "-wal", "-shm"} {
				if err := os.RemoveAll(filepath.Join(root, ".berth", "metadata.db"+suffix)); err != nil {
					t.Fatal(err)
				}
			}
			return map[string]any{"rootDirectory": root}
		}
	}},
	{"disk and PostgreSQL", func(t *testing.T) (map[string]any, func(*testing.T) map[string]any) {
		root := t.TempDir()
		return map[string]any{"rootDirectory": root, "commit": false, "metadata": dsn(t)}, func(t *testing.T) map[string]any {
			return map[string]any{"rootDirectory": root, "commit": false, "metadata": dsn(t)}
		}
	}},
	{"S3 and PostgreSQL", func(t *testing.T) (map[string]any, func(*testing.T) map[string]any) {
		root, driver := t.TempDir(), map[string]any(s3test.Start(t).Driver("store"))
		return map[string]any{"rootDirectory": root, "commit": false, "metadata": dsn(t), "storageDriver": driver}, func(t *testing.T) map[string]any {
			return map[string]any{"rootDirectory": root, "commit": false, "metadata": dsn(t), "storageDriver": driver}
		}
	}},
}

// runBerth runs the program.
func runBerth(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := Program("berth", "v0", "", allParts()).Run(t.Context(), args, &out)
	return out.String(), err
}

// live is a store that is served in this process, with a control socket.
type live struct {
	file    string
	blobs   Blobs
	catalog Catalog
	stop    func()
}

func serveStore(t *testing.T, file string) *live {
	t.Helper()
	cfg, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	l := &live{file: file}
	if l.blobs, err = allParts().Blobs(t.Context(), cfg, p); err != nil {
		t.Fatal(err)
	}
	if l.catalog, err = allParts().Catalog(t.Context(), cfg, l.blobs, func(err error) { t.Errorf("fatal: %v", err) }, p); err != nil {
		t.Fatal(errors.Join(err, l.blobs.Close()))
	}
	end := controlled(t, cfg, l)
	l.stop = sync.OnceFunc(func() {
		if err := errors.Join(end(), l.catalog.Close(), l.blobs.Close()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(l.stop)
	return l
}

// journalled waits until the store has a complete snapshot.
func (l *live) journalled(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		names, err := l.blobs.ListJournal(t.Context(), "", 1000)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".end") }) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("no snapshot of the catalog within a minute")
}

var prover = registry.Actor{ID: "prover"}

func (l *live) upload(t *testing.T, content []byte) (registry.Stored, error) {
	u, err := l.blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		return registry.Stored{}, err
	}
	return l.blobs.Commit(t.Context(), u, bytes.NewReader(content), registry.SHA256.FromBytes(content))
}

// operate does something at random, and returns an error that is none of those
// that may be.
func (l *live) operate(t *testing.T, r *rand.Rand) error {
	repo, tag := registry.Name(fmt.Sprintf("team%d/app", r.IntN(5))), registry.Tag(fmt.Sprintf("v%d", r.IntN(8)))
	var err error
	switch n := r.IntN(10); {
	case n < 6:
		err = l.push(t, r, repo, tag)
	case n < 8:
		err = l.catalog.DeleteTag(t.Context(), prover, repo, tag, registry.Condition{})
	default:
		var m registry.Manifest
		m, err = l.catalog.Manifest(t.Context(), prover, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
		if err == nil {
			err = l.catalog.DeleteManifest(t.Context(), prover, repo, m.Digest)
		}
	}
	for _, expected := range []error{registry.ErrManifestUnknown, registry.ErrNameUnknown, registry.ErrInUse} {
		if errors.Is(err, expected) {
			return nil
		}
	}
	return err
}

func (l *live) push(t *testing.T, r *rand.Rand, repo registry.Name, tag registry.Tag) error {
	type descriptor struct {
		MediaType string          `json:"mediaType"`
		Digest    registry.Digest `json:"digest"`
		Size      int64           `json:"size"`
	}
	var all []descriptor
	for i, content := range [][]byte{fmt.Appendf(nil, `{"n":%d}`, r.Uint64()), fmt.Appendf(nil, "layer %d", r.IntN(50)), make([]byte, 1+r.IntN(100_000))} {
		s, err := l.upload(t, content)
		if err == nil {
			s, err = l.catalog.Link(t.Context(), prover, repo, s)
		}
		if err != nil {
			return err
		}
		mediaType := "application/vnd.oci.image.layer.v1.tar"
		if i == 0 {
			mediaType = "application/vnd.oci.image.config.v1+json"
		}
		all = append(all, descriptor{mediaType, s.Digest, s.Size})
	}
	b, err := json.Marshal(map[string]any{"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": all[0], "layers": all[1:]})
	if err != nil {
		return err
	}
	_, err = l.catalog.PutManifest(t.Context(), prover, repo, registry.ManifestPut{
		Digest: registry.SHA256.FromBytes(b), MediaType: registry.TypeManifest, Bytes: b, Tags: []registry.Tag{tag},
	})
	return err
}

// tags returns each tag with what it answers and its history.
func (l *live) tags(t *testing.T) []string {
	t.Helper()
	var all []string
	repos, err := l.catalog.Repositories(t.Context(), prover, registry.Page[registry.Name]{Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	for _, repo := range repos.Items {
		for n := range 8 {
			tag := registry.Tag(fmt.Sprintf("v%d", n))
			m, err := l.catalog.Manifest(t.Context(), prover, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
			if err != nil && !errors.Is(err, registry.ErrManifestUnknown) {
				t.Fatal(err)
			}
			h, err := l.catalog.TagHistory(t.Context(), prover, repo, tag, 1000)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s:%s %s %q %v", repo, tag, m.Digest, m.Bytes, h))
		}
	}
	return all
}

// TestProveRebuild deletes the database after operations at random (PROVE_OPS, of
// PROVE_SEED), makes it again, and compares every tag. The store must pass a check
// that reads all bytes.
func TestProveRebuild(t *testing.T) {
	ops, seed := envInt(t, "PROVE_OPS", 60), uint64(envInt(t, "PROVE_SEED", int(time.Now().UnixNano()>>20)))
	for _, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Logf("PROVE_OPS=%d PROVE_SEED=%d", ops, seed)
			r := rand.New(rand.NewPCG(seed, 1))
			storage, again := e.new(t)
			file := storeFile(t, storage)
			l := serveStore(t, file)
			half := func() {
				for range ops / 2 {
					if err := l.operate(t, r); err != nil {
						t.Fatal(err)
					}
				}
			}
			half()
			l.journalled(t)
			half()
			want := l.tags(t)
			if out, err := runBerth(t, "rebuild", file); exitCode(err) != exitNotDone {
				t.Errorf("rebuild of a store in use: %v\n%s", err, out)
			}
			l.stop()
			if out, err := runBerth(t, "rebuild", file); exitCode(err) != exitNotDone {
				t.Errorf("rebuild over a database: %v\n%s", err, out)
			}
			lost := storeFile(t, again(t))
			if _, err := openStore(t, lost); !errors.Is(err, metadata.ErrLost) && !errors.Is(err, sqlite.ErrMissing) || !strings.Contains(fmt.Sprint(err), "berth rebuild") {
				t.Errorf("start with an empty database: got error %v, want one that tells of rebuild", err)
			}
			out, err := runBerth(t, "rebuild", lost)
			if err != nil {
				t.Fatalf("rebuild: %v\n%s", err, out)
			}
			t.Log(out)
			if out, err := runBerth(t, "fsck", "--read-data", lost); err != nil {
				t.Errorf("fsck: %v\n%s", err, out)
			}
			if diff := cmp.Diff(want, serveStore(t, lost).tags(t)); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
		})
	}
}

// openStore opens a store and closes it again.
func openStore(t *testing.T, file string) (io.Closer, error) {
	t.Helper()
	cfg, _, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Reach(context.WithoutCancel(t.Context()), cfg, allParts(), slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// controlled lets commands reach a store that is partly on disk, until end is
// called.
func controlled(t *testing.T, cfg *config.Config, l *live) (end func() error) {
	t.Helper()
	if !onDisk(cfg) {
		return func() error { return nil }
	}
	unit, err := rpc.ControlUnit(t.Context(), cfg.Storage.RootDirectory, l.blobs, l.catalog, nil, nil, rpc.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- unit.Run() }()
	return func() error { return errors.Join(unit.Stop(context.WithoutCancel(t.Context())), <-done) }
}
