//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry/disktest"
)

// The file system of TestG7FullDisk, and what it is filled with. The reserve is larger
// than the log of SQLite may become (16 MiB): deletions have to fit into it.
const (
	fullDisk    = 64 << 20
	fullReserve = 24 << 20
	fullLayer   = 1 << 20 // at most
)

// TestG7FullDisk lets four clients push to the program, whose store is on an ext4 file
// system of 64 MiB, until it answers 507, FULL_ROUNDS (3) times. Each time another
// program then leaves a random part of the reserve, or nothing. Reads go on all the
// time, and deletions while they find space to be recorded; what was deleted is
// collected, the space comes back, and pushes are taken again, without a restart.
// Nothing that was acknowledged and not deleted is lost, and fsck finds nothing.
//
// FULL_SEED is the seed. The programs' times have to be those of short-times.sh.
func TestG7FullDisk(t *testing.T) {
	rounds, seed := envInt(t, "FULL_ROUNDS", 3), uint64(envInt(t, "FULL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("FULL_ROUNDS=%d FULL_SEED=%d", rounds, seed)
	disk := disktest.Loop(t, fullDisk)
	s := Start(t, Options{Topology: Linked, Dir: filepath.Join(disk, "store"), Edit: func(c map[string]any) {
		shortest(c)
		c["log"] = map[string]any{"level": "error"}
		c["storage"].(map[string]any)["reserve"] = fullReserve
	}})
	f := &diskFiller{t: t, system: s, disk: disk, images: map[string]string{}, rnd: mrand.New(mrand.NewPCG(seed, 0))}
	for i := range 4 {
		f.clients = append(f.clients, &killClient{
			base: fmt.Sprintf("%s/v2/full/%d", s.URL(), i),
			http: &http.Client{Timeout: 30 * time.Second},
			rnd:  mrand.New(mrand.NewPCG(seed, uint64(i+1))),
		})
	}
	for n := range rounds {
		f.round(n)
		if t.Failed() {
			t.Fatalf("in round %d", n+1)
		}
	}
	p := s.Processes[0]
	pid := p.PID()
	if err := p.Stop(); err != nil {
		t.Error(err)
	}
	checkStore(t, s, 24) // and reads all data
	t.Logf("%d pushed, %d refused, %d deleted by process %d", f.pushed, f.refused, f.deleted, pid)
}

// diskFiller fills a disk and makes room on it.
type diskFiller struct {
	t       *testing.T
	system  *System
	disk    string // the file system
	clients []*killClient
	rnd     *mrand.Rand

	mu                       sync.Mutex        // guards what follows
	images                   map[string]string // digests by the URLs of their tags, of all that is there
	pushed, refused, deleted int
}

func (f *diskFiller) round(n int) {
	t := f.t
	t.Helper()
	f.fill()
	f.pullAll("on a full disk")
	if n == 0 { // and nothing is being collected
		if free := disktest.Free(t, f.disk); free > fullReserve+4*(2*fullLayer) {
			t.Errorf("pushes are refused with %d MiB free", free>>20)
		}
		f.notReady("no space left for uploads")
	}

	// The others take the reserve, too. What fits no more is refused, and says so.
	filler, left := filepath.Join(f.disk, "filler"), f.rnd.Int64N(fullReserve)
	if n == 0 {
		left = 0
	}
	disktest.Fill(t, filler, left)
	f.pullAll(fmt.Sprintf("with %d bytes left", left))
	f.deleteSome(left)
	f.pullAll(fmt.Sprintf("behind deletions with %d bytes left", left))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	before := disktest.Free(t, f.disk)
	f.deleteSome(fullReserve)

	// Only garbage collection makes room now.
	began := time.Now()
	for {
		err := f.push(f.clients[0])
		if err == nil {
			break
		}
		if !isFull(err) {
			t.Fatalf("a push while garbage collection makes room: %v", err)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("no push is taken a minute after %d images were deleted: %d bytes are free, %d were: %v", f.deleted, disktest.Free(t, f.disk), before, err)
		}
		<-time.After(200 * time.Millisecond)
	}
	t.Logf("pushes are taken again %v after deletions", time.Since(began).Round(time.Millisecond))
	f.system.Processes[0].await(t) // it is ready
	f.pullAll("when there is space again")
}

// fill lets all clients push until they are refused.
func (f *diskFiller) fill() {
	f.t.Helper()
	errs := make([]error, len(f.clients))
	var working sync.WaitGroup
	for i, c := range f.clients {
		working.Go(func() {
			for errs[i] == nil {
				errs[i] = f.push(c)
			}
		})
	}
	working.Wait()
	for _, err := range errs {
		if !isFull(err) {
			f.t.Fatalf("a push on a disk that fills up: %v", err)
		}
	}
}

// push pushes an image of one layer.
func (f *diskFiller) push(c *killClient) error {
	c.round++
	config, layer := fmt.Appendf(nil, `{"n":%d}`, c.round), c.randomBlob(fullLayer)
	manifest := imageOf(config, c.base, layer)
	tag := fmt.Sprintf("%s/manifests/t%d", c.base, c.round)
	err := c.pushImage(tag, manifest, config, layer)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.refused++
		return err
	}
	f.pushed++
	f.images[tag] = digest.FromBytes(manifest).String()
	return nil
}

// isFull reports whether an answer was 507, with an error as of OCI.
func isFull(err error) bool {
	return errors.Is(err, errServer) && strings.Contains(err.Error(), ": 507 ") && strings.Contains(err.Error(), `{"errors":[{"code":"STORAGE_FULL"`)
}

// pullAll reads all that is there.
func (f *diskFiller) pullAll(when string) {
	f.t.Helper()
	for tag, want := range f.images {
		if got, err := manifestAt(f.clients[0].http, tag); err != nil || got != want {
			f.t.Fatalf("%s is %q %s, want %q (%v)", tag, got, when, want, err)
		}
	}
}

// deleteSome deletes half of the images while so many bytes are left. Fewer than a
// MiB may be too few.
func (f *diskFiller) deleteSome(left int64) {
	f.t.Helper()
	n := (len(f.images) + 1) / 2
	for tag, d := range f.images {
		if n--; n < 0 {
			return
		}
		base, _, _ := strings.Cut(tag, "/manifests/")
		_, err := f.clients[0].do(http.MethodDelete, base+"/manifests/"+d, nil, http.StatusAccepted, nil)
		if isFull(err) && left < 1<<20 {
			continue
		}
		if err != nil {
			f.t.Fatalf("a deletion with %d bytes left: %v", left, err)
		}
		f.deleted++
		delete(f.images, tag)
		if got, err := manifestAt(f.clients[0].http, tag); err != nil || got != "" {
			f.t.Fatalf("%s was deleted and is %q (%v)", tag, got, err)
		}
	}
}

// notReady checks that the program is ready for reads, says why not for writes, and is
// not ready for those.
func (f *diskFiller) notReady(why string) {
	f.t.Helper()
	for path, want := range map[string]int{"/readyz": http.StatusOK, "/readyz?writes": http.StatusServiceUnavailable} {
		said, status, err := fetch(f.clients[0].http, f.system.URL()+path)
		if err != nil || status != want || !strings.Contains(string(said), why) {
			f.t.Errorf("%s: %d, %q (%v), want %d and %q", path, status, said, err, want, why)
		}
	}
}
