package metadata_test

import (
	"fmt"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

// Quotas count right what is taken over while somebody pushes the same manifests to
// another repository.
func TestQuotaOfATakeover(t *testing.T) { onEach(t, testQuotaOfATakeover) }

func testQuotaOfATakeover(t *testing.T, at newPlace) {
	k := newKeeper(t, at(t), metadata.Options{AllowSparse: true, Limits: quota(t, 1<<30, "**")})
	l := &layouts{Blobs: k.blobs, repo: "a", files: make(map[registry.Digest][]byte), left: -1}
	tags := make(map[registry.Tag]registry.ManifestPut)
	var all []registry.ManifestPut
	for i := range 200 {
		m := l.image(fmt.Sprint(i))
		m.Tags = []registry.Tag{registry.Tag(fmt.Sprintf("v%03d", i))}
		tags[m.Tags[0]] = m
		all = append(all, m)
	}
	l.list(t, tags)
	done := make(chan error)
	for n := range 2 {
		go func() {
			for i := range all {
				m := all[i]
				if n == 1 {
					m = all[len(all)-1-i]
				}
				if _, err := k.PutManifest(t.Context(), alice, "b", m); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	if err := adopt(t, k, l); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	counted(t, k.store)
}
