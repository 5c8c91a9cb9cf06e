//go:build e2e

package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// pacedUpstream is a registry that takes its time to send blobs, and makes them by
// their number.
type pacedUpstream struct {
	url  string
	size int
	seed uint64
	sent atomic.Int64 // bytes of the blob that was asked for last

	mu       sync.Mutex // guards what follows
	blobs    map[digest.Digest][]byte
	requests map[digest.Digest]int
}

func newPacedUpstream(t *testing.T, size int, seed uint64) *pacedUpstream {
	t.Helper()
	u := &pacedUpstream{size: size, seed: seed, blobs: map[digest.Digest][]byte{}, requests: map[digest.Digest]int{}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		d := digest.Digest(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
		u.mu.Lock()
		content := u.blobs[d]
		if r.Method == http.MethodGet {
			u.requests[d]++
		}
		u.mu.Unlock()
		if content == nil {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(pacedWriter{w, u}, r, "", time.Time{}, bytes.NewReader(content))
	}))
	t.Cleanup(server.Close)
	u.url = server.URL
	return u
}

// add makes another blob.
func (u *pacedUpstream) add() (digest.Digest, []byte) {
	u.mu.Lock()
	defer u.mu.Unlock()
	content := make([]byte, u.size)
	mrand.NewChaCha8([32]byte{byte(len(u.blobs)), byte(u.seed), byte(u.seed >> 8), byte(u.seed >> 16)}).Read(content)
	d := digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(content)))
	u.blobs[d] = content
	u.sent.Store(0)
	return d, content
}

func (u *pacedUpstream) asked(d digest.Digest) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests[d]
}

// pacedWriter sends 64 KiB each 5 ms. It hides what lets a server send files by itself.
type pacedWriter struct {
	http.ResponseWriter
	u *pacedUpstream
}

func (w pacedWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		part := min(len(p), 64<<10)
		var m int
		m, err = w.ResponseWriter.Write(p[:part])
		n += m
		w.u.sent.Add(int64(m))
		p = p[part:]
		time.Sleep(5 * time.Millisecond)
	}
	return n, err
}

// TestMirrorKill kills syncer, gateway and blobstore in turn while a blob is being
// fetched, with the catalog in PostgreSQL and the bytes in S3. fsck finds nothing with
// the process gone; when it is back the blob can be pulled, and is right; and a fetch
// that was not killed itself goes on with the one request it has made.
//
// MIRROR_KILLS is the number of kills (6), KILL_SEED the seed.
func TestMirrorKill(t *testing.T) {
	kills := envInt(t, "MIRROR_KILLS", 6)
	seed := uint64(envInt(t, "KILL_SEED", int(time.Now().UnixNano()>>20)))
	t.Logf("%d kills, KILL_SEED=%d", kills, seed)
	rnd := mrand.New(mrand.NewPCG(seed, 0))
	u := newPacedUpstream(t, 12<<20, seed)
	s := Start(t, Options{
		Topology: Split, Mirror: true, Postgres: pgtest.Start(t, pgtest.Options{Durable: true}), S3: s3test.Start(t),
		Edit: mirroring(map[string]any{"urls": []string{u.url}, "onDemand": true}),
	})
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	// A gateway serves before it has reached the syncer, and may need 5 s to reach one
	// that is back.
	reached := func() {
		first, content := u.add()
		awaitBlob(t, client, s.URL()+"/v2/far/away/blobs/"+string(first), content)
	}
	victims := []string{"syncer", "gateway", "blobstore"}
	hit, broken := 0, 0
	for n := range kills {
		reached()
		victim := victims[n%len(victims)]
		p := s.of(victim)[0]
		d, content := u.add()
		t.Logf("kill %d: %s", n+1, p.Name)
		url := s.URL() + "/v2/far/away/blobs/" + string(d)
		pulled := make(chan error, 1)
		go func() { pulled <- pullBlob(client, url, content) }()
		// Some when it begins, some in the middle, some when all has come.
		at := int64(u.size) * []int64{5, 30, 60, 95, 100}[rnd.IntN(5)] / 100
		for u.sent.Load() < at {
			select {
			case err := <-pulled:
				t.Fatalf("kill %d: the pull ended before it: %v", n+1, err)
			case <-time.After(time.Millisecond):
			}
		}
		p.Kill(t)
		err := <-pulled
		hit++
		if err != nil {
			broken++
		}
		checkStore(t, s, n)
		p.Restart(t)
		if victim == "blobstore" {
			awaitHealth(t, p)
		}
		awaitBlob(t, client, url, content)
		if asked := u.asked(d); victim != "syncer" && asked > 1 {
			t.Errorf("kill %d of %s at byte %d: %d requests upstream", n+1, p.Name, at, asked)
		}
	}
	t.Logf("%d kills while a blob was being fetched, of which clients saw %d", hit, broken)
	checkStore(t, s, 24) // and reads all data
}

// awaitBlob downloads a blob, and tries again for a minute if that fails.
func awaitBlob(t *testing.T, client *http.Client, url string, want []byte) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for err := pullBlob(client, url, want); err != nil; err = pullBlob(client, url, want) {
		if strings.Contains(err.Error(), "other bytes") || time.Now().After(deadline) {
			t.Fatalf("%s can't be pulled: %v", url, err)
		}
		time.Sleep(readyPause)
	}
}

// pullBlob downloads a blob. One that ends well must be the right one.
func pullBlob(client *http.Client, url string, want []byte) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: %.200s", resp.Status, got)
	case !bytes.Equal(got, want):
		return fmt.Errorf("%d other bytes", len(got))
	}
	return nil
}
