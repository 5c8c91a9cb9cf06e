package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

func TestSessionsEndAfterADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBlobs()
		start := func() registry.Upload {
			u, err := b.Start(t.Context(), "", registry.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		idle, touched := start(), start()
		time.Sleep(23 * time.Hour)
		if _, err := b.Status(t.Context(), touched); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		start()
		if _, err := b.Status(t.Context(), idle); !errors.Is(err, registry.ErrUploadUnknown) {
			t.Errorf("a session nobody touched for a day: got error %v, want ErrUploadUnknown", err)
		}
		if _, err := b.Status(t.Context(), touched); err != nil {
			t.Errorf("a session that was touched: %v", err)
		}
	})
}
