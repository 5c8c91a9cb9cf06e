//go:build bench

package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	bigSize   = 1 << 30
	chunkSize = 16 << 20 // of a chunked upload
)

// bigFile is 1 GiB of random bytes in a file of its own directory, mapped, so
// that it can be changed and hashed in place and sent by sendfile.
type bigFile struct {
	dir, path string
	bytes     []byte
	stamps    uint64
}

func newBigFile(t testing.TB) *bigFile {
	t.Helper()
	dir := t.TempDir()
	b := &bigFile{dir: dir, path: filepath.Join(dir, "big")}
	f, err := os.Create(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), bigSize); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	b.bytes, err = syscall.Mmap(int(f.Fd()), 0, bigSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(b.bytes) })
	return b
}

// stamp makes the content differ from all before, and hashes it: the digest,
// and the time that Go's SHA-256 needs for these bytes. That is time on a CPU:
// waiting for one while others use it would make the reference slower, and a
// push that is too slow look good.
func (b *bigFile) stamp() (digest.Digest, sample) {
	b.stamps++
	binary.BigEndian.PutUint64(b.bytes, b.stamps)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := threadTime()
	sum := sha256.Sum256(b.bytes)
	return digest.NewDigestFromBytes(digest.SHA256, sum[:]), sample{wall: threadTime() - begin, units: 1}
}

