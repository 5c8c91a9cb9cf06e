//go:build e2e && slow

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"testing"
	"time"
)

const (
	slowRate  = 1_000_000 // bytes per second
	slowPiece = 50 * time.Millisecond
)

// TestSlow moves 1 GiB at 1 MB/s in both directions through every topology, all
// at once: nothing between two programs may limit a whole transfer, only one
// that makes no progress. It takes 20 minutes. SLOW_MIB makes it smaller.
func TestSlow(t *testing.T) {
	size := int64(1024)
	if s := os.Getenv("SLOW_MIB"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		size = n
	}
	size <<= 20
	for i, topology := range []Topology{Linked, Split, TwoGateways} {
		t.Run(string(topology), func(t *testing.T) {
			t.Parallel()
			s := Start(t, Options{Topology: topology})
			t.Run("push", func(t *testing.T) {
				t.Parallel()
				blob := slowBlob{seed: uint64(2 * i), size: size}
				d := blob.digest(t)
				blob.push(t, s, d, &paced{r: blob.reader()})
				blob.pull(t, s, d, func(r io.Reader) io.Reader { return r })
			})
			t.Run("pull", func(t *testing.T) {
				t.Parallel()
				blob := slowBlob{seed: uint64(2*i + 1), size: size}
				d := blob.digest(t)
				blob.push(t, s, d, blob.reader())
				blob.pull(t, s, d, func(r io.Reader) io.Reader { return &paced{r: r} })
			})
		})
	}
}

// slowBlob is a blob that is made again for every use, and never held.
type slowBlob struct {
	seed uint64
	size int64
}

func (b slowBlob) reader() io.Reader {
	var seed [32]byte
	seed[0] = byte(b.seed)
	return io.LimitReader(rand.NewChaCha8(seed), b.size)
}

func (b slowBlob) digest(t *testing.T) string {
	t.Helper()
	h := sha256.New()
	if _, err := io.Copy(h, b.reader()); err != nil {
		t.Fatal(err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// push sends the blob in one streamed PATCH and closes the upload.
func (b slowBlob) push(t *testing.T, s *System, d string, body io.Reader) {
	t.Helper()
	began := time.Now()
	location := slowDo(t, s, http.MethodPost, "/v2/slow/blobs/uploads/", nil, http.StatusAccepted)
	location = slowDo(t, s, http.MethodPatch, location, body, http.StatusAccepted)
	slowDo(t, s, http.MethodPut, location+"&digest="+d, nil, http.StatusCreated)
	t.Logf("pushed %d MiB in %v", b.size>>20, time.Since(began).Round(time.Second))
}

// pull reads the blob through slow and compares its digest.
func (b slowBlob) pull(t *testing.T, s *System, d string, slow func(io.Reader) io.Reader) {
	t.Helper()
	began := time.Now()
	resp, err := http.Get(s.URL() + "/v2/slow/blobs/" + d)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h := sha256.New()
	n, err := io.Copy(h, slow(resp.Body))
	if err != nil || n != b.size || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET: %s, %d of %d bytes, %v", resp.Status, n, b.size, err)
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != d {
		t.Errorf("GET gives %s, want %s", got, d)
	}
	t.Logf("pulled %d MiB in %v", b.size>>20, time.Since(began).Round(time.Second))
}

// slowDo sends a request without any time limit and returns its Location.
func slowDo(t *testing.T, s *System, method, location string, body io.Reader, want int) string {
	t.Helper()
	req, err := http.NewRequest(method, s.URL()+location, body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, location, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s %s: %s, want %d: %s %v", method, location, resp.Status, want, text, err)
	}
	next, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s?%s", next.Path, next.RawQuery)
}

// paced hands out slowRate bytes a second.
type paced struct {
	r    io.Reader
	tick <-chan time.Time
	left int
}

func (p *paced) Read(b []byte) (int, error) {
	if p.tick == nil {
		p.tick = time.Tick(slowPiece)
	}
	if p.left == 0 {
		<-p.tick
		p.left = slowRate / int(time.Second/slowPiece)
	}
	n, err := p.r.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}
