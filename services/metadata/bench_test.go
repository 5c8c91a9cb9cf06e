package metadata_test

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata"
)

// withTags returns a store whose repository "a" has n tags on one manifest.
func withTags(b *testing.B, n int) (*store, []registry.ManifestPut) {
	b.Helper()
	s := openStore(b, onSQLite(b), metadata.Options{}, nil)
	all := numbered(b, s, "a", 2)
	for _, m := range all {
		put(b, s, "a", m)
	}
	for i := 0; i < n; i += registry.MaxTagsPerPut {
		m := all[0]
		m.Tags = nil
		for j := i; j < min(i+registry.MaxTagsPerPut, n); j++ {
			m.Tags = append(m.Tags, tagNumber(j))
		}
		put(b, s, "a", m)
	}
	return s, all
}

func BenchmarkTagPush(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("tags=%d", n), func(b *testing.B) {
			s, all := withTags(b, n)
			for i := 0; b.Loop(); i++ {
				m := all[i%2]
				m.Tags = []registry.Tag{tagNumber(i / 2 % n)}
				put(b, s, "a", m)
			}
		})
	}
}

func BenchmarkManifestByTag(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		s, _ := withTags(b, n)
		read := func(b *testing.B, t registry.Tag) {
			_, err := s.Manifest(b.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: t}})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("hot/tags=%d", n), func(b *testing.B) {
			for b.Loop() {
				read(b, tagNumber(5))
			}
		})
		b.Run(fmt.Sprintf("hot-parallel/tags=%d", n), func(b *testing.B) {
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					read(b, tagNumber(5))
				}
			})
		})
		b.Run(fmt.Sprintf("cold/tags=%d", n), func(b *testing.B) {
			// Without the cache: a conversation with the database each time.
			q := registry.ManifestQuery{Ref: registry.Reference{Tag: tagNumber(5)}}
			for b.Loop() {
				if _, err := metadata.ReadManifest(s.Catalog, b.Context(), "a", q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPutManifest pushes manifests of one config and three layers, durably.
func BenchmarkPutManifest(b *testing.B) {
	for _, writers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openStore(b, onSQLite(b), metadata.Options{}, nil)
			config := blob("config")
			layers := []registry.Stored{blob("1"), blob("2"), blob("3")}
			for _, l := range append(layers, config) {
				if _, err := s.Link(b.Context(), alice, "a", l); err != nil {
					b.Fatal(err)
				}
			}
			var n atomic.Int64
			parallel(b, writers, func() error {
				i := n.Add(1)
				m := imageWith(config, layers, fmt.Sprint(i))
				_, err := s.PutManifest(b.Context(), alice, "a", m)
				return err
			})
		})
	}
}

func imageWith(config registry.Stored, layers []registry.Stored, text string) registry.ManifestPut {
	var list []registry.Descriptor
	for _, l := range layers {
		list = append(list, descriptor("application/vnd.oci.image.layer.v1.tar+gzip", l))
	}
	return encode(registry.TypeManifest, map[string]any{
		"schemaVersion": 2,
		"config":        descriptor("application/vnd.oci.image.config.v1+json", config),
		"layers":        list,
		"annotations":   map[string]string{"text": text},
	}, []registry.Tag{registry.Tag("t" + text)})
}

// parallel calls f b.N times, from n goroutines.
func parallel(b *testing.B, n int, f func() error) {
	work := make(chan struct{})
	done := make(chan error, n)
	for range n {
		go func() {
			var failed error
			for range work {
				if err := f(); err != nil {
					failed = err
				}
			}
			done <- failed
		}()
	}
	b.ResetTimer()
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	for range n {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLink links a new blob, durably.
func BenchmarkLink(b *testing.B) {
	for _, writers := range []int{1, 8} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := openStore(b, onSQLite(b), metadata.Options{}, nil)
			var n atomic.Int64
			parallel(b, writers, func() error {
				_, err := s.Link(b.Context(), alice, "a", blob(fmt.Sprint(n.Add(1))))
				return err
			})
		})
	}
}

func BenchmarkBlob(b *testing.B) {
	s := openStore(b, onSQLite(b), metadata.Options{}, nil)
	x := blob("x")
	if _, err := s.Link(b.Context(), alice, "a", x); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Blob(b.Context(), alice, "a", x.Digest); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens a catalog that has 100,000 manifests in 1,000
// repositories, with an empty page cache.
func BenchmarkOpen(b *testing.B) {
	root := onSQLite(b)
	s := openStore(b, root, metadata.Options{}, nil)
	err := s.db.Write(b.Context(), func(tx *sqldb.Tx) error {
		for _, q := range []string{
			`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
				INSERT INTO repositories SELECT 'repository/' || i, i, 0 FROM n`,
			`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
				INSERT INTO manifests SELECT i % 1000 + 1, CAST(X'01' || randomblob(32) AS BLOB), 'text/plain', 500, 0, '', NULL, NULL, randomblob(500) FROM n`,
		} {
			if _, err := tx.Exec(q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	s.close(b)
	for b.Loop() {
		s := openStore(b, root, metadata.Options{}, nil)
		if _, err := s.Repositories(b.Context(), alice, registry.Page[registry.Name]{Limit: 100}); err != nil {
			b.Fatal(err)
		}
		s.close(b)
	}
}

// BenchmarkS003Mount prints what the answers take, in microseconds, to who asks to mount a
// blob that only others have, and one that nobody has. They are to be alike.
func BenchmarkS003Mount(b *testing.B) {
	all := []string{"read", "create", "update", "delete"}
	policy, err := access.Compile(&registry.AccessRules{Repositories: map[string]registry.RepositoryRules{
		"a/**": {Policies: []registry.AccessPolicy{{Users: []string{alice.ID}, Actions: all}}},
		"b/**": {Policies: []registry.AccessPolicy{{Users: []string{"bert"}, Actions: all}}},
	}}, nil)
	if err != nil {
		b.Fatal(err)
	}
	s := openStore(b, onSQLite(b), metadata.Options{Access: policy}, nil)
	secret, unknown := blob("secret"), blob("unknown")
	if _, err := s.Link(b.Context(), alice, "a/x", secret); err != nil {
		b.Fatal(err)
	}
	bert := registry.Actor{ID: "bert"}
	if _, err := s.Link(b.Context(), bert, "b/x", blob("own")); err != nil {
		b.Fatal(err)
	}
	digests := []registry.Digest{secret.Digest, unknown.Digest}
	took := make([][]time.Duration, len(digests))
	for b.Loop() {
		for i, d := range digests { // in turns, so that both meet the same machine
			began := time.Now()
			if _, err := s.Mount(b.Context(), bert, "b/x", d, ""); !errors.Is(err, registry.ErrBlobUnknown) {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(began))
		}
	}
	for i, name := range []string{"secret", "unknown"} {
		slices.Sort(took[i])
		b.ReportMetric(float64(took[i][len(took[i])/2].Nanoseconds())/1e3, name+"-median-µs")
	}
}
