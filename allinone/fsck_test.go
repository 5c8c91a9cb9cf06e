package allinone

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// TestFsck damages a store in one way at a time. What each check finds in the
// rows is tested in services/metadata; here it is the command.
func TestFsck(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, blob string)
		flags  []string
		exit   int
		says   string
	}{
		{name: "all well", damage: func(*testing.T, string) {}, says: "all is well"},
		{name: "all well, deep", damage: func(*testing.T, string) {}, flags: []string{"--read-data"}, says: "all is well"},
		{name: "blob gone", damage: remove, exit: exitFindings, says: "I12"},
		{name: "blob shorter", damage: shorten, exit: exitFindings, says: "I12"},
		{name: "bit flipped, not looked for", damage: flip, says: "all is well"},
		{name: "bit flipped", damage: flip, flags: []string{"--read-data"}, exit: exitFindings, says: "I5"},
		{name: "bit flipped, in one of the parts", damage: flip, flags: []string{"--read-data-subset", "1/1"}, exit: exitFindings, says: "I5"},
		{name: "a part that is none", damage: flip, flags: []string{"--read-data-subset", "3/2"}, exit: cli.ExitUsage},
		{name: "all well, online", damage: func(*testing.T, string) {}, flags: []string{"--online", "--read-data"}, says: "all is well"},
		{name: "blob gone, online", damage: remove, flags: []string{"--online"}, exit: exitFindings, says: "I12"},
		{name: "bit flipped, online", damage: flip, flags: []string{"--online", "--read-data"}, exit: exitFindings, says: "I5"},
		{name: "as JSON", damage: remove, flags: []string{"--json"}, exit: exitFindings, says: `"invariant":"I12"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			fillStore(t, root)
			c.damage(t, largestBlob(t, root))
			out, err := runFsck(t, root, c.flags...)
			if got := exitCode(err); got != c.exit {
				t.Errorf("exit code %d, want %d: %v", got, c.exit, err)
			}
			if !strings.Contains(out, c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, out)
			}
		})
	}
}

func TestFsckCannotCheck(t *testing.T) {
	t.Run("no store", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "none")
		if _, err := runFsck(t, root); exitCode(err) != exitNotDone {
			t.Errorf("got %v, want exit code %d", err, exitNotDone)
		}
		if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
			t.Error("fsck made a store")
		}
	})
	t.Run("in use", func(t *testing.T) {
		cfg := config.Defaults()
		cfg.Storage.RootDirectory = t.TempDir()
		blobs, err := localParts().Blobs(t.Context(), cfg, daemon.Process{Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		defer blobs.Close()
		if _, err := runFsck(t, cfg.Storage.RootDirectory); exitCode(err) != exitNotDone {
			t.Errorf("got %v, want exit code %d", err, exitNotDone)
		}
	})
}

// fillStore pushes an image and leaves an unfinished upload.
func fillStore(t *testing.T, root string) {
	t.Helper()
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = root
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	parts := localParts()
	blobs, err := parts.Blobs(t.Context(), cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	catalog, err := parts.Catalog(t.Context(), cfg, blobs, func(error) {}, p)
	if err != nil {
		t.Fatal(err)
	}
	defer catalog.Close()
	url := serve(t, blobs, catalog, func(l net.Listener) net.Listener { return l })

	config, layer := []byte("{}"), bytes.Repeat([]byte("layer"), 1000)
	push(t, url+"/v2/a", config)
	push(t, url+"/v2/a", layer)
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[{"mediaType":"a/b","digest":%q,"size":%d}]}`,
		digest.FromBytes(config), digest.FromBytes(layer), len(layer))
	if resp := send(t, http.MethodPut, url+"/v2/a/manifests/t", manifest, registry.TypeManifest); resp.StatusCode != http.StatusCreated {
		t.Fatalf("pushing a manifest: %s", resp.Status)
	}
	resp := send(t, http.MethodPost, url+"/v2/a/blobs/uploads/", nil, "")
	send(t, http.MethodPatch, url+resp.Header.Get("Location"), []byte("unfinished"), "")
}

func runFsck(t *testing.T, root string, flags ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	b, err := json.Marshal(map[string]any{"storage": map[string]any{"rootDirectory": root}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = Program("berth", "v0", "", localParts()).Run(t.Context(), append(append([]string{"fsck"}, flags...), file), &out)
	return out.String(), err
}

func exitCode(err error) int {
	var exit daemon.Exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.Code
	}
	return -1
}

// largestBlob returns the file of the image's layer.
func largestBlob(t *testing.T, root string) string {
	t.Helper()
	var name string
	var size int64
	err := filepath.WalkDir(filepath.Join(root, ".berth", "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			name, size = path, info.Size()
		}
		return err
	})
	if err != nil || name == "" {
		t.Fatalf("no blob in the store: %v", err)
	}
	return name
}

func remove(t *testing.T, name string) {
	t.Helper()
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
}

func shorten(t *testing.T, name string) {
	t.Helper()
	if err := os.Truncate(name, 10); err != nil {
		t.Fatal(err)
	}
}

func flip(t *testing.T, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte{0xff}, 7); err != nil {
		t.Fatal(err)
	}
}
