package allinone

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/metadata"
)

// killing is a blobstore that ends its process, as SIGKILL does, at a call that has to
// do with making a layout's files its own.
type killing struct {
	*blobstore.Store
	dir   string        // of the default pool
	at    string        // the call
	calls int           // how many of these come before
	ready chan struct{} // nothing begins before it is closed

	beside func(at string)        // what others do at a call, nil: nothing
	reads  atomic.Pointer[func()] // called before a blob is opened, nil: nothing
}

// killed are the calls at which the process ends, in the order in which they come:
// the call, and how many of it succeed before.
var killed = []string{
	"before TakeOver 0", "after TakeOver 0", "before TakeOver 20", "before LayoutFiles 0", "before RemoveLayout 0",
	"within RemoveLayout 0", "after RemoveLayout 0", "within RemoveLayout 2", "after RemoveLayoutFiles 0",
}

func (k *killing) here(at string) bool {
	if at != k.at {
		return false
	}
	k.calls--
	return k.calls < 0
}

func (k *killing) die(at string) {
	if k.beside != nil {
		k.beside(at)
	}
	if k.here(at) {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (k *killing) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	if reads := k.reads.Load(); reads != nil {
		(*reads)()
	}
	return k.Store.Open(ctx, s, r)
}

func (k *killing) Layouts(ctx context.Context, p registry.Pool) iter.Seq2[registry.Name, error] {
	<-k.ready
	return k.Store.Layouts(ctx, p)
}

func (k *killing) TakeOver(ctx context.Context, s registry.Stored) (registry.Stored, error) {
	k.die("before TakeOver")
	made, err := k.Store.TakeOver(ctx, s)
	k.die("after TakeOver")
	return made, err
}

func (k *killing) LayoutFiles(ctx context.Context, p registry.Pool, repo registry.Name) iter.Seq2[registry.LayoutFile, error] {
	k.die("before LayoutFiles")
	return k.Store.LayoutFiles(ctx, p, repo)
}

func (k *killing) RemoveLayoutFiles(ctx context.Context, p registry.Pool, repo registry.Name, all []registry.Digest) (int64, error) {
	n, err := k.Store.RemoveLayoutFiles(ctx, p, repo, all)
	k.die("after RemoveLayoutFiles")
	return n, err
}

// RemoveLayout may end when the index and half of the files are gone.
func (k *killing) RemoveLayout(ctx context.Context, p registry.Pool, repo registry.Name) (int64, error) {
	k.die("before RemoveLayout")
	if p == "" && k.here("within RemoveLayout") {
		os.Remove(filepath.Join(k.dir, string(repo), "index.json"))
		files, _ := filepath.Glob(filepath.Join(k.dir, string(repo), "blobs/*/*"))
		for _, f := range files[:len(files)/2] {
			os.Remove(f)
		}
		k.at, k.calls = "now", 0
		k.die("now")
	}
	n, err := k.Store.RemoveLayout(ctx, p, repo)
	k.die("after RemoveLayout")
	return n, err
}

// openKilling opens the stores of root; the catalog begins to work when the call that
// it dies at is known.
func openKilling(t *testing.T, root *zotroot.Root, at string) adopted {
	t.Helper()
	return (&killing{dir: root.Dir, ready: make(chan struct{})}).open(t, root, at)
}

func (k *killing) open(t *testing.T, root *zotroot.Root, at string) adopted {
	t.Helper()
	call, n, _ := strings.Cut(at, " ")
	if what, count, ok := strings.Cut(n, " "); ok {
		k.at = call + " " + what
		if _, err := fmt.Sscan(count, &k.calls); err != nil {
			t.Fatal(err)
		}
	}
	parts := localParts()
	open := parts.Blobs
	parts.Blobs = func(ctx context.Context, cfg *config.Config, p daemon.Process) (Blobs, error) {
		b, err := open(ctx, cfg, p)
		if err == nil {
			k.Store = b.(*blobstore.Store)
		}
		return k, err
	}
	a := serveAdoptedBy(t, root, parts, config.Metadata{Driver: config.SQLite})
	a.catalog.(*metadata.Service).FinishFence(time.Millisecond)
	close(k.ready)
	return a
}

// TestFinishKilledChild is the process that TestFinishKilled kills.
func TestFinishKilledChild(t *testing.T) {
	dir, hot, ok := strings.Cut(os.Getenv("BERTH_TEST_FINISH"), ":")
	if !ok {
		t.Skip("runs in a process of TestFinishKilled")
	}
	a := openKilling(t, &zotroot.Root{Dir: dir, Hot: hot}, os.Getenv("BERTH_TEST_FINISH_AT"))
	if err := a.catalog.FinishTakeOvers(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	awaitFinished(t, a.catalog)
}

// TestFinishKilled kills a registry with SIGKILL that is making files of another one its
// own, at each step of that. It goes on by itself when it is started again, nothing is
// lost, and in the end all is as if nobody had killed it.
func TestFinishKilled(t *testing.T) {
	root := zotroot.Make(t, 9, 12)
	for _, at := range killed {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFinishKilledChild$")
		cmd.Env = append(os.Environ(), "BERTH_TEST_FINISH="+root.Dir+":"+root.Hot, "BERTH_TEST_FINISH_AT="+at)
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("%s: %v, want that it is killed\n%s", at, err, out)
		}
		if out, err := runFsckOn(t, root, "--read-data"); err != nil {
			t.Fatalf("killed %s: %v\n%s", at, err, out)
		}
	}
	a := openKilling(t, root, "")
	f := awaitFinished(t, a.catalog)
	if f.Kept != 2 || f.ForeignBlobs != 0 {
		t.Errorf("finished: %+v, want that files of 2 repositories are kept", f)
	}
	a.check(t, root)
	for _, name := range []string{"library", "team", "multi", "long", "signed"} {
		if _, err := os.Lstat(filepath.Join(root.Dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if n := countFiles(t, filepath.Join(root.Dir, "broken/blobs")); n != 3 {
		t.Errorf("%d files of repository broken are left, want the damaged manifest, its config and its layer", n)
	}
	a.close()
	if out, err := runFsckOn(t, root, "--read-data"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}
