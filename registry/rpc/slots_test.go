package rpc

import (
	"context"
	"errors"
	"io"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// TestOpenContentsAreLimited: readers that stall hold so many slots and no more;
// who comes next waits for a while, and is told to come again if none got free.
func TestOpenContentsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair()
		defer func() { p.stop() }()
		local := memory.NewBlobs()
		large, little := put(t, local, pattern(1<<20)), put(t, local, pattern(1000))
		b := p.blobs(t, local)
		b.slots = newSlots(5 * 2 * contentCost)
		var stalled []registry.Content
		for range 5 {
			c, err := b.Open(t.Context(), large, registry.Whole)
			if err != nil {
				t.Fatal(err)
			}
			stalled = append(stalled, c)
		}
		began := time.Now()
		_, err := b.Open(t.Context(), large, registry.Whole)
		wantErr(t, "one more", err, registry.ErrTooManyRequests)
		if took := time.Since(began); took != slotWait {
			t.Errorf("it waited for %v", took)
		}
		for _, cheap := range []struct {
			s registry.Stored
			r registry.Range
		}{{little, registry.Whole}, {large, registry.Range{Offset: 10, Length: 1000}}} {
			c, err := b.Open(t.Context(), cheap.s, cheap.r)
			if err != nil {
				t.Fatalf("a little one: %v", err)
			}
			if n, err := io.Copy(io.Discard, c); n != 1000 || err != nil {
				t.Errorf("a little one: %d bytes, %v", n, err)
			}
			c.Close()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Open(ctx, large, registry.Whole); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("an impatient one: %v", err)
		}

		time.AfterFunc(time.Second, func() { stalled[0].Close(); stalled[0].Close() })
		c, err := b.Open(t.Context(), large, registry.Whole)
		if err != nil {
			t.Fatalf("when one got free: %v", err)
		}
		if n, err := io.Copy(io.Discard, c); n != 1<<20 || err != nil {
			t.Errorf("when one got free: %d bytes, %v", n, err)
		}
		c.Close()
		for _, c := range stalled[1:] {
			c.Close()
		}
		// What can't be opened holds none.
		gone := large
		gone.Locator += "x"
		for range 10 {
			if _, err := b.Open(t.Context(), gone, registry.Whole); err == nil {
				t.Fatal("opened a blob that is not there")
			}
		}
		if n := len(b.slots); n != 0 {
			t.Errorf("%d slots are taken by nobody", n)
		}
	})
}

func TestSlotsByMemory(t *testing.T) {
	for limit, want := range map[int64]int{math.MaxInt64: 0, 0: 4, 60 << 20: 10, 1 << 50: maxStreams} {
		if got := cap(newSlots(limit)); got != want {
			t.Errorf("limit %d: %d slots, want %d", limit, got, want)
		}
	}
}
