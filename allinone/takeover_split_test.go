package allinone

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

// TestTakeoverSplit takes over the directory of another registry where the blobstore
// is another process than the catalogs, of which there are two on PostgreSQL. It
// begins by itself, and the catalogs tell how far it is.
func TestTakeoverSplit(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	names := config.Metadata{Driver: config.Postgres, DSN: config.Secret(server.DSN(server.Database(t)))}
	parts := Stores(map[string]blobstore.OpenPool{"local": disk.OpenPool}, metadata.Drivers{Databases: map[string]metadata.OpenDB{"postgres": postgres.OpenConfigured}})
	root := zotroot.Make(t, 11, 20)
	before, hot := zotroot.Snapshot(t, root.Dir), zotroot.Snapshot(t, root.Hot)

	cfg := config.Defaults()
	cfg.Storage.Metadata = names
	cfg.Storage.RootDirectory = root.Dir
	cfg.Storage.SubPaths = map[string]config.SubPath{"/hot": {Pool: config.Pool{RootDirectory: root.Hot}}}
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	local, err := parts.Blobs(t.Context(), cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	blobs := rpctest.Blobs(t, local)
	cfg.Storage.RootDirectory = t.TempDir() // of the metadata services, which see nothing of the other

	type open struct {
		catalog registry.Catalog
		url     string
	}
	var all []open
	for range 2 {
		catalog, err := parts.Catalog(t.Context(), cfg, blobs, func(err error) { t.Error(err) }, p)
		if err != nil {
			t.Fatal(err)
		}
		defer catalog.Close()
		remote := rpctest.Catalog(t, catalog)
		catalog.(*metadata.Service).FinishFence(time.Millisecond)
		all = append(all, open{remote, serve(t, blobs, remote, func(l net.Listener) net.Listener { return l })})
	}
	for _, o := range all {
		root.Check(t, o.url)
	}
	for _, o := range all {
		awaitTaken(t, o.catalog, 13)
	}
	sameTree(t, "taking over", before, zotroot.Snapshot(t, root.Dir))
	sameTree(t, "taking over", hot, zotroot.Snapshot(t, root.Hot))

	// Then for good. Both catalogs may be asked, one does it.
	for _, o := range all {
		if err := o.catalog.FinishTakeOvers(t.Context(), operator); err != nil {
			t.Fatal(err)
		}
	}
	f := awaitFinished(t, all[1].catalog)
	if f.Blobs == 0 || f.Repositories != 11 || f.Kept != 2 || f.ForeignBlobs != 0 {
		t.Errorf("finished: %+v", f)
	}
	for _, o := range all {
		root.Check(t, o.url)
	}
	if _, err := os.Lstat(filepath.Join(root.Dir, "library")); !os.IsNotExist(err) {
		t.Errorf("a directory that was taken over is still there: %v", err)
	}
}

// awaitFinished returns when the end of a take-over has come.
func awaitFinished(t *testing.T, c registry.TakeOvers) registry.TakeOverFinish {
	t.Helper()
	for {
		f, err := c.TakeOverFinish(t.Context(), operator)
		if err != nil || f.Failure != "" {
			t.Fatal(err, f.Failure)
		}
		if f.Ended > 0 {
			return f
		}
		if err := pause(t.Context(), adoptPoll/10); err != nil {
			t.Fatal(err)
		}
	}
}

// awaitTaken returns when n repositories are taken over and none waits.
func awaitTaken(t *testing.T, c registry.TakeOvers, n int) {
	t.Helper()
	operator := registry.Actor{ID: "operator", System: true}
	for {
		list, err := c.TakeOvers(context.WithoutCancel(t.Context()), operator, registry.Page[registry.Name]{Limit: 100})
		if err != nil {
			t.Fatal(err)
		}
		states := make(map[string]int)
		for _, x := range list.Items {
			states[x.State]++
		}
		if len(list.Items) > n {
			t.Fatalf("%d repositories: %v", len(list.Items), states)
		}
		if states[registry.TakeOverDone] == n {
			return
		}
	}
}
