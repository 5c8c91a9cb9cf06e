package allinone

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// loadRest is how long each writer of a load rests between two operations, which leaves
// something of the machine to the backup: else the store grows faster than it is copied.
// The S3 server of the tests needs ten times as long for a blob as a disk.
const loadRest, loadRestS3 = 25 * time.Millisecond, 250 * time.Millisecond

// load changes a store until it is stopped.
type load struct {
	stop  context.CancelFunc
	wait  sync.WaitGroup
	mu    sync.Mutex // guards all below
	moves []registry.Digest
	ops   int
}

// startLoad starts writers that do things at random, and one that moves one tag and
// remembers to what: it tells of which moment a copy is.
func startLoad(t *testing.T, l *live, seed uint64, rest time.Duration) *load {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w := &load{stop: stop}
	for i := range 3 {
		r := rand.New(rand.NewPCG(seed, uint64(10+i)))
		w.wait.Go(func() {
			for ctx.Err() == nil {
				if err := l.operate(t, r); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				w.mu.Lock()
				w.ops++
				w.mu.Unlock()
				time.Sleep(rest)
			}
		})
	}
	r := rand.New(rand.NewPCG(seed, 9))
	w.wait.Go(func() {
		for ctx.Err() == nil {
			if err := l.push(t, r, "moments", "now"); err != nil {
				t.Error(err)
				return
			}
			m, err := l.catalog.Manifest(t.Context(), prover, "moments", registry.ManifestQuery{Ref: registry.Reference{Tag: "now"}, NoBytes: true})
			if err != nil {
				t.Error(err)
				return
			}
			w.mu.Lock()
			w.moves = append(w.moves, m.Digest)
			w.mu.Unlock()
			time.Sleep(rest)
		}
	})
	return w
}

func (w *load) end() {
	w.stop()
	w.wait.Wait()
}

// done returns how often the tag was moved, and how much else was done.
func (w *load) done() (moves, ops int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.moves), w.ops
}

// TestG22Backup makes PROVE_BACKUPS backups of each kind of store under load, and
// restores each into another kind. What is restored must pass a check that reads
// all bytes, and be the store as it was between begin and end of the backup.
func TestG22Backup(t *testing.T) {
	rounds, seed := envInt(t, "PROVE_BACKUPS", 1), uint64(envInt(t, "PROVE_SEED", int(time.Now().UnixNano()>>20)))
	for i, e := range engines {
		t.Run(e.name, func(t *testing.T) {
			t.Logf("PROVE_BACKUPS=%d PROVE_SEED=%d", rounds, seed)
			storage, _ := e.new(t)
			file := storeFile(t, storage)
			l := serveStore(t, file)
			target, rest := filepath.Join(t.TempDir(), "backups"), loadRest
			if i == 2 {
				target, rest = s3Target(t), loadRestS3
			}
			for n := range rounds {
				backUpUnderLoad(t, startLoad(t, l, seed+uint64(n), rest), file, target, func() string { return restoreElsewhere(t, i, target) })
			}
		})
	}
}

// backUpUnderLoad makes a backup of a store that is used, and restores it when that has
// ended: else the store would grow by more from one backup to the next.
func backUpUnderLoad(t *testing.T, w *load, file, target string, restore func() string) {
	t.Helper()
	defer w.end()
	waitFor(t, func() bool { moves, _ := w.done(); return moves >= 3 })
	first, opsBefore := w.done()
	out, err := runBerth(t, "backup", "create", file, "--to", target)
	if err != nil {
		t.Fatalf("backup create: %v\n%s", err, out)
	}
	last, opsAfter := w.done()
	if opsAfter == opsBefore {
		t.Error("nothing was done meanwhile: it proves nothing")
	}
	if out, err := runBerth(t, "fsck", "--online", file); err != nil {
		t.Errorf("fsck of the store under load: %v\n%s", err, out)
	}
	w.end()
	if out, err := runBerth(t, "backup", "verify", "--from", target, "--read-data"); err != nil {
		t.Errorf("backup verify: %v\n%s", err, out)
	}
	r := serveStore(t, restore())
	m, err := r.catalog.Manifest(t.Context(), prover, "moments", registry.ManifestQuery{Ref: registry.Reference{Tag: "now"}, NoBytes: true})
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	at := slices.Index(w.moves[first-1:min(last+1, len(w.moves))], m.Digest)
	if at < 0 {
		t.Errorf("a backup has the tag at %s, which it was at no time between the moves %d and %d", m.Digest, first, last)
	}
	t.Logf("%d operations and %d moves meanwhile, it is of move %d", opsAfter-opsBefore, last-first, first+at)
}

func s3Target(t *testing.T) string {
	d := s3test.Start(t).Driver("backups")
	query := ""
	for key, value := range d {
		if key != "name" && key != "bucket" && key != "rootdirectory" {
			query += fmt.Sprintf("&%s=%v", key, value)
		}
	}
	return fmt.Sprintf("s3://%s/backups?%s", d["bucket"], strings.TrimPrefix(query, "&"))
}

