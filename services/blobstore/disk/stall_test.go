package disk

import (
	"bytes"
	"context"
	"errors"
	"io"
	iofs "io/fs"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/stall"
	"github.com/berth-registry/berth/services/blobstore"
)

// stalling is a store on a disk that can be told to let calls wait. Its clock is that of
// a bubble.
type stalling struct {
	store *blobstore.Store
	// waits is what a call of some kind on some file does before it takes place; nil:
	// nothing.
	waits atomic.Pointer[func(op, name string)]
}

func openStalling(t *testing.T) *stalling {
	t.Helper()
	fs, s := newFaultFS(), new(stalling)
	fs.pause = func(op, name string) {
		if wait := s.waits.Load(); wait != nil {
			(*wait)(op, name)
		}
	}
	var err error
	if _, s.store, err = openOn(t, t.TempDir(), boot1, fs); err != nil {
		t.Fatal(err)
	}
	return s
}

// stall lets calls of the kind op on files with a part of that name take d.
func (s *stalling) stall(op, part string, d time.Duration) {
	wait := func(o, name string) {
		if o == op && strings.Contains(name, part) {
			time.Sleep(d)
		}
	}
	s.waits.Store(&wait)
}

func (s *stalling) push(data []byte) (registry.Stored, error) {
	ctx := context.Background()
	u, err := s.store.Start(ctx, "", registry.SHA256)
	if err != nil {
		return registry.Stored{}, err
	}
	return s.store.Commit(ctx, u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
}

func (s *stalling) read(b registry.Stored, want []byte) error {
	r := registry.Whole
	r.Verify = true
	c, err := s.store.Open(context.Background(), b, r)
	if err != nil {
		return err
	}
	defer c.Close()
	got, err := io.ReadAll(c)
	if err == nil && !bytes.Equal(got, want) {
		return errors.New("other bytes were read")
	}
	return err
}

// TestG8StalledDisk lets syncs and reads of one blob take long, with many clients that
// wait for them. A disk that is slow is no reason not to be ready. One that has not
// answered for 20 s is, and no uploads are begun any more that would wait, too, until it
// answers: then all that waited succeeds. Meanwhile other blobs are read as fast as ever,
// and what waits holds little memory and few goroutines, however often anybody asks
// whether the store is ready.
func TestG8StalledDisk(t *testing.T) {
	for name, tt := range map[string]struct {
		op   string
		long time.Duration
	}{
		"sync of 1 s":  {"sync", time.Second},
		"sync of 5 s":  {"sync", 5 * time.Second},
		"sync of 30 s": {"sync", 30 * time.Second},
		"read of 60 s": {"read", time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testStalledDisk(t, tt.op, tt.long) })
		})
	}
}

func testStalledDisk(t *testing.T, op string, long time.Duration) {
	s := openStalling(t)
	defer s.store.Close()
	stalled, other := noise(200_000, 1), noise(200_000, 2)
	slow, err := s.push(stalled)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := s.push(other)
	if err != nil {
		t.Fatal(err)
	}
	part := "" // of the name of the files that wait
	if op == "read" {
		part = slow.Digest.Encoded()
	}
	s.stall(op, part, long)

	const clients = 30
	before, memory := runtime.NumGoroutine(), heap()
	results := make(chan error, clients)
	for range clients {
		go func() {
			if op == "read" {
				results <- s.read(slow, stalled)
				return
			}
			_, err := s.push(stalled)
			results <- err
		}()
	}
	begun := time.Now()
	for synctest.Wait(); time.Since(begun) < long; time.Sleep(time.Second) {
		s.checkWhile(t, time.Since(begun), fast, other)
	}
	if grown := heap() - memory; grown > clients*512<<10 {
		t.Errorf("%d clients that wait hold %d bytes", clients, grown)
	}
	if n := runtime.NumGoroutine() - before; n > 10*clients {
		t.Errorf("%d goroutines for %d clients", n, clients)
	}
	s.waits.Store(nil)
	for range clients {
		if err := <-results; err != nil {
			t.Errorf("what waited for the disk: %v", err)
		}
	}
	if _, err := s.store.Check(t.Context()); err != nil {
		t.Errorf("not ready when the disk answers again: %v", err)
	}
	if _, err := s.push(noise(1000, 3)); err != nil {
		t.Errorf("a push when the disk answers again: %v", err)
	}
}

// checkWhile checks what a store says and does whose disk has not answered for a time.
func (s *stalling) checkWhile(t *testing.T, since time.Duration, fast registry.Stored, other []byte) {
	t.Helper()
	now := time.Now()
	ready := since < stall.After
	if _, err := s.store.Check(t.Context()); (err == nil) != ready || err != nil && !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("after %v: Check returns %v; want that it is ready: %v", since, err, ready)
	}
	u, err := s.store.Start(t.Context(), "", registry.SHA256)
	switch {
	case (err == nil) != ready || err != nil && !errors.Is(err, registry.ErrUnavailable):
		t.Errorf("after %v: Start returns %v; want that it is ready: %v", since, err, ready)
	case err == nil:
		if err := s.store.Abort(t.Context(), u); err != nil {
			t.Errorf("after %v: Abort: %v", since, err)
		}
	}
	if err := s.read(fast, other); err != nil {
		t.Errorf("after %v: reading another blob: %v", since, err)
	}
	if waited := time.Since(now); waited != 0 {
		t.Errorf("after %v: others wait for %v", since, waited)
	}
}

// TestG8ProbesOfAStalledDisk asks a disk again and again that does not even say that it
// is there. Each that asks gets an answer in time, and one goroutine waits for the disk.
func TestG8ProbesOfAStalledDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &deafFS{faultFS: newFaultFS(), hear: make(chan struct{})}
		_, s, err := openOn(t, t.TempDir(), boot1, fs)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		fs.deaf.Store(true)
		before := runtime.NumGoroutine()
		for i := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			begun := time.Now()
			if _, err := s.Check(ctx); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("probe %d: %v", i, err)
			}
			if took := time.Since(begun); took > time.Second {
				t.Errorf("probe %d took %v", i, took)
			}
			cancel()
		}
		if n := runtime.NumGoroutine() - before; n > 1 {
			t.Errorf("%d goroutines wait for the disk", n)
		}
		fs.deaf.Store(false)
		close(fs.hear)
		synctest.Wait()
		if _, err := s.Check(t.Context()); err != nil {
			t.Errorf("when the disk answers again: %v", err)
		}
	})
}

// deafFS is a file system whose stat does not return while it is deaf.
type deafFS struct {
	*faultFS
	deaf atomic.Bool
	hear chan struct{}
}

func (f *deafFS) stat(name string) (iofs.FileInfo, error) {
	if f.deaf.Load() {
		<-f.hear
	}
	return f.faultFS.stat(name)
}

// heap returns how many bytes are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
