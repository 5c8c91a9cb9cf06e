package allinone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/disktest"
)

// TestG7DiskFull fills a small file system to a random byte FILLS (15) times. Pushes
// end with 507 and nothing else; reads, deletions of manifests and probes go on; when
// there is space again pushes are taken, without a restart; and nothing is damaged.
func TestG7DiskFull(t *testing.T) {
	fills := envInt(t, "FILLS", 15)
	root := disktest.Memory(t, 24<<20)
	seed := uint64(time.Now().UnixNano())
	t.Logf("%d fills, seed %d", fills, seed)
	random := rand.New(rand.NewPCG(seed, 7))
	for i := range fills {
		f := &diskFill{t: t, random: random, root: root, store: filepath.Join(root, "store"), stored: map[string][]byte{}}
		f.run(i)
		if err := os.RemoveAll(f.store); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("in fill %d", i)
		}
	}
}

// diskFill is one fill of [TestG7DiskFull].
type diskFill struct {
	t      *testing.T
	random *rand.Rand
	root   string            // of the file system
	store  string            // below it
	url    string            // of a repository
	stored map[string][]byte // blobs that were acknowledged
}

func (f *diskFill) run(i int) {
	t := f.t
	cfg := config.Defaults()
	cfg.Storage.RootDirectory, cfg.Storage.Reserve = f.store, 4<<20
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	parts := localParts()
	blobs, err := parts.Blobs(t.Context(), cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	catalog, err := parts.Catalog(t.Context(), cfg, blobs, func(err error) { t.Error(err) }, p)
	if err != nil {
		t.Fatal(err)
	}
	defer catalog.Close()
	base := serve(t, blobs, catalog, func(l net.Listener) net.Listener { return l })
	f.url = base + "/v2/a"

	f.want(f.put(100_000), http.StatusCreated, "a push when there is space")
	m := f.manifest(i)
	f.want(send(t, http.MethodPut, f.url+"/manifests/t", m, registry.TypeManifest).StatusCode, http.StatusCreated, "a manifest when there is space")

	// Other files leave a random number of bytes, pushes take the rest of them.
	filler := filepath.Join(f.root, "filler")
	disktest.Fill(t, filler, int64(f.random.IntN(10<<20)))
	status := http.StatusCreated
	for status == http.StatusCreated {
		status = f.put(f.random.IntN(2 << 20))
	}
	f.want(status, http.StatusInsufficientStorage, "a push on a full disk")
	f.check("on a full disk")
	ready := body(t, base+"/readyz")
	if free := disktest.Free(t, f.root); free < 4<<20 {
		var said struct{ Errors []struct{ Code string } }
		resp, err := http.Post(f.url+"/blobs/uploads/", "", nil)
		if err == nil {
			err = errors.Join(json.NewDecoder(resp.Body).Decode(&said), resp.Body.Close())
		}
		if err != nil || resp.StatusCode != http.StatusInsufficientStorage || len(said.Errors) != 1 || said.Errors[0].Code != registry.StorageFull.OCI() {
			t.Errorf("starting an upload with %d bytes free: %+v, %v", free, said, err)
		}
		if !bytes.Contains(ready, []byte("no space left")) {
			t.Errorf("/readyz says %q", ready)
		}
	}
	// The database may use the reserve, unless others have taken that, too.
	gone := send(t, http.MethodDelete, f.url+"/manifests/"+digest.FromBytes(m).String(), nil, "").StatusCode
	if free := disktest.Free(t, f.root); gone != http.StatusAccepted && (free > 1<<20 || gone != http.StatusInsufficientStorage) {
		t.Errorf("a deletion with %d bytes free: %d", free, gone)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	f.want(f.put(1<<20), http.StatusCreated, "a push when there is space again")
	f.want(send(t, http.MethodPut, f.url+"/manifests/again", f.manifest(i+1), registry.TypeManifest).StatusCode, http.StatusCreated, "a manifest when there is space again")
	f.check("afterwards")
	for found, err := range catalog.(catalogChecker).Fsck(t.Context(), blobs, true) {
		if err != nil {
			t.Fatal(err)
		}
		t.Errorf("fsck: %s", found)
	}
}

func (f *diskFill) want(got, want int, what string) {
	f.t.Helper()
	if got != want {
		f.t.Fatalf("%s: %d, want %d", what, got, want)
	}
}

// put pushes a blob of n bytes.
func (f *diskFill) put(n int) int {
	content := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(f.random.Uint32()), byte(f.random.Uint32()), byte(f.random.Uint32()), 2}).Read(content)
	d := digest.FromBytes(content).String()
	resp := send(f.t, http.MethodPost, f.url+"/blobs/uploads/?digest="+d, content, "application/octet-stream")
	if resp.StatusCode == http.StatusCreated {
		f.stored[d] = content
	}
	return resp.StatusCode
}

// manifest returns a manifest of some stored blob.
func (f *diskFill) manifest(i int) []byte {
	for d, b := range f.stored {
		return fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":%d},"layers":[],"annotations":{"n":"%d"}}`, d, len(b), i)
	}
	return nil
}

// check reads all that was acknowledged.
func (f *diskFill) check(when string) {
	f.t.Helper()
	for d, b := range f.stored {
		if got := body(f.t, f.url+"/blobs/"+d); !bytes.Equal(got, b) {
			f.t.Errorf("a blob reads as other bytes %s", when)
		}
	}
}
