//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// slowUpstream is a registry at the far end of a link, which has one blob.
type slowUpstream struct {
	url, blob string // blob: its path
	content   []byte
	digest    digest.Digest

	mu     sync.Mutex // guards ranges
	ranges []string   // of the requests for the blob, "" for all of it
}

func newSlowUpstream(t *testing.T, l *Link, size int) *slowUpstream {
	t.Helper()
	u := &slowUpstream{content: make([]byte, size)}
	mrand.NewChaCha8([32]byte{1}).Read(u.content)
	u.digest = digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(u.content)))
	u.blob = "/v2/far/away/blobs/" + string(u.digest)
	listener := l.Listen(t)
	u.url = "http://" + listener.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/":
		case u.blob:
			if r.Method == http.MethodGet {
				u.mu.Lock()
				u.ranges = append(u.ranges, r.Header.Get("Range"))
				u.mu.Unlock()
			}
			w.Header().Set("Content-Type", "application/octet-stream")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(u.content))
		default:
			http.NotFound(w, r)
		}
	})}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return u
}

func (u *slowUpstream) asked() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.ranges)
}

// startFar starts a mirror of what is at the far end.
func (u *slowUpstream) startFar(t *testing.T) *System {
	t.Helper()
	return Start(t, Options{Topology: Linked, Edit: mirroring(map[string]any{"urls": []string{u.url}, "onDemand": true})})
}

// curls downloads a URL n times at once and returns, for each, the seconds to the
// first and to the last byte, ordered. All must get size bytes.
func curls(t *testing.T, url string, n int, size int) (first, last []float64) {
	t.Helper()
	args := []string{"-sS", "-f", "-Z", "--parallel-immediate", "--parallel-max", strconv.Itoa(n), "-w", "%{time_starttransfer} %{time_total} %{size_download}\n"}
	for range n {
		args = append(args, "-o", os.DevNull, url)
	}
	for line := range strings.Lines(NewCommands(t).Run(t, "curl", args...)) {
		var f, l float64
		var got int
		if _, err := fmt.Sscan(line, &f, &l, &got); err != nil || got != size {
			t.Errorf("curl says %q, want %d bytes", strings.TrimSpace(line), size)
			continue
		}
		first, last = append(first, f), append(last, l)
	}
	if len(first) != n {
		t.Fatalf("%d of %d downloads ended", len(first), n)
	}
	slices.Sort(first)
	slices.Sort(last)
	return first, last
}

// TestMirrorLink lets 100 clients ask for one cold blob whose registry is behind a link
// of 100 Mbit/s: there is exactly one request upstream, and the blob goes over the link
// once. How long that takes is printed, beside what curl needs over the same link just
// before. LINK_MIB is the size (32).
func TestMirrorLink(t *testing.T) {
	size := envInt(t, "LINK_MIB", 32) << 20
	l := NewLink(t, 100, 0)
	u := newSlowUpstream(t, l, size)
	s := u.startFar(t)
	direct, link := curls(t, u.url+u.blob, 1, size)
	before, asked := l.Delivered(), len(u.asked())
	first, last := curls(t, s.URL()+u.blob, 100, size)
	sent := l.Delivered() - before
	t.Logf("%d MiB over 100 Mbit/s: alone %.2f s, first byte %.0f ms; 100 clients of the mirror: last one %.2f s (%.3f x), first byte %.0f to %.0f ms; over the link %.4f x the blob",
		size>>20, link[0], 1000*direct[0], last[99], last[99]/link[0], 1000*first[0], 1000*first[99], float64(sent)/float64(size))
	if n := len(u.asked()) - asked; n != 1 {
		t.Errorf("%d requests upstream for one blob: %q", n, u.asked())
	}
	if sent > int64(size)*101/100 {
		t.Errorf("%d bytes came over the link for a blob of %d", sent, size)
	}
	checkStopped(t, s)
}

// TestMirrorBrokenLink fetches a blob over 10 Mbit/s with one packet in a hundred lost,
// while the link is cut (silently, or with a reset) and the mirror killed: it is here in
// the end, and at most 2 % of it came twice, with 64 KiB for each cut and kill. LINK_MIB
// is the size (8), LINK_CUTS (4) and LINK_KILLS (3) how often.
func TestMirrorBrokenLink(t *testing.T) {
	size := envInt(t, "LINK_MIB", 8) << 20
	cuts, kills := envInt(t, "LINK_CUTS", 4), envInt(t, "LINK_KILLS", 3)
	l := NewLink(t, 10, 0.01)
	u := newSlowUpstream(t, l, size)
	s := u.startFar(t)
	began := time.Now()
	var body []byte
	done := make(chan error, 1)
	ask := func() { // whose connection ends with the mirror
		resp, err := http.Get(s.URL() + u.blob)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		done <- err
	}
	go ask()
	events := cuts + kills
	for n := range events {
		// The next thing happens when the next part of the blob has come.
		for l.Delivered() < int64(size)*int64(n+1)/int64(events+1) {
			time.Sleep(readyPause)
		}
		if n*kills/events != (n+1)*kills/events { // evenly among the cuts
			s.Processes[0].Kill(t)
			<-done
			s.Processes[0].Restart(t)
			go ask()
			continue
		}
		l.Cut(t, n%2 == 0)
		time.Sleep(500 * time.Millisecond)
		l.Mend(t)
	}
	<-done
	resp, err := http.Get(s.URL() + u.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, u.content) {
		t.Errorf("what is here in the end is not the blob: %d bytes, %v", len(body), err)
	}
	sent := l.Delivered()
	t.Logf("%d MiB over 10 Mbit/s, 1 %% lost, %d cuts, %d kills: %v, %d requests, over the link %.4f x the blob",
		size>>20, cuts, kills, time.Since(began).Round(time.Second), len(u.asked()), float64(sent)/float64(size))
	// The kernel has acknowledged bytes that a killed mirror, or one whose connection
	// was reset, never read: up to a window each time, whatever the size of the blob.
	if sent > int64(size)*102/100+int64(events)<<16 {
		t.Errorf("%d bytes came over the link for a blob of %d: requests %q", sent, size, u.asked())
	}
	if len(u.asked()) < kills {
		t.Errorf("void: %d requests upstream with %d kills", len(u.asked()), kills)
	}
	checkStopped(t, s)
}
