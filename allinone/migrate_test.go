package allinone

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
)

// storeFile writes a config file for a store at root.
func storeFile(t *testing.T, storage map[string]any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	b, err := json.Marshal(map[string]any{"storage": storage})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func runMigrate(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := Program("berth", "v0", "", localParts()).Run(t.Context(), append([]string{"migrate"}, args...), &out)
	return out.String(), err
}

// TestMigrate moves a store between directories. Engines differ only in the
// drivers; the end-to-end suite has the others.
func TestMigrate(t *testing.T) {
	old, new := t.TempDir(), t.TempDir()
	fillStore(t, old)
	from, to := storeFile(t, map[string]any{"rootDirectory": old}), storeFile(t, map[string]any{"rootDirectory": new})
	out, err := runMigrate(t, "--from", from, "--to", to)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "2 of 2 blobs") || !strings.Contains(out, "done") {
		t.Errorf("it says\n%s", out)
	}
	for _, root := range []string{old, new} {
		if out, err := runFsck(t, root, "--read-data"); err != nil {
			t.Errorf("fsck of %s: %v\n%s", root, err, out)
		}
	}
	if _, err := runMigrate(t, "--from", from, "--to", to); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("again: got %v, want an error that the target is not empty", err)
	}
}

func TestMigrateStopsAtDamage(t *testing.T) {
	old, new := t.TempDir(), t.TempDir()
	fillStore(t, old)
	flip(t, largestBlob(t, old))
	from, to := storeFile(t, map[string]any{"rootDirectory": old}), storeFile(t, map[string]any{"rootDirectory": new})
	out, err := runMigrate(t, "--from", from, "--to", to)
	if err == nil || !strings.Contains(out, "I5") {
		t.Fatalf("got %v and\n%s\nwant a finding", err, out)
	}
	// The target can't be served, but checked it is either.
	if _, err := runFsck(t, new); err == nil || !strings.Contains(err.Error(), "migrat") {
		t.Errorf("fsck of half a store: %v", err)
	}
	if out, err := runMigrate(t, "--from", from, "--to", to, "--keep-damaged"); err != nil {
		t.Errorf("with --keep-damaged: %v\n%s", err, out)
	}
}

func TestMigrateAbandon(t *testing.T) {
	old, new := t.TempDir(), t.TempDir()
	fillStore(t, old)
	flip(t, largestBlob(t, old))
	from, to := storeFile(t, map[string]any{"rootDirectory": old}), storeFile(t, map[string]any{"rootDirectory": new})
	args := []string{"--from", from, "--to", to}
	if _, err := runMigrate(t, args...); err == nil {
		t.Fatal("it moved a damaged blob")
	}
	// With another source or target it is another migration.
	for _, other := range [][]string{
		{"--from", storeFile(t, map[string]any{"rootDirectory": t.TempDir()}), "--to", to, "--abandon"},
		{"--from", storeFile(t, map[string]any{"rootDirectory": t.TempDir()}), "--to", to},
	} {
		if _, err := runMigrate(t, other...); err == nil || !strings.Contains(err.Error(), "belongs to an unfinished migration") {
			t.Errorf("migrate %q: %v, want an error that names the migration there is", other, err)
		}
	}
	if _, err := runMigrate(t, append(args, "--abandon")...); err != nil {
		t.Fatal(err)
	}
	if _, err := runMigrate(t, append(args, "--abandon")...); err == nil {
		t.Error("it abandoned a migration twice")
	}
	if out, err := runFsck(t, new); err != nil {
		t.Errorf("the empty target: %v\n%s", err, out)
	}
}

func TestMigrateRefuses(t *testing.T) {
	root := t.TempDir()
	fillStore(t, root)
	same := storeFile(t, map[string]any{"rootDirectory": root})
	pool := map[string]any{"/a": map[string]any{"rootDirectory": t.TempDir()}}
	for _, c := range []struct {
		name string
		args []string
		exit int
		says string
	}{
		{"no files", nil, cli.ExitUsage, "--from"},
		{"one store", []string{"--from", same, "--to", same}, -1, "same store"},
		{"a pool is missing", []string{"--from", storeFile(t, map[string]any{"rootDirectory": root, "subPaths": pool}), "--to", same}, -1, "/a"},
		{"a pool is new", []string{"--from", same, "--to", storeFile(t, map[string]any{"rootDirectory": root, "subPaths": pool})}, -1, "/a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := runMigrate(t, c.args...)
			if err == nil || exitCode(err) != c.exit || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v (exit code %d), want %q (%d)", err, exitCode(err), c.says, c.exit)
			}
		})
	}
}

// What is compared to know a migration again has no secrets, and does not change
// with a password.
func TestDescribeCatalog(t *testing.T) {
	for _, c := range []struct{ dsn, want string }{
		{"postgres://berth:secret@db:5432/berth?sslmode=disable", `postgres at db:5432/berth, search_path ""`},
		{"postgresql://berth:other@db:5432/berth", `postgres at db:5432/berth, search_path ""`},
		{"user=berth password=secret host=db dbname=berth", "postgres at dbname=berth host=db"},
	} {
		s := config.Storage{Metadata: config.Metadata{Driver: config.Postgres, DSN: config.Secret(c.dsn)}}
		got, err := describeCatalog(s)
		if err != nil || got != c.want {
			t.Errorf("got %q, %v, want %q", got, err, c.want)
		}
	}
}
