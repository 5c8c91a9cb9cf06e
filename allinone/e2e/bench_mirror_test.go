//go:build bench

package e2e

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// countedUpstream is a registry whose answers are counted on their way, and sent no
// faster than rate.
type countedUpstream struct {
	*System
	url   string
	bytes atomic.Int64
	rate  atomic.Int64 // bytes a second for each answer, 0: no limit
}

// startCounted starts Debian's docker-registry behind a proxy that counts.
func startCounted(t *testing.T) *countedUpstream {
	u := &countedUpstream{System: Start(t, Options{Topology: Peer})}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) { p.SetURL(&url.URL{Scheme: "http", Host: u.Addr}) },
		ModifyResponse: func(resp *http.Response) error {
			resp.Body = &countedBody{ReadCloser: resp.Body, upstream: u, begin: time.Now()}
			return nil
		},
	}
	front := httptest.NewServer(proxy)
	t.Cleanup(front.Close)
	u.url = front.URL
	return u
}

type countedBody struct {
	io.ReadCloser
	upstream *countedUpstream
	begin    time.Time
	sent     int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.upstream.bytes.Add(int64(n))
	b.sent += int64(n)
	if rate := b.upstream.rate.Load(); rate > 0 {
		time.Sleep(time.Until(b.begin.Add(time.Duration(float64(b.sent) / float64(rate) * float64(time.Second)))))
	}
	return n, err
}

// add pushes a new blob and returns its path.
func (u *countedUpstream) add(t *testing.T, size int) string {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	if err := newBenchClient(u.URL(), "bench/cold").blob(data); err != nil {
		t.Fatal(err)
	}
	return "/v2/bench/cold/blobs/" + digest.FromBytes(data).String()
}

// startProxyPeer starts Debian's docker-registry as a proxy of an upstream.
func startProxyPeer(t *testing.T, upstream string) *System {
	s := &System{Topology: Peer, Dir: t.TempDir(), Addr: loopback(freePort(t))}
	s.Config = filepath.Join(t.TempDir(), "config.yml")
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: %s}\nproxy: {remoteurl: %s}\n", s.Dir, s.Addr, upstream)
	if err := os.WriteFile(s.Config, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: "docker-registry", Path: "/usr/bin/docker-registry", Args: []string{"serve", s.Config}, ready: s.URL() + "/v2/", abrupt: true}
	s.Processes = []*Process{p}
	p.start(t)
	p.waitReady(t)
	return s
}

// pull downloads a URL and returns the time to its first and to its last byte.
func pull(t testing.TB, client *http.Client, from string) (first, all time.Duration) {
	begin := time.Now()
	resp, err := client.Get(from)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var one [1]byte
	if _, err := io.ReadFull(resp.Body, one[:]); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", from, resp.Status, err)
	}
	first = time.Since(begin)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return first, time.Since(begin)
}

// coldPulls compares a mirror with the upstream itself and with Debian's
// docker-registry as a proxy: a blob that is not here yet, alone and for ten clients at
// once, and one that is. All is on one machine: without a limit the CPU is what all share,
// and hashing alone costs more of it than the direct download. The goal for the total is
// that of a link of 100 Mbit/s.
func coldPulls(t *testing.T, b *bench) []figure {
	size := pick(b, 256<<20, 64<<20)
	u := startCounted(t)
	berth := Start(t, Options{Topology: Linked, Edit: func(config map[string]any) {
		quiet(config)
		config["extensions"] = map[string]any{"sync": map[string]any{"registries": []any{map[string]any{"urls": []string{u.url}, "onDemand": true}}}}
	}})
	peer := startProxyPeer(t, u.url)
	client := newHTTPClient()
	type cold struct{ first, all [3]time.Duration } // direct, Berth, peer
	round := func(path string) (c cold) {
		for i, from := range []string{u.url, berth.URL(), peer.URL()} {
			c.first[i], c.all[i] = pull(t, client, from+path)
		}
		return c
	}
	var rounds, limited []cold
	linkSize := pick(b, 64<<20, 16<<20)
	for range pick(b, 3, 2) {
		path := u.add(t, linkSize)
		u.rate.Store(100e6 / 8)
		limited = append(limited, round(path))
		u.rate.Store(0)
	}
	warm := [2][]sample{}
	for range pick(b, 5, 2) {
		path := u.add(t, size)
		rounds = append(rounds, round(path))
		for i, s := range []*System{berth, peer} {
			warm[i] = append(warm[i], contender{name: "warm", procs: s.Processes, work: func(t testing.TB) float64 {
				for range 4 {
					pull(t, client, s.URL()+path)
				}
				return 4 * float64(size) / (1 << 30)
			}}.measure(t))
		}
	}
	var upstream [2]float64
	path := u.add(t, size)
	for i, s := range []*System{berth, peer} {
		before := u.bytes.Load()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := newBenchClient(s.URL(), "bench/cold").get(s.URL() + path); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		upstream[i] = float64(u.bytes.Load()-before) / float64(size)
	}
	seconds := func(rounds []cold, i int) string {
		return fmt.Sprintf("%.2f s", median(rounds, func(c cold) float64 { return c.all[i].Seconds() }))
	}
	total := func(c cold) float64 { return c.all[1].Seconds() / c.all[0].Seconds() }
	millis := func(i int) string {
		return fmt.Sprintf("%.0f ms", median(rounds, func(c cold) float64 { return 1000 * c.first[i].Seconds() }))
	}
	what := fmt.Sprintf("cold pull through, %d MiB: ", size>>20)
	return []figure{
		{row: what + "first byte, beyond the upstream's", berth: millis(1), peer: "directly " + millis(0) + "; docker-registry as proxy " + millis(2),
			value: median(rounds, func(c cold) float64 { return 1000 * (c.first[1] - c.first[0]).Seconds() }), format: "%.0f ms", goal: atMost(50)},
		{row: what + "total, without a limit", berth: seconds(rounds, 1), peer: "directly " + seconds(rounds, 0) + "; docker-registry as proxy " + seconds(rounds, 2),
			value: median(rounds, total), format: "%.2f ×"},
		{row: fmt.Sprintf("cold pull through, %d MiB at 100 Mbit/s: total", linkSize>>20), berth: seconds(limited, 1),
			peer:  "directly " + seconds(limited, 0) + "; docker-registry as proxy " + seconds(limited, 2),
			value: median(limited, total), format: "%.2f ×", goal: atMost(1.1)},
		{row: what + "from the upstream for 10 clients", berth: fmt.Sprintf("%.2f × the blob", upstream[0]), peer: fmt.Sprintf("docker-registry as proxy %.2f ×", upstream[1]),
			value: upstream[0], format: "%.2f ×", goal: atMost(1.01)},
		{row: "warm pull of a mirrored blob: CPU", berth: fmt.Sprintf("%.2f CPU-s/GiB", median(warm[0], sample.cost)),
			peer:  fmt.Sprintf("docker-registry as proxy %.2f", median(warm[1], sample.cost)),
			value: ratio(warm[0], warm[1], sample.cost), format: "%.2f ×"},
	}
}
