package syncer_test

import (
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/berth-registry/berth/services/syncer"
)

// TestS119ManyCycles: a schedule that runs again and again leaves no goroutine behind,
// whether it finds something new or not. CYCLES is how often (100).
func TestS119ManyCycles(t *testing.T) {
	cycles := 100
	if s := os.Getenv("CYCLES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		cycles = n
	}
	up := newHostile(t)
	up.image(t, "a", "v1", []byte("layer"))
	r := at(t, up.URL, syncer.Content{Prefix: "a"})
	r.OnDemand, r.Interval = false, 1000*time.Hour // the test is the clock
	w := open(t, r)
	finished(t, w, 0)
	var early int
	for n := range cycles {
		if err := w.Copy(t.Context()); err != nil {
			t.Fatal(n, err)
		}
		switch {
		case n == cycles/10:
			early = runtime.NumGoroutine()
		case n%10 == 5:
			up.image(t, "a", "v1", random(100))
		}
	}
	if asked := up.asked("GET /v2/a/tags/list"); asked < cycles {
		t.Errorf("void: the upstream was asked %d times", asked)
	}
	waitFor(t, "goroutines have ended", func() bool { return runtime.NumGoroutine() <= early+5 })
	t.Logf("%d cycles, %d goroutines after %d of them, %d now", cycles, early, cycles/10, runtime.NumGoroutine())
}
