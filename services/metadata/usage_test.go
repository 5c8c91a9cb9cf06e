package metadata

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

// TestUsage counts more than one page of everything: 150 repositories, the n-th
// with a manifest of n bytes, and the first with 2,500 blobs of 1,000 bytes, too,
// which the second shares.
func TestUsage(t *testing.T) {
	db, err := sqlite.Open(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m := metrics.New()
	c, err := Open(t.Context(), db, nil, Options{Metrics: m}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	digest := func(n int) []byte { return binary.BigEndian.AppendUint64([]byte{1}, uint64(n)) }
	err = db.Write(t.Context(), func(tx *sqldb.Tx) error {
		exec := func(query string, args ...any) {
			if _, err := tx.Exec(query, args...); err != nil {
				t.Error(err)
			}
		}
		for n := 1; n <= 150; n++ {
			exec(sqlMakeRepo, fmt.Sprintf("r%03d", n), n, 0)
			exec(`INSERT INTO manifests (repo_id, digest, media_type, size, pushed, artifact_type, payload) VALUES ($1, $2, '', $3, 0, '', '')`, n, digest(n), n)
		}
		for n := range 2500 {
			pool := []string{"", "/fast"}[n%5/4]
			exec(`INSERT INTO blobs (pool, digest, size, locator, state, epoch, lease_until, created) VALUES ($1, $2, 1000, 'x', 0, 0, 0, 0)`, pool, digest(n))
			exec(`INSERT INTO links (repo_id, digest, pool) VALUES (1, $1, $2), (2, $1, $2)`, digest(n), pool)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	c.usage.share = 1 // without pauses
	if c.usage.read() == nil {
		<-c.usage.first
	}
	text := string(m.Text())
	for _, line := range []string{
		"zot_storage_bytes 2.511325e+06", // 2500 × 1000 + 1 + … + 150
		`zot_repo_storage_bytes{repo="r001"} 2.500001e+06`,
		`zot_repo_storage_bytes{repo="r002"} 2.500002e+06`,
		`zot_repo_storage_bytes{repo="r150"} 150`,
		`zot_repo_storage_bytes{repo="r053"} 53`,
		`zot_repo_storage_bytes{repo="_other"} 1375`, // 3 + … + 52
		`berth_blobs{pool="default"} 2000`,
		`berth_blob_bytes{pool="/fast"} 500000`,
		"berth_manifests 150",
		"berth_repositories 150",
		`berth_row_cache_lookups_total{cache="manifests",result="miss"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no %q", line)
		}
	}
	if n := strings.Count(text, "\nzot_repo_storage_bytes{"); n != usageRepos+1 {
		t.Errorf("%d repositories have series", n)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if last := c.usage.read(); last == nil || last.nRepos != 150 {
		t.Error("the figures are gone after the end")
	}
}
