package syncer_test

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

// TestG16Flapping: an upstream breaks off at random bytes, answers with failures and
// login pages and at times sends other content, and the process ends in the middle.
// Clients that ask again get the right bytes in the end, and nobody ever a whole blob
// of wrong ones. MIRROR_FILLS blobs, MIRROR_SEED repeats a run.
func TestG16Flapping(t *testing.T) {
	n, seed := 3, uint64(time.Now().UnixNano())
	if v, err := strconv.Atoi(os.Getenv("MIRROR_FILLS")); err == nil {
		n = v
	}
	if v, err := strconv.ParseUint(os.Getenv("MIRROR_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("MIRROR_FILLS=%d MIRROR_SEED=%d", n, seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	up := newHostile(t)
	w := open(t, at(t, up.URL))
	var mu sync.Mutex // guards rng
	draw := func(k int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(k) }
	// Time goes 200 times as fast: a host that counts as down is tried again soon.
	ended := make(chan struct{})
	var hurry sync.WaitGroup
	hurry.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				skew.Add(int64(10 * time.Second))
			}
		}
	})
	defer hurry.Wait()
	defer close(ended)
	failures, cuts, wrong := 0, 0, 0
	for range n {
		layer := random(1 + draw(3<<20))
		up.image(t, "a", "v1", layer)
		blob := registry.SHA256.FromBytes(layer)
		up.set(func() {
			up.answer = func(w http.ResponseWriter, _ *http.Request) bool {
				switch draw(8) {
				case 0:
					w.WriteHeader([]int{401, 403, 500, 502, 503}[draw(5)])
				case 1:
					w.Header().Set("Content-Type", "text/html")
					w.Header().Set("Content-Length", strconv.Itoa(len(layer)))
					w.Write(bytes.Repeat([]byte("<"), len(layer)))
					mu.Lock()
					wrong++
					mu.Unlock()
				default:
					return false
				}
				return true
			}
			up.cut = func(_ registry.Digest, left int) int {
				mu.Lock()
				cuts++
				mu.Unlock()
				return draw(left + left/2 + 1)
			}
		})
		done := false
		for try := 0; !done && try < 2000; try++ {
			if draw(6) == 0 {
				w.close()
				w.start(t, at(t, up.URL))
			}
			c, err := w.Open(t.Context(), nobody, "a", blob, registry.Whole)
			if err == nil {
				var got []byte
				if got, err = drainBody(t, c); err == nil {
					if !bytes.Equal(got, layer) {
						t.Fatal("wrong bytes, and no error")
					}
					done = true
				}
			}
			if err != nil {
				failures++
				time.Sleep(5 * time.Millisecond) // as a client does
			}
		}
		if !done {
			t.Fatal("the blob never came")
		}
		b := w.linked(t, "a", blob)
		if b.Size != int64(len(layer)) {
			t.Errorf("%d bytes are stored of %d", b.Size, len(layer))
		}
	}
	t.Logf("%d failures for clients, %d answers, %d of other content", failures, cuts, wrong)
}
