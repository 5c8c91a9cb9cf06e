//go:build e2e && memory

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	memoryLimit   = 64 << 20
	memoryStreams = 32
)

// TestMemory pushes and pulls 32 blobs of 100 MB at a time (MEMORY_MB makes them
// smaller) to each all-in-one program, without a limit and in a cgroup of 64 MiB,
// which the page cache counts against, too. Nothing may be killed, every digest
// must be right, the anonymous memory must stay within 64 MiB in both cases, and
// what the limit costs in speed is printed.
func TestMemory(t *testing.T) {
	mb := 100
	if s := os.Getenv("MEMORY_MB"); s != "" {
		var err error
		if mb, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	group, err := newMemoryGroup()
	if err != nil {
		t.Skipf("NOT RUN: no cgroup with a memory limit can be made here: %v", err)
	}
	t.Cleanup(func() { // after the programs in it have ended
		if err := os.Remove(group.dir); err != nil {
			t.Error(err)
		}
	})
	blobs := make([]memoryBlob, memoryStreams)
	allAtOnce(t, len(blobs), func(i int) (err error) {
		blobs[i] = memoryBlob{seed: byte(i), size: int64(mb) * 1e6}
		blobs[i].digest, err = hashOf(blobs[i].reader())
		return err
	})
	for _, program := range []string{"berth-edge", "berth"} {
		t.Run(program, func(t *testing.T) {
			var push, pull [2]time.Duration // without and with the limit
			for range 2 {
				for limited := range 2 {
					up, down := memoryRun(t, program, limited == 1, group, blobs)
					push[limited] += up
					pull[limited] += down
				}
			}
			for what, d := range map[string][2]time.Duration{"push": push, "pull": pull} {
				ratio := d[0].Seconds() / d[1].Seconds()
				// A figure and no check: other work on the machine decides it, too.
				t.Logf("%s: %s of %d × %d MB with the limit at %.2f × the speed without it (goal ≥ 0.50 ×)", program, what, memoryStreams, mb, ratio)
			}
		})
	}
}

// memoryRun pushes and pulls all blobs at once, in a new store.
func memoryRun(t *testing.T, program string, limited bool, group memoryGroup, blobs []memoryBlob) (push, pull time.Duration) {
	t.Helper()
	opt := Options{Topology: Linked, Program: program, Dir: t.TempDir()}
	name := "without a limit"
	if limited {
		opt.Cgroup, name = filepath.Join(group.dir, "cgroup.procs"), "with 64 MiB"
	}
	killedBefore := group.killed(t)
	s := Start(t, opt)
	peak := watchAnon(t, s.Processes[0].PID())
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: memoryStreams}}
	defer client.CloseIdleConnections()
	began := time.Now()
	allAtOnce(t, len(blobs), func(i int) error { return blobs[i].push(client, s.URL()+"/v2/memory") })
	push = time.Since(began)
	dropCache(t, opt.Dir)
	began = time.Now()
	allAtOnce(t, len(blobs), func(i int) error { return blobs[i].pull(client, s.URL()+"/v2/memory") })
	pull = time.Since(began)
	anon := peak()
	mb := float64(len(blobs)) * float64(blobs[0].size) / 1e6
	t.Logf("%s %s: push %.0f MB/s, pull %.0f MB/s, RssAnon at most %.1f MiB", program, name, mb/push.Seconds(), mb/pull.Seconds(), anon)
	if anon > memoryLimit>>20 {
		t.Errorf("%s %s: RssAnon reached %.1f MiB", program, name, anon)
	}
	if n := group.killed(t) - killedBefore; n != 0 {
		t.Errorf("%s %s: the kernel killed %d times for want of memory", program, name, n)
	}
	if err := s.Processes[0].Stop(); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(opt.Dir); err != nil { // several GB
		t.Error(err)
	}
	return push, pull
}

// dropCache takes the files below dir out of the page cache. Without a limit all
// of what was pushed is still there, and the speed of the disk would be compared
// with that of memory.
func dropCache(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// allAtOnce runs f for each number below n, all at once.
func allAtOnce(t *testing.T, n int, f func(i int) error) {
	t.Helper()
	errs := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { errs[i] = f(i) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// memoryBlob is a blob that is made again for every use, and never held.
type memoryBlob struct {
	seed   byte
	size   int64
	digest string
}

func (b memoryBlob) reader() io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{b.seed}), b.size)
}

func hashOf(r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(h, r)
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), err
}

func (b memoryBlob) push(client *http.Client, base string) error {
	req, err := http.NewRequest(http.MethodPost, base+"/blobs/uploads/?digest="+b.digest, b.reader())
	if err != nil {
		return err
	}
	req.ContentLength = b.size
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("push: %s %s %w", resp.Status, text, err)
	}
	return nil
}

func (b memoryBlob) pull(client *http.Client, base string) error {
	resp, err := client.Get(base + "/blobs/" + b.digest)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := hashOf(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || got != b.digest {
		return fmt.Errorf("pull of %s: %s, %s, %w", b.digest, resp.Status, got, err)
	}
	return nil
}

var rssAnon = regexp.MustCompile(`(?m)^RssAnon:\s*(\d+) kB$`)

// watchAnon looks at the anonymous memory of a process all the time. The
// function it returns ends that and returns the largest figure, in MiB.
func watchAnon(t *testing.T, pid int) func() float64 {
	t.Helper()
	stop, peak := make(chan struct{}), make(chan float64)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		most, looks := 0.0, 0
		for {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if m := rssAnon.FindSubmatch(text); m != nil {
				kib, _ := strconv.ParseFloat(string(m[1]), 64)
				most, looks = max(most, kib/1024), looks+1
			}
			select {
			case <-stop:
				if looks == 0 {
					most = -1
				}
				peak <- most
				return
			case <-tick.C:
			}
		}
	}()
	return sync.OnceValue(func() float64 {
		close(stop)
		most := <-peak
		if most < 0 {
			t.Error("the memory of the program could not be read")
		}
		return most
	})
}

// memoryGroup is a cgroup of version 1 or 2 with a memory limit.
type memoryGroup struct{ dir, events string }

// newMemoryGroup makes one below the root of the hierarchy.
func newMemoryGroup() (memoryGroup, error) {
	const name = "berth-memory-test-"
	for _, v := range []struct{ root, limit, events string }{
		{"/sys/fs/cgroup", "memory.max", "memory.events"},
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.oom_control"},
	} {
		if _, err := os.Stat(filepath.Join(v.root, "cgroup.procs")); err != nil {
			continue // not a hierarchy
		}
		dir := filepath.Join(v.root, name+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return memoryGroup{}, err
		}
		if err := os.WriteFile(filepath.Join(dir, v.limit), []byte(strconv.Itoa(memoryLimit)), 0); err != nil {
			return memoryGroup{}, errors.Join(err, os.Remove(dir))
		}
		return memoryGroup{dir, filepath.Join(dir, v.events)}, nil
	}
	return memoryGroup{}, errors.New("there is no hierarchy with memory limits in /sys/fs/cgroup")
}

// killed returns how many processes the kernel has killed.
func (g memoryGroup) killed(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(g.events)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s does not count kills:\n%s", g.events, text)
	return 0
}
