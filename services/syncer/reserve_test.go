package syncer_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/syncer"
)

// TestReserveIsForClients: a client that asks for a blob at the moment in which a
// scheduled copy of it is given up, because it would need bytes of the month that are
// left to clients, gets it.
func TestReserveIsForClients(t *testing.T) {
	up := newHostile(t)
	layer := random(90_000)
	blob := registry.SHA256.FromBytes(layer)
	up.image(t, "a", "v1", layer)
	r := at(t, up.URL, syncer.Content{Prefix: "a"})
	r.Interval, r.Monthly = time.Hour, 100_000
	var w *world
	var once sync.Once
	opened, release := make(chan struct{}), make(chan struct{})
	up.set(func() {
		up.answer = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+string(blob)) {
				once.Do(func() { // nothing is noted until release: the end of this fetch
					<-opened
					locked := make(chan struct{})
					go w.db.Write(t.Context(), func(*sqldb.Tx) error {
						close(locked)
						<-release
						return nil
					})
					<-locked
				})
			}
			return false
		}
	})
	w = open(t, r)
	close(opened)
	waitFor(t, "the copy is given up", func() bool {
		rules, err := w.MirrorRules(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(rules[0].LastError, "for scheduled copies")
	})
	got := make(chan error, 1)
	go func() {
		c, err := w.Open(t.Context(), nobody, "a", blob, registry.Whole)
		if err == nil {
			var b []byte
			if b, err = drainBody(t, c); err == nil && !bytes.Equal(b, layer) {
				t.Errorf("%d bytes", len(b))
			}
		}
		got <- err
	}()
	w.fetches(t, "the client waits", func(fills []registry.Fill) bool {
		return len(fills) == 1 && fills[0].Priority == registry.PriorityClient
	})
	close(release)
	if err := <-got; err != nil {
		t.Errorf("a client is refused bytes that are left to it: %v", err)
	}
}