// threadTime is the user and system time of the calling thread, getrusage(2).
func threadTime() time.Duration {
	const thisThread = 1 // RUSAGE_THREAD
	var use syscall.Rusage
	if err := syscall.Getrusage(thisThread, &use); err != nil {
		panic(err) // only for a wrong argument
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// put pushes the file by POST and one PUT, which sends it by sendfile: the
// cheapest client there is.
func (b *bigFile) put(c *benchClient, d digest.Digest) error {
	upload, err := c.begin()
	if err != nil {
		return err
	}
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	req, err := http.NewRequest(http.MethodPut, closing(upload, d), f)
	if err != nil {
		return err
	}
	req.ContentLength = bigSize
	req.Header.Set("Content-Type", "application/octet-stream")
	_, err = c.do(req, http.StatusCreated)
	return err
}

// chunked pushes the file by POST, a PATCH for each chunk, and an empty PUT.
func (b *bigFile) chunked(c *benchClient, d digest.Digest) error {
	upload, err := c.begin()
	if err != nil {
		return err
	}
	for at := 0; at < bigSize; at += chunkSize {
		// Part of a file can't go by sendfile: net/http looks for what follows it.
		req, err := http.NewRequest(http.MethodPatch, upload, bytes.NewReader(b.bytes[at:at+chunkSize]))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/octet-stream")
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", at, at+chunkSize-1))
		header, err := c.do(req, http.StatusAccepted)
		if err != nil {
			return err
		}
		if upload, err = c.location(header); err != nil {
			return err
		}
	}
	_, err = c.send(http.MethodPut, closing(upload, d), nil, "", http.StatusCreated)
	return err
}

// streamed pushes the file as docker does: POST, one PATCH of unknown length,
// and an empty PUT.
func (b *bigFile) streamed(c *benchClient, d digest.Digest) error {
	upload, err := c.begin()
	if err != nil {
		return err
	}
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	req, err := http.NewRequest(http.MethodPatch, upload, f)
	if err != nil {
		return err
	}
	req.ContentLength = -1
	req.Header.Set("Content-Type", "application/octet-stream")
	header, err := c.do(req, http.StatusAccepted)
	if err != nil {
		return err
	}
	if upload, err = c.location(header); err != nil {
		return err
	}
	_, err = c.send(http.MethodPut, closing(upload, d), nil, "", http.StatusCreated)
	return err
}

// getBig compares how a blob of 1 GiB goes out.
func getBig(t *testing.T, b *bench) []figure {
	big := newBigFile(t)
	files, filesURL := startFileServer(t, big.dir)
	nginx, nginxURL := startNginx(t, big.dir)
	linked, split, secure := startBerth(t, Linked), startBerth(t, Split), startBerth(t, SplitTLS)

	get := func(name, url string, procs ...*Process) contender {
		c := newBenchClient(url, "")
		return contender{name: name, procs: procs, work: func(t testing.TB) float64 {
			n, err := c.get(url)
			if err != nil || n != bigSize {
				t.Fatalf("%s: GET: %d bytes, %v", name, n, err)
			}
			return 1
		}}
	}
	registry := func(name string, s *System) contender {
		c, d := newBenchClient(s.URL(), "bench/big"), digest.FromBytes(big.bytes)
		if err := big.put(c, d); err != nil {
			t.Fatalf("%s: PUT: %v", name, err)
		}
		return get(name, c.base+"/blobs/"+d.String(), s.Processes...)
	}
	contenders := []contender{
		registry("linked", linked), registry("split", split), registry("split with mutual TLS", secure),
		get("nginx", nginxURL+"/big", nginx), get("file server", filesURL+"/big", files),
	}
	interleave(t, 1, contenders...) // the page cache
	got := interleave(t, pick(b, 5, 3), contenders...)
	link, spl, tls, ngx, file := got[0], got[1], got[2], got[3], got[4]
	return []figure{
		{row: "GET 1 GiB blob, linked: CPU", berth: perGiB(link), peer: "nginx sendfile " + perGiB(ngx),
			value: ratio(link, ngx, sample.cost), format: "%.2f ×", goal: atMost(1.1)},
		{row: "the same", berth: perGiB(link), peer: "Go file server " + perGiB(file),
			value: ratio(link, file, sample.cost), format: "%.2f ×"},
		{row: "GET 1 GiB blob, split: speed", berth: perGiB(spl), peer: "linked " + perGiB(link),
			value: ratio(spl, link, sample.rate), format: "%.2f ×", goal: atLeast(0.6)},
		{row: "GET 1 GiB blob, split with mutual TLS: speed", berth: perGiB(tls), peer: "linked " + perGiB(link),
			value: ratio(tls, link, sample.rate), format: "%.2f ×", goal: atLeast(0.35)},
	}
}

// writePlain writes the file's bytes to another one and syncs it: what the disk allows.
func (b *bigFile) writePlain(t testing.TB) float64 {
	path := filepath.Join(b.dir, "plain")
	defer os.Remove(path)
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b.bytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	return 1
}

// putBig compares how a blob of 1 GiB comes in, durably, with the time that
// SHA-256 alone takes for the same bytes just before, and with the disk.
func putBig(t *testing.T, b *bench) []figure {
	big := newBigFile(t)
	linked, split, secure := startBerth(t, Linked), startBerth(t, Split), startBerth(t, SplitTLS)
	peer := Start(t, Options{Topology: Peer})
	pushes := []struct {
		name   string
		system *System
		push   func(*benchClient, digest.Digest) error
	}{
		{"PUT", linked, big.put},
		{"chunked", linked, big.chunked},
		{"streamed", linked, big.streamed},
		{"split PUT", split, big.put},
		{"docker-registry PUT", peer, big.put},
		{"split PUT with mutual TLS", secure, big.put},
	}
	sums, got := make([][]sample, len(pushes)), make([][]sample, len(pushes))
	var plain []sample
	for range pick(b, 3, 2) {
		syscall.Sync()
		plain = append(plain, contender{name: "plain write", work: big.writePlain}.measure(t))
		for i, p := range pushes {
			d, sum := big.stamp()
			// What another server left to be written must not slow this one.
			syscall.Sync()
			c := newBenchClient(p.system.URL(), "bench/big")
			s := contender{name: p.name, procs: p.system.Processes, work: func(t testing.TB) float64 {
				if err := p.push(c, d); err != nil {
					t.Fatalf("%s: %v", p.name, err)
				}
				return 1
			}}.measure(t)
			sums[i], got[i] = append(sums[i], sum), append(got[i], s)
		}
	}
	speed := func(i int, row string, goal, floor bound) figure {
		return figure{row: row + ": speed", berth: perGiB(got[i]), peer: "SHA-256 " + perSecond(sums[i]),
			value: ratio(got[i], sums[i], sample.rate), format: "%.2f ×", goal: goal, floor: floor}
	}
	cost := func(i int, row string) figure {
		return figure{row: row + ": CPU", berth: perGiB(got[i]),
			value: median(got[i], sample.cost), format: "%.2f CPU-s/GiB", goal: atMost(1.6)}
	}
	return []figure{
		// The speed is that of two cores which client, server and disk share: 0.47 to 0.60
		// of one machine's days. The floor is half the goal's.
		speed(0, "PUT 1 GiB blob, durable", atLeast(0.6), atLeast(0.3)),
		cost(0, "PUT 1 GiB blob, durable"),
		{row: "the same", berth: perGiB(got[0]), peer: "docker-registry, not durable " + perGiB(got[4]),
			value: ratio(got[0], got[4], sample.rate), format: "%.2f ×"},
		{row: "the same", berth: perGiB(got[0]), peer: "one file written and synced " + perSecond(plain),
			value: ratio(got[0], plain, sample.rate), format: "%.2f ×"},
		speed(1, "PATCH in chunks of 16 MiB, durable", atLeast(0.6), bound{}),
		cost(1, "PATCH in chunks of 16 MiB, durable"),
		speed(2, "one PATCH of unknown length, durable", atLeast(0.6), bound{}),
		cost(2, "one PATCH of unknown length, durable"),
		speed(3, "PUT 1 GiB blob, split, durable", bound{}, bound{}),
		speed(5, "PUT 1 GiB blob, split with mutual TLS, durable", bound{}, bound{}),
	}
}

func perSecond(s []sample) string {
	return fmt.Sprintf("%.0f MB/s", median(s, sample.rate)*bigSize/1e6)
}
