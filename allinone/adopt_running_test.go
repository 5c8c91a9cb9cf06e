package allinone

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/services/metadata"
)

// control serves the control socket of root until the test ends or the function it
// returns is called.
func control(t *testing.T, root string, blobs registry.Blobs, catalog registry.Catalog) (stop func()) {
	t.Helper()
	unit, err := rpc.ControlUnit(t.Context(), root, blobs, catalog, nil, nil, rpc.ServerOptions{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if unit.Start != nil {
		if err := unit.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- unit.Run() }()
	stop = sync.OnceFunc(func() {
		if err := errors.Join(unit.Stop(context.WithoutCancel(t.Context())), <-ended); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// pulling gets all blobs again and again until it is stopped, and says how often. One
// that can't be had is asked for once more: who was told of a file a moment before it
// went gets an error, unless nothing is removed for a while, which is not waited for
// here.
func pulling(t *testing.T, root *zotroot.Root, url string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	pull := func(b zotroot.Blob) bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v2/"+b.Repo+"/blobs/"+b.Digest.String(), nil)
		if err != nil {
			t.Error(err)
			return true
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return ctx.Err() != nil
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		return ctx.Err() != nil || err == nil && resp.StatusCode == http.StatusOK && b.Digest.Algorithm().FromBytes(got) == b.Digest
	}
	pulled := 0
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			for _, b := range root.Blobs {
				if had := pull(b); !had && !pull(b) {
					t.Errorf("%s of %s can't be pulled", b.Digest, b.Repo)
				}
				pulled++
			}
		}
	})
	return func() int {
		cancel()
		work.Wait()
		return pulled
	}
}

// TestAdoptRunning takes a directory over for good while the registry serves it.
func TestAdoptRunning(t *testing.T) {
	root := zotroot.Make(t, 8, 12)
	before := zotroot.Snapshot(t, root.Dir)
	a := serveAdopted(t, root)
	a.catalog.(*metadata.Service).FinishFence(time.Millisecond)
	stop := control(t, root.Dir, memory.NewBlobs(), a.catalog)

	if out, code := runAdopt(t, root, "adopt", "--dry-run"); code == exitNotDone || !strings.Contains(out, "the registry runs") {
		t.Fatalf("dry run: %d %s", code, out)
	}
	if out, code := runAdopt(t, root, "adopt"); code != exitFindings || !strings.Contains(out, "repositories: 13 taken over") || strings.Count(out, "repository corrupt: ") != 1 {
		t.Fatalf("adopt: %d %s", code, out)
	}
	sameTree(t, "adopt", before, zotroot.Snapshot(t, root.Dir))

	pulled := pulling(t, root, a.url)
	out, code := runAdopt(t, root, "adopt", "--finish")
	if n := pulled(); n == 0 {
		t.Error("nothing was pulled meanwhile")
	}
	if code != exitFindings || !strings.Contains(out, "11 directories of repositories removed, of 2 some files kept") {
		t.Fatalf("finish: %d %s", code, out)
	}
	for _, name := range []string{"library", "team", "multi", "long", "signed"} {
		if _, err := os.Lstat(filepath.Join(root.Dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if n := countFiles(t, filepath.Join(root.Dir, "broken/blobs")); n != 3 {
		t.Errorf("%d files of repository broken are left, want the damaged manifest, its config and its layer", n)
	}
	if out, code := runAdopt(t, root, "status"); code != exitFindings || !strings.Contains(out, "another registry: 0 (0 bytes)") {
		t.Errorf("status: %d %s", code, out)
	}
	if out, code := runAdopt(t, root, "adopt", "--finish"); code != exitFindings || !strings.Contains(out, "0 directories of repositories removed, of 2 some") {
		t.Errorf("finish again: %d %s", code, out)
	}
	a.check(t, root)
	stop()
	a.close()
	if out, err := runFsckOn(t, root, "--read-data"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
