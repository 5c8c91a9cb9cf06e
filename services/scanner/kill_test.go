package scanner_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/scanner"
	"github.com/berth-registry/berth/services/scanner/vulndb/vulndbtest"
)

var killAdvisory = vulndbtest.Advisory{Bucket: "debian 12", Package: "openssl", ID: "CVE-2099-0901", Value: vulndbtest.Fixed{FixedVersion: "4"}}

// killImages is how many images there are to scan while the process is killed.
const killImages = 4

// pushed makes the images of a seed: a large archive, which is read from a scratch
// file, and packages.
func (s *store) pushed(t testing.TB, seed uint64) []registry.Descriptor {
	t.Helper()
	rnd := mrand.New(mrand.NewPCG(seed, 1))
	var all []registry.Descriptor
	for i := range killImages {
		noise := make([]byte, 9<<18)
		for j := 0; j < len(noise); j += 8 {
			copy(noise[j:], strconv.FormatUint(rnd.Uint64(), 36))
		}
		tag := registry.Tag(fmt.Sprint("t", i))
		all = append(all, s.image(t, "r", tag, layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)),
			layer(t, file("a/x-1.jar", jar(t, "g", "a", "1", string(noise))))))
	}
	return all
}

// TestKilledScanner is the process that [TestS136Kills] kills: a scanner on a disk, which scans
// all images and imports a database again and again. It tells when it begins.
func TestKilledScanner(t *testing.T) {
	dir := os.Getenv("BERTH_KILLED_SCANNER")
	if dir == "" {
		t.Skip("it is run by TestS136Kills")
	}
	s := newKilled(t, dir)
	seed, err := strconv.ParseUint(os.Getenv("BERTH_KILLED_SEED"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	s.pushed(t, seed)
	fmt.Println("begins")
	for i := 0; ; i++ {
		scanner.Walk(t, s.Service)
		file := os.Getenv("BERTH_KILLED_DB") + strconv.Itoa(i%2)
		if _, err := s.ImportDB(t.Context(), strings.NewReader(readFile(t, file))); err != nil {
			t.Fatal(err)
		}
		for n := range killImages { // scan again, whatever is known
			d, err := s.catalog.Manifest(t.Context(), admin, "r", registry.ManifestQuery{Ref: registry.Reference{Tag: registry.Tag(fmt.Sprint("t", n))}, NoBytes: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.ScanNow(t.Context(), "r", d.Digest); err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	}
}

// newKilled opens a scanner whose state is in dir and whose images are in memory.
func newKilled(t *testing.T, dir string) *store {
	t.Helper()
	s := newStore(t, onSQLite, func(o *scanner.Options) { o.Idle = true })
	again := &store{blobs: s.blobs, catalog: s.catalog, dir: dir}
	if err := s.vulns.Close(); err != nil { // one database in a process
		t.Fatal(err)
	}
	again.open(t, onSQLite, nil)
	return again
}

// TestS136Kills kills a scanner at random points. Whenever it comes back nothing is left of
// what it did: no file in its scratch directory, no half database, no image that counts as
// being scanned; and all images come to what is in them. SCAN_KILLS is how often, SCAN_SEED
// repeats a run.
func TestS136Kills(t *testing.T) {
	number := func(name string, otherwise uint64) uint64 {
		if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
			return n
		}
		return otherwise
	}
	kills, seed := number("SCAN_KILLS", 2), number("SCAN_SEED", uint64(time.Now().UnixNano()))
	t.Logf("SCAN_KILLS=%d SCAN_SEED=%d", kills, seed)
	rnd := mrand.New(mrand.NewPCG(seed, 0))
	dir, dbs := t.TempDir(), filepath.Join(t.TempDir(), "db")
	for i, b := range []string{database(t), database(t, killAdvisory)} {
		if err := os.WriteFile(dbs+strconv.Itoa(i), []byte(readFile(t, b)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var leftovers int
	for n := range kills {
		killed(t, dir, dbs, n, time.Duration(rnd.IntN(400))*time.Millisecond)
		left, err := os.ReadDir(filepath.Join(dir, "scratch"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if leftovers += len(left); len(left) > 1 {
			t.Errorf("kill %d: %d files have a name in the scratch directory", n, len(left))
		}
	}
	// A file has a name for some microseconds only.
	if t.Logf("of %d kills %d left a file with a name", kills, leftovers); leftovers > int(kills/2) { //nolint:gosec // a few
		t.Error("files of layers have names while they are read")
	}

	s := newKilled(t, dir)
	images := s.pushed(t, kills)
	if left, err := os.ReadDir(filepath.Join(dir, "scratch")); err != nil || len(left) > 0 {
		t.Errorf("scratch directory after the start: %v, %v", left, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "vulns")); err != nil || len(left) > 1 {
		t.Errorf("databases after the start: %v, %v", left, err)
	}
	scanner.Walk(t, s.Service)
	s.idle(t) // images of other seeds are gone, and those that waited are forgotten
	for _, d := range images {
		if st := s.wait(t, "r", d.Digest); st.State != registry.ScanDone || st.Packages != 2 {
			t.Errorf("%+v", st)
		}
	}
	if _, err := s.ImportDB(t.Context(), bytes.NewReader([]byte(readFile(t, dbs+"1")))); err != nil {
		t.Fatal(err)
	}
	scanner.Renew(t, s.Service)
	for _, d := range images {
		if st := s.wait(t, "r", d.Digest); st.Counts.Total() != 2 {
			t.Errorf("with the second database: %+v", st)
		}
	}
	if q, err := s.ScanQueue(t.Context()); err != nil || q.Done < killImages || q.Waiting != 0 || len(q.Running) != 0 || q.Stale != 0 || q.Failed != 0 {
		t.Errorf("queue: %+v, %v", q, err)
	}
}

// idle waits until no image waits.
func (s *store) idle(t *testing.T) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for end := time.After(2 * time.Minute); ; {
		q, err := s.ScanQueue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if q.Waiting == 0 && len(q.Running) == 0 {
			return
		}
		select {
		case <-again.C:
		case <-end:
			t.Fatalf("images still wait: %+v", q)
		}
	}
}

// killed runs the scanner in a process of its own, which is killed some time after it
// has begun.
func killed(t *testing.T, dir, dbs string, seed uint64, after time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledScanner$", "-test.v")
	cmd.Env = append(os.Environ(), "BERTH_KILLED_SCANNER="+dir, "BERTH_KILLED_DB="+dbs, fmt.Sprint("BERTH_KILLED_SEED=", seed))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := make([]byte, 0, 4<<10)
	for !bytes.Contains(said, []byte("begins")) {
		b := make([]byte, 512)
		n, err := out.Read(b)
		if said = append(said, b[:n]...); err != nil {
			t.Fatalf("the scanner did not begin: %v\n%s", err, said)
		}
	}
	time.Sleep(after) // at a random point, not until something is the case
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatalf("the scanner has ended by itself: %v", err)
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
		t.Fatalf("the scanner has ended by itself: %v", err)
	}
}
