package faults

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/retention"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

// oldSchema is the last version of the schema without garbage collection, pull
// statistics, scrub and quotas.
const oldSchema = 4

// oldImage is what is in a store of the old schema: an index of nothing.
func oldImage() (registry.Tag, registry.ManifestPut) {
	b := []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[]}`)
	return "v1", registry.ManifestPut{Digest: registry.SHA256.FromBytes(b), MediaType: registry.TypeIndex, Bytes: b}
}

func fileExists(t *testing.T, name string) bool {
	t.Helper()
	_, err := os.Stat(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// oldStore returns the directory of a store of the old schema: what opens it has to
// migrate it while the disk fails. A file "old" tells.
func oldStore(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	db, err := sqlite.Open(t.Context(), root, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	if err := db.MigrateTo(t.Context(), os.DirFS(".."), "migrations", oldSchema); err != nil {
		t.Fatal(err)
	}
	tag, m := oldImage()
	_, hash, _ := strings.Cut(string(m.Digest), ":")
	packed := append([]byte{1}, unhex(t, hash)...)
	err = db.Write(t.Context(), func(tx *sqldb.Tx) error {
		for _, s := range []struct {
			text string
			args []any
		}{
			{`INSERT INTO repositories (name, id, created) VALUES ('old', 1, 0)`, nil},
			{`INSERT INTO manifests (repo_id, digest, media_type, size, pushed, artifact_type, payload) VALUES (1, $1, $2, $3, 0, '', $4)`, []any{packed, m.MediaType, len(m.Bytes), m.Bytes}},
			{`INSERT INTO tags (repo_id, name, digest) VALUES (1, $1, $2)`, []any{string(tag), packed}},
			{`INSERT INTO tag_history (repo_id, name, number, at, actor, digest) VALUES (1, $1, 1, 0, '', $2)`, []any{string(tag), packed}},
		} {
			if _, err := tx.Exec(s.text, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, ".berth")
	removeTraces(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// policies keep the tag "keep" of a repository.
func policies(t *testing.T) *retention.Policies {
	t.Helper()
	cfg, _, err := config.Parse("x.json", []byte(`{"storage":{"rootDirectory":"/x","retention":{"policies":[
		{"repositories":["ret"],"keepTags":[{"patterns":["^keep$"]}]}]}}}`), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	p, err := retention.Compile(cfg.Storage.Retention, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
