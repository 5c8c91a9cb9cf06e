package disk

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestG6SecondFault lets something fail while the store works, and something else while
// what is left is opened again and clients go on with it, G6_PAIRS (300) random pairs.
// G6_SEED repeats a run.
func TestG6SecondFault(t *testing.T) {
	pairs, seed := 300, uint64(time.Now().UnixNano())
	var err error
	if s := os.Getenv("G6_PAIRS"); s != "" {
		pairs, err = strconv.Atoi(s)
	}
	if s := os.Getenv("G6_SEED"); s != "" && err == nil {
		seed, err = strconv.ParseUint(s, 10, 64)
	}
	if err != nil {
		t.Fatal(err)
	}
	whole := newFaultFS()
	r := work(t, whole)
	before := len(whole.log)
	r.again(t, boot1)
	if len(r.errs) > 0 {
		t.Fatalf("without a fault: %v", r.errs)
	}
	recovery, kinds := len(whole.log)-before, slices.Sorted(maps.Keys(waysToFail))
	t.Logf("%d pairs, G6_SEED=%d: %d steps, then %d", pairs, seed, before, recovery)
	met := 0
	for i := range pairs {
		rnd := rand.New(rand.NewPCG(seed, uint64(i)))
		first, second := kinds[rnd.IntN(len(kinds))], kinds[rnd.IntN(len(kinds))]
		at, then := rnd.IntN(before), rnd.IntN(recovery)
		power := rnd.IntN(2) == 0
		name := fmt.Sprintf("%d_%s_at_%d_then_%s_at_%d", i, first, at, second, then)
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			fs, boot := newFaultFS(), boot1
			fs.fault = waysToFail[first](at)
			r := work(t, fs)
			if power || fs.stopped() {
				boot = boot2
				r.root = fs.powerLoss(t, r.root)
				fs = newFaultFS()
				fs.hold(t, r.root)
				r.fs = fs
			}
			start := fs.reset(waysToFail[second](then))
			r.again(t, boot)
			if len(fs.since(start)) > then {
				met++
			}
			lost := fs.powerLoss(t, r.root)
			r.check(t, r.root, boot)
			r.check(t, lost, bootID{3})
		})
	}
	t.Logf("the second fault was met in %d of %d pairs", met, pairs)
	if met*2 < pairs {
		t.Error("void: too few second faults were met")
	}
}

// again is the next start of the process: clients go on with what they had begun, say
// once more what they had said, and push more.
func (r *run) again(t *testing.T, boot bootID) {
	t.Helper()
	var err error
	r.driver, r.store, err = openOn(t, r.root, boot, r.fs)
	if err != nil {
		r.errs = append(r.errs, err)
		return
	}
	defer r.store.Close()
	for u, data := range maps.Clone(r.open) {
		at, err := r.store.Status(t.Context(), u)
		if r.fail(err) {
			continue
		}
		if at.Offset > int64(len(data)) {
			t.Errorf("Status tells offset %d of %d", at.Offset, len(data))
			continue
		}
		r.finish(t, at, data)
	}
	for s := range maps.Clone(r.stored) {
		if again, err := r.store.Commit(t.Context(), r.commits[s], nil, s.Digest); !r.fail(err) && again != s {
			t.Errorf("Commit again: got %v, want %v", again, s)
		}
	}
	r.push(t, noise(1200, 8), 600)
	r.remove(t, noise(900, 9))
	r.journalize(t, "segment.3", noise(300, 10))
	r.forget(t, "segment.2")
}

// finish commits a session that was left.
func (r *run) finish(t *testing.T, u registry.Upload, data []byte) {
	t.Helper()
	s, err := r.store.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), registry.SHA256.FromBytes(data))
	if r.fail(err) {
		return
	}
	r.stored[s], r.commits[s] = data, u
	delete(r.open, registry.Upload{ID: u.ID})
}

// reset lets the machine go on with other faults, counted from now, and returns how many
// steps there were.
func (f *faultFS) reset(fault func(step int, op string) outcome) (start int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	start = f.steps
	f.fault = func(step int, op string) outcome { return fault(step-start, op) }
	return start
}

func (f *faultFS) stopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// hold makes all that is below root durable.
func (f *faultFS) hold(t *testing.T, root string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	err := filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			entries, err := os.ReadDir(name)
			f.names[name] = inodes(name, entries)
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f.data[info.Sys().(*syscall.Stat_t).Ino], err = os.ReadFile(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
