package metadata_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/stall"
	"github.com/berth-registry/berth/services/metadata"
)

// TestG8StalledDatabase: a catalog whose database is one file is not ready while a
// transaction does not end, reads go on, and it is ready again when it has ended.
func TestG8StalledDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openStore(t, onSQLite(t), metadata.Options{}, nil)
		written := make(chan error, 1)
		go func() {
			written <- s.db.Write(t.Context(), func(*sqldb.Tx) error {
				time.Sleep(30 * time.Second)
				return nil
			})
		}()
		for since := time.Duration(0); since < 30*time.Second; since += time.Second {
			_, err := s.Check(t.Context())
			if ready := since < stall.After; (err == nil) != ready || err != nil && !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("after %v: %v, want that it is ready: %v", since, err, ready)
			}
			if _, err := s.Manifest(t.Context(), alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "none"}}); !errors.Is(err, registry.ErrNameUnknown) {
				t.Errorf("after %v: reading: %v", since, err)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if err := <-written; err != nil {
			t.Error(err)
		}
		if _, err := s.Check(t.Context()); err != nil {
			t.Errorf("when it has ended: %v", err)
		}
	})
}
