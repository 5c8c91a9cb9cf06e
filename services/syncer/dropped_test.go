package syncer_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// dropping is a network to a registry that drops all packets when it is told to.
type dropping struct {
	to      http.Handler
	drop    atomic.Bool
	dropped atomic.Int64 // requests
}

func (d *dropping) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.drop.Load() {
		d.dropped.Add(1)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	w := httptest.NewRecorder()
	d.to.ServeHTTP(w, r)
	return w.Result(), nil
}

// locked is a buffer that several may write to.
type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

// TestP96DroppedPackets: an hour in which nothing of the upstream arrives, and nothing is
// refused either: what is here is served each time, what is not ends with an error, there
// are no more goroutines at the end, and the log stays small. After 72 hours it is the
// same, and then the upstream is back.
func TestP96DroppedPackets(t *testing.T) {
	up := newHostile(t)
	d, _ := up.image(t, "a", "v1", random(100))
	root := t.TempDir()
	skew.Store(0)
	synctest.Test(t, func(t *testing.T) {
		network := &dropping{to: up}
		var log locked
		h, err := upstream.New(upstream.Options{URL: up.URL, Transport: network, UserAgent: "berth/test", Now: clock})
		if err != nil {
			t.Fatal(err)
		}
		rule := &syncer.Rule{Host: upstream.HostOf(up.URL), OnDemand: true, Fresh: time.Minute, Timeout: time.Hour, Hosts: []*upstream.Host{h}}
		db, err := sqlite.OpenSyncer(t.Context(), config.Storage{Pool: config.Pool{RootDirectory: root}}, func(err error) { t.Error(err) }, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := syncer.New(t.Context(), db, memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{}), syncer.Options{
			Rules: []*syncer.Rule{rule}, Staging: filepath.Join(root, "staging"), Holder: "test", Log: slog.New(slog.NewJSONHandler(&log, nil)), Now: clock,
		})
		if err != nil {
			t.Fatal(errors.Join(err, db.Close()))
		}
		defer func() {
			if err := errors.Join(s.Close(), db.Close()); err != nil {
				t.Error(err)
			}
		}()
		ctx := t.Context()
		if _, err := s.Resolve(ctx, nobody, "a", tag("v1"), ""); err != nil {
			t.Fatal(err)
		}
		here := func(times int) {
			t.Helper()
			for range times {
				if res, err := s.Resolve(ctx, nobody, "a", tag("v1"), d); err != nil || res.Digest != d {
					t.Fatalf("what is here: %+v, %v", res, err)
				}
			}
		}
		network.drop.Store(true)
		var early int
		for minute := range 60 {
			end := time.Now().Add(time.Minute)
			here(10)
			var others sync.WaitGroup
			for i := range 5 {
				others.Go(func() {
					if _, err := s.Resolve(ctx, nobody, "a", tag(registry.Tag("new"+itoa(minute)+"-"+itoa(i))), ""); !errors.Is(err, registry.ErrUnavailable) {
						t.Errorf("what is not here: %v", err)
					}
					if c, err := s.Open(ctx, nobody, "a", registry.SHA256.FromString(itoa(minute*5+i)), registry.Whole); !errors.Is(err, registry.ErrUnavailable) {
						t.Errorf("a blob that is not here: %v, %v", c, err)
					}
				})
			}
			others.Wait()
			time.Sleep(time.Until(end))
			synctest.Wait()
			if minute == 5 {
				early = runtime.NumGoroutine()
			}
		}
		if now := runtime.NumGoroutine(); now > early+3 {
			t.Errorf("%d goroutines after five minutes, %d after an hour", early, now)
		}
		log.mu.Lock()
		size := log.Len()
		log.mu.Unlock()
		if size > 150_000 {
			t.Errorf("the log has %d bytes:\n%.2000s", size, log.String())
		}
		if n := network.dropped.Load(); n < 60 {
			t.Errorf("void: only %d requests were dropped", n)
		}
		t.Logf("%d goroutines, %d bytes of log, %d requests", runtime.NumGoroutine(), size, network.dropped.Load())
		for hour := 2; hour <= 72; hour++ {
			skew.Store(int64(time.Duration(hour-1) * time.Hour))
			here(3)
		}
		network.drop.Store(false)
		skew.Store(int64(73 * time.Hour))
		waitFor(t, "the upstream is asked again", func() bool {
			_, err := s.Resolve(ctx, nobody, "a", tag("v1"), "")
			return err == nil
		})
		skew.Store(0)
	})
}
