package allinone

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
)

// TestG25NothingLeaks breaks requests of every kind off, ABORTS times each, and
// compares goroutines, open files, files of the store and the heap with what they
// were after a few of them: everything has to be back within ten seconds.
func TestG25NothingLeaks(t *testing.T) {
	aborts := 40
	if s := os.Getenv("ABORTS"); s != "" {
		var err error
		if aborts, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	plain := func(l net.Listener) net.Listener { return l }
	for _, topology := range []string{"linked", "split"} {
		t.Run(topology, func(t *testing.T) {
			root := t.TempDir()
			localBlobs, localCatalog := storesIn(t, root)
			var blobs registry.Blobs = localBlobs
			var catalog registry.Catalog = localCatalog
			if topology == "split" {
				blobs, catalog = rpctest.Blobs(t, blobs), rpctest.Catalog(t, catalog)
			}
			a := newAborter(t, serve(t, blobs, catalog, plain))
			a.run(t, 5)
			before := settled(t, root, usage{})
			a.run(t, aborts)
			after := settled(t, root, before)
			t.Logf("%d requests of each of %d kinds broken off: %v before, %v after", aborts, len(a.kinds()), before, after)
			if after.goroutines > before.goroutines || after.files > before.files {
				t.Errorf("goroutines or open files are left:\n%s", stacks())
			}
			if after.stored != before.stored {
				t.Errorf("%d files are left in the store", after.stored-before.stored)
			}
			if after.heap > before.heap+8<<20 {
				t.Errorf("the heap has grown by %d KiB", (after.heap-before.heap)>>10)
			}
		})
	}
}

// aborter is a client that leaves in the middle of things.
type aborter struct {
	addr, blob string // host:port, a digest
}

func newAborter(t *testing.T, url string) *aborter {
	t.Helper()
	return &aborter{addr: strings.TrimPrefix(url, "http://"), blob: push(t, url+"/v2/leak", bytes.Repeat([]byte("0123456789abcdef"), 1<<18))}
}

// kinds are requests that are broken off where their text ends, or where their
// answer has begun. %s is an upload or the blob.
func (a *aborter) kinds() map[string]string {
	const digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	return map[string]string{
		"a header":           "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Half",
		"a whole upload":     "POST /v2/leak/blobs/uploads/?digest=" + digest + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + strings.Repeat("x", 100_000),
		"a wrong digest":     "POST /v2/leak/blobs/uploads/?digest=" + digest + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"a chunk":            "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n" + strings.Repeat("x", 100_000),
		"a chunked stream":   "PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"the last chunk":     "PUT %s&digest=" + digest + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\nhello",
		"a manifest":         "PUT /v2/leak/manifests/t HTTP/1.1\r\nHost: x\r\nContent-Type: " + registry.TypeManifest + "\r\nContent-Length: 1000\r\n\r\n{",
		"a download":         "GET /v2/leak/blobs/" + a.blob + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"a range":            "GET /v2/leak/blobs/" + a.blob + " HTTP/1.1\r\nHost: x\r\nRange: bytes=1000000-\r\n\r\n",
		"ranges":             "GET /v2/leak/blobs/" + a.blob + " HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1000000,2000000-3000000\r\n\r\n",
		"what is not there":  "GET /v2/leak/blobs/" + digest + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"a list nobody took": "GET /v2/_catalog HTTP/1.1\r\nHost: x\r\n\r\n",
	}
}

// run breaks off n requests of each kind, and cancels the uploads they were for.
func (a *aborter) run(t *testing.T, n int) {
	t.Helper()
	for what, text := range a.kinds() {
		for i := range n {
			upload := ""
			if strings.Contains(text, "%s") {
				resp := send(t, http.MethodPost, "http://"+a.addr+"/v2/leak/blobs/uploads/", nil, "")
				upload = resp.Header.Get("Location")
			}
			a.abort(t, what, strings.Replace(text, "%s", upload, 1), i%2 == 0)
			if upload != "" {
				a.cancel(t, upload)
			}
		}
	}
}

// cancel cancels an upload as soon as the request that was broken off lets go of it.
func (a *aborter) cancel(t *testing.T, upload string) {
	t.Helper()
	for {
		resp := send(t, http.MethodDelete, "http://"+a.addr+upload, nil, "")
		if resp.StatusCode == http.StatusNoContent {
			return
		}
		if resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
			t.Fatalf("cancelling an upload: %s", resp.Status)
		}
		time.Sleep(time.Millisecond) // the server has not seen yet that the client has left
	}
}

// abort sends text and leaves: politely, or with a reset.
func (a *aborter) abort(t *testing.T, what, text string, reset bool) {
	t.Helper()
	c, err := net.Dial("tcp", a.addr)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer c.Close()
	if _, err := fmt.Fprint(c, text); err != nil {
		return // refused before the end
	}
	if strings.HasPrefix(text, "GET") && strings.HasSuffix(text, "\r\n\r\n") {
		if _, err := c.Read(make([]byte, 100)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if reset {
		c.(*net.TCPConn).SetLinger(0)
	}
}

// usage is what a process must give back.
type usage struct {
	goroutines, files, stored int
	heap                      int64
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d open files, %d files in the store, %d KiB of heap", u.goroutines, u.files, u.stored, u.heap>>10)
}

// settled waits until nothing moves, or nothing is above goal, for ten seconds at
// most, and returns the usage then.
func settled(t *testing.T, root string, goal usage) usage {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	var last usage
	for same := 0; ; {
		http.DefaultClient.CloseIdleConnections()
		now := measure(t, root)
		if goal.goroutines > 0 && now.goroutines <= goal.goroutines && now.files <= goal.files && now.stored <= goal.stored {
			return now
		}
		if now.goroutines == last.goroutines && now.files == last.files && now.stored == last.stored {
			same++
		} else {
			same = 0
		}
		if last = now; time.Now().After(deadline) || goal.goroutines == 0 && same == 20 {
			return now
		}
		time.Sleep(50 * time.Millisecond) // a server's side of a connection ends when it likes
	}
}

func measure(t *testing.T, root string) usage {
	t.Helper()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u := usage{goroutines: runtime.NumGoroutine(), heap: int64(m.HeapAlloc)}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("NOT RUN: open files cannot be counted here: %v", err)
	}
	for _, f := range open {
		// The database's pool opens and closes connections as it likes.
		if name, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && !strings.Contains(name, "metadata.db") {
			u.files++
		}
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			u.stored++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}
