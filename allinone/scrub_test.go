package allinone

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
)

// TestScrubCommand runs berth scrub on a stopped store: one that is well, one with
// a damaged blob, and one that is not there.
func TestScrubCommand(t *testing.T) {
	root := t.TempDir()
	blobs, catalog := storesIn(t, root)
	url := serve(t, blobs, catalog, func(l net.Listener) net.Listener { return l })
	good := push(t, url+"/v2/a", bytes.Repeat([]byte("good"), 1<<19))
	bad := push(t, url+"/v2/a", bytes.Repeat([]byte("bad!"), 1<<19))
	if err := errors.Join(catalog.Close(), blobs.Close()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	cfg, err := json.Marshal(map[string]any{"storage": map[string]any{"rootDirectory": root}})
	if err == nil {
		err = os.WriteFile(file, cfg, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, int) {
		t.Helper()
		var out bytes.Buffer
		flags := flag.NewFlagSet("scrub", flag.ContinueOnError)
		err := scrub("berth", localParts()).Run(t.Context(), flags, args, &out)
		var exit daemon.Exit
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return out.String(), exit.Code
	}
	if out, code := run("--quiet", file); code != 0 || out != "all is well\n" {
		t.Errorf("a store that is well: exit code %d, %q", code, out)
	}
	path := filesOfBlobs(t, root)[bad[len("sha256:"):]]
	if err := os.Truncate(path, 1000); err != nil {
		t.Fatal(err)
	}
	out, code := run("--quiet", "--json", file)
	var f registry.Finding
	if err := json.Unmarshal([]byte(out), &f); err != nil || code != 1 || f.Digest.String() != bad || f.Invariant != "I5" {
		t.Errorf("a damaged store: exit code %d, %q, %v; want a finding for %s and not for %s", code, out, err, bad, good)
	}
	// What is served again does not count it as stored.
	blobs, catalog = storesIn(t, root)
	if _, err := catalog.Blob(t.Context(), operator, "a", registry.Digest(bad)); !errors.Is(err, registry.ErrBlobUnknown) {
		t.Errorf("the damaged blob afterwards: %v", err)
	}
	if _, err := catalog.Blob(t.Context(), operator, "a", registry.Digest(good)); err != nil {
		t.Error(err)
	}
	if err := errors.Join(catalog.Close(), blobs.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, ".berth")); err != nil {
		t.Fatal(err)
	}
	if out, code := run("--quiet", file); code != exitNotDone {
		t.Errorf("no store: exit code %d, %q", code, out)
	}
	if _, err := os.Stat(filepath.Join(root, ".berth")); err == nil {
		t.Error("the command has made a store")
	}
}
