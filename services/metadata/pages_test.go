package metadata_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

// TestG12DamagedPages damages the pages of a database that is not open, one at a time:
// it can't be opened, or can't be read, or fsck finds it, or nothing that users see is
// another than before. It is never taken for an empty one.
func TestG12DamagedPages(t *testing.T) {
	const page, stride = 4096, 4
	at := directory(t.TempDir())
	p := pushAll(t, at, metadata.Options{})
	p.close(t)
	whole, err := os.ReadFile(filepath.Join(string(at), ".berth", "metadata.db"))
	if err != nil || len(whole)%page != 0 || len(whole) < 20*page {
		t.Fatal(len(whole), err)
	}
	want, found, err := seen(t, whole, p.blobs)
	if err != nil || found > 0 {
		t.Fatalf("undamaged: %d findings, %v", found, err)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 12))
	refused, reported, unseen := 0, 0, 0
	for n := random.IntN(stride); n < len(whole)/page; n += stride {
		damaged := bytes.Clone(whole)
		for i := range 64 {
			damaged[n*page+random.IntN(page/64)+i*page/64] ^= byte(1 + random.IntN(255))
		}
		switch got, found, err := seen(t, damaged, p.blobs); {
		case err != nil:
			refused++
		case found > 0:
			reported++
		case got != want:
			t.Errorf("page %d of %d, seed %d: nothing was found, and users see\n%s\ninstead of\n%s", n, len(whole)/page, seed, got, want)
		default:
			unseen++
		}
	}
	t.Logf("%d pages, seed %d: %d times an error, %d times a finding, %d times nothing is changed", len(whole)/page, seed, refused, reported, unseen)
	if refused+reported == 0 {
		t.Error("the damage did not hit what it was meant for")
	}
}

// seen opens a database and returns what users see of repository "a/b", and how many
// findings fsck has.
func seen(t *testing.T, content []byte, blobs *memory.Blobs) (text string, found int, err error) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, ".berth"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, ".berth", "metadata.db"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := sqlite.Open(t.Context(), root, func(error) {})
	if err != nil {
		return "", 0, err
	}
	defer db.Close()
	c, err := metadata.Open(t.Context(), db, nil, metadata.Options{}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return "", 0, err
	}
	defer c.Close()
	tags, err := c.Tags(t.Context(), alice, "a/b", registry.Page[registry.Tag]{Limit: 100})
	if err != nil {
		return "", 0, err
	}
	for _, tag := range tags.Items {
		m, err := c.Manifest(t.Context(), alice, "a/b", registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
		if err != nil {
			return "", 0, err
		}
		text += fmt.Sprintf("%s %s %s\n", tag, m.Digest, m.Bytes)
	}
	for _, err := range c.Fsck(t.Context(), blobs, false) {
		if err != nil {
			return text, found, err
		}
		found++
	}
	return text, found, nil
}
