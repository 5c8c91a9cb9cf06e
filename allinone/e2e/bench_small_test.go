//go:build bench

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	smallConns   = 32 // connections that small requests come over
	imageClients = 8  // clients that push small images
)

// smallRequests compares the CPU of small requests with Go's file server on
// the same bytes.
func smallRequests(t *testing.T, b *bench) []figure {
	linked, split := startBerth(t, Linked), startBerth(t, Split)
	layer, config, manifest := smallImage(0, 0)
	blob := layer[:1<<10]
	for _, s := range []*System{linked, split} {
		c := newBenchClient(s.URL(), "bench/small")
		if err := c.image("v1", layer, config, manifest); err != nil {
			t.Fatal(err)
		}
		if err := c.blob(blob); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"manifest": manifest, "blob": blob} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files, filesURL := startFileServer(t, dir)

	const tag = "/v2/bench/small/manifests/v1"
	bytes1K := "/v2/bench/small/blobs/" + digest.FromBytes(blob).String()
	d := time.Second // for warming up
	get := func(base, path string, procs ...*Process) contender {
		return contender{procs: procs, work: func(t testing.TB) float64 { return wrk(t, d, base+path, "") }}
	}
	head := func(base, path string, procs ...*Process) contender {
		return contender{procs: procs, work: func(t testing.TB) float64 { return heads(t, d, base+path) }}
	}
	contenders := []contender{
		get(linked.URL(), tag, linked.Processes...), get(filesURL, "/manifest", files),
		get(linked.URL(), bytes1K, linked.Processes...), get(filesURL, "/blob", files),
		head(linked.URL(), tag, linked.Processes...), head(filesURL, "/manifest", files),
		get(split.URL(), tag, split.Processes...),
	}
	interleave(t, 1, contenders...)
	d = pick(b, 5*time.Second, 2*time.Second)
	got := interleave(t, 3, contenders...)
	line := func(row string, i, j int, goal, floor bound) figure {
		return figure{row: row, berth: perRequest(got[i]), peer: "Go file server " + perRequest(got[j]),
			value: ratio(got[i], got[j], sample.cost), format: "%.2f ×", goal: goal, floor: floor}
	}
	return []figure{
		line("manifest GET by tag: CPU", 0, 1, atMost(1.1), atMost(2)),
		line("manifest HEAD by tag: CPU", 4, 5, bound{}, bound{}),
		line("1 KiB blob GET: CPU", 2, 3, atMost(1.4), bound{}),
		line("manifest GET by tag, split: CPU", 6, 1, bound{}, bound{}),
	}
}

// heads does what wrk does, for HEAD, which wrk cannot: it waits for a body
// that never comes.
func heads(t testing.TB, d time.Duration, target string) float64 {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	request := fmt.Appendf(nil, "HEAD %s HTTP/1.1\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host)
	deadline := time.Now().Add(d)
	var total atomic.Int64
	err = inParallel(smallConns, smallConns, func(int) error {
		conn, err := net.Dial("tcp", u.Host)
		if err != nil {
			return err
		}
		defer conn.Close()
		answers := bufio.NewReader(conn)
		for n := int64(1); time.Now().Before(deadline); n++ {
			if _, err := conn.Write(request); err != nil {
				return err
			}
			if err := readHead(answers); err != nil {
				return fmt.Errorf("HEAD %s: %w", target, err)
			}
			total.Add(1)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return float64(total.Load())
}

// readHead reads an answer without a body and checks that it is a 200.
func readHead(r *bufio.Reader) error {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("unexpected answer %q", status)
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= len("\r\n") {
			return nil
		}
	}
}

// smallImages compares pushes of small images by 8 clients into one repository
// with docker-registry and with a plain Go program that writes the same files.
func smallImages(t *testing.T, b *bench) []figure {
	berth, peer := startBerth(t, Linked), Start(t, Options{Topology: Peer})
	d := pick(b, 4*time.Second, 2*time.Second)
	var names atomic.Int64
	push := func(s *System) contender {
		c := newBenchClient(s.URL(), "bench/images")
		return contender{procs: s.Processes, work: func(t testing.TB) float64 {
			deadline := time.Now().Add(d)
			var images atomic.Int64
			err := inParallel(imageClients, imageClients, func(client int) error {
				for time.Now().Before(deadline) {
					n := int(names.Add(1))
					layer, config, manifest := smallImage(client, n)
					if err := c.image(fmt.Sprintf("v%d", n), layer, config, manifest); err != nil {
						return err
					}
					images.Add(1)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return float64(images.Load())
		}}
	}
	var ours, theirs, files []sample
	for round := range 4 {
		got := interleave(t, 1, push(berth), push(peer))
		written := writeSmallImages(t, d)
		if round > 0 { // the first one warms up
			ours, theirs, files = append(ours, got[0]...), append(theirs, got[1]...), append(files, written)
		}
	}
	return []figure{
		{row: "small images, 8 clients, one repository, durable: speed", berth: perImage(ours),
			peer: "docker-registry, not durable " + perImage(theirs), value: ratio(ours, theirs, sample.rate), format: "%.1f ×", goal: atLeast(8)},
		{row: "the same", berth: perImage(ours),
			peer: "plain files, durable " + perImage(files), value: ratio(ours, files, sample.rate), format: "%.2f ×", goal: atLeast(0.4)},
		{row: "the same: CPU", berth: perImage(ours),
			value: median(ours, sample.cost) * 1e3, format: "%.2f CPU-ms", goal: atMost(1.5), floor: atMost(3.5)},
	}
}

// writeSmallImages runs the plain program that writes the files of small images.
func writeSmallImages(t testing.TB, d time.Duration) sample {
	t.Helper()
	p := childProcess(t, writerRole, t.TempDir(), fmt.Sprint(d.Seconds()))
	p.start(t)
	<-p.exited
	p.killed = true // it ends by itself
	var images float64
	if _, err := fmt.Sscan(p.Log(), &images); err != nil || p.exitErr != nil {
		t.Fatalf("writing plain files: %v, %v\n%s", err, p.exitErr, p.Log())
	}
	state := p.cmd.ProcessState
	return sample{wall: d, cpu: state.UserTime() + state.SystemTime(), units: images}
}