// restoreElsewhere restores the latest backup into an empty store of another kind,
// checks it, and returns its config file.
func restoreElsewhere(t *testing.T, i int, target string) string {
	t.Helper()
	storage := map[string]any{"rootDirectory": t.TempDir(), "commit": false}
	if i != 1 {
		storage["metadata"] = dsn(t)
	}
	file := storeFile(t, storage)
	if out, err := runBerth(t, "backup", "restore", file, "--from", target); err != nil {
		t.Fatalf("backup restore: %v\n%s", err, out)
	}
	if out, err := runBerth(t, "fsck", "--read-data", file); err != nil {
		t.Errorf("fsck of what was restored: %v\n%s", err, out)
	}
	return file
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
	}
}

// A backup is no better than what was there, says what it lacks, and notices when
// its own files are damaged.
func TestBackupOfADamagedStore(t *testing.T) {
	root, target := t.TempDir(), filepath.Join(t.TempDir(), "backups")
	fillStore(t, root)
	file := storeFile(t, map[string]any{"rootDirectory": root})
	if out, err := runBerth(t, "backup", "create", file, "--to", root); exitCode(err) != exitNotDone {
		t.Errorf("a backup into the store itself: %v\n%s", err, out)
	}
	if out, err := runBerth(t, "backup", "verify", "--from", target); exitCode(err) != exitNotDone {
		t.Errorf("verify of nothing: %v\n%s", err, out)
	}
	if out, err := runBerth(t, "backup", "create", file, "--to", target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before := files(t, target)
	if out, err := runBerth(t, "backup", "create", file, "--to", target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := files(t, target) - before; got != 2 {
		t.Errorf("a second backup of the same made %d files, want 2: the names and the manifest", got)
	}
	if out, err := runBerth(t, "backup", "list", "--from", target); err != nil || strings.Count(out, "2 blobs") != 2 {
		t.Errorf("list: %v\n%s", err, out)
	}

	// The latest is the one that was begun last, also of those of the same second.
	digest := func(args ...string) (all []string) {
		out, err := runBerth(t, append([]string{"backup"}, args...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(out) {
			var b struct{ Digest string }
			if err := json.Unmarshal([]byte(line), &b); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			all = append(all, b.Digest)
		}
		return all
	}
	made := digest("list", "--json", "--from", target)
	for range 4 {
		made = append(made, digest("create", "--json", file, "--to", target)...)
		if got := digest("verify", "--json", "--from", target); got[0] != made[len(made)-1] {
			t.Errorf("the latest is %q, want %q", got, made[len(made)-1])
		}
	}
	if got := digest("list", "--json", "--from", target); !slices.Equal(got, made) {
		t.Errorf("list: got %q, want %q", got, made)
	}

	blob := largestBlob(t, target)
	flip(t, blob)
	if out, err := runBerth(t, "backup", "verify", "--from", target); err != nil {
		t.Errorf("verify without reading: %v\n%s", err, out)
	}
	found := 0
	for n := 1; n <= 3; n++ {
		out, err := runBerth(t, "backup", "verify", "--from", target, "--read-data-subset", fmt.Sprintf("%d/3", n))
		if exitCode(err) == exitFindings && strings.Contains(out, "I5") {
			found++
		}
	}
	if found != 1 {
		t.Errorf("a damaged blob was found in %d of three thirds", found)
	}
	empty := storeFile(t, map[string]any{"rootDirectory": t.TempDir()})
	if out, err := runBerth(t, "backup", "restore", empty, "--from", target); exitCode(err) != exitFindings || !strings.Contains(out, "I5") {
		t.Errorf("restore of a damaged blob: %v\n%s", err, out)
	}
	if out, err := runBerth(t, "backup", "restore", file, "--from", target); exitCode(err) != exitNotDone {
		t.Errorf("restore over a store: %v\n%s", err, out)
	}
	remove(t, blob)
	if out, err := runBerth(t, "backup", "verify", "--from", target); exitCode(err) != exitFindings || !strings.Contains(out, "I12") {
		t.Errorf("verify without a blob: %v\n%s", err, out)
	}
	// The next backup brings it back.
	if out, err := runBerth(t, "backup", "create", file, "--to", target); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := runBerth(t, "backup", "verify", "--from", target, "--read-data"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}

	flip(t, largestBlob(t, root))
	target = filepath.Join(t.TempDir(), "others")
	if out, err := runBerth(t, "backup", "create", file, "--to", target); exitCode(err) != exitFindings || !strings.Contains(out, "I5") {
		t.Errorf("backup of a damaged blob: %v\n%s", err, out)
	}
	// What it says it lacks is no news.
	if out, err := runBerth(t, "backup", "verify", "--from", target, "--read-data"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	parts, err := filepath.Glob(filepath.Join(target, ".berth", "journal", "backup-*.000000"))
	if err != nil || len(parts) != 1 {
		t.Fatalf("parts %q, %v", parts, err)
	}
	flip(t, parts[0])
	if out, err := runBerth(t, "backup", "verify", "--from", target); exitCode(err) != exitFindings {
		t.Errorf("verify of damaged names: %v\n%s", err, out)
	}
}

// files returns how many files a directory has.
func files(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return n
}
