package gateway

import (
	"bytes"
	"math"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"testing"
)

// TestPinsAreLimited: with a memory limit only so many answers go by sendfile(2);
// the others are copied, and all are whole.
func TestPinsAreLimited(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(40 << 20))
	w := newWorld()
	w.deps.Blobs = fileBlobs{w.deps.Blobs, t.TempDir()}
	g := w.gateway(t)
	s := httptest.NewUnstartedServer(nil)
	s.Config = g.Server()
	spy := &spyListener{Listener: s.Listener}
	s.Listener = spy
	s.Start()
	defer s.Close()
	content := string(bytes.Repeat([]byte("0123456789abcdef"), 1<<16)) + "the end"
	d := pushBlob(t, s.URL, "a", content)
	get := func(file bool) {
		t.Helper()
		spy.sawFile.Store(false)
		before := g.pins.used.Load()
		if got := do(t, "GET", s.URL+"/v2/a/blobs/"+d.String(), nil).want(t, 200); got.body != content {
			t.Errorf("got %d bytes, want %d", len(got.body), len(content))
		}
		if spy.sawFile.Load() != file {
			t.Errorf("sent as a file: %v, want %v", !file, file)
		}
		for g.pins.used.Load() != before { // the client has the last byte before the handler has ended
			runtime.Gosched()
		}
	}
	get(true)
	taken := 0
	for g.pins.take() {
		taken++
	}
	if taken != 2 { // a quarter of 40 MiB, in pieces of 4
		t.Errorf("%d answers at a time, want 2", taken)
	}
	get(false)
	g.pins.give()
	get(true)
	get(true)
}

func TestPinsWithoutALimit(t *testing.T) {
	var p pins
	p.init(math.MaxInt64)
	for range 10_000 {
		if !p.take() {
			t.Fatal("refused")
		}
	}
	p.init(1)
	if !p.take() || p.take() {
		t.Error("with little memory it must be one at a time")
	}
}
