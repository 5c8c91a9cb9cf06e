package syncer

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestReadersAreWokenTogether: readers of bytes that come in small pieces hear of them
// now and then, of the first at once and of the last soon; much at once is not kept back.
func TestReadersAreWokenTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const readers, pieces = 100, 1000
		f := &fill{changed: make(chan struct{}), refs: readers + 1}
		time.Sleep(time.Hour)
		look := func() (have int64, changed chan struct{}) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.have, f.changed
		}
		_, first := look()
		f.grow(1, time.Now())
		select {
		case <-first:
		default:
			t.Error("readers do not hear of the first byte at once")
		}
		woken, seen := 0, make(chan int64)
		go func() {
			for {
				have, changed := look()
				if have == pieces {
					seen <- have
					return
				}
				<-changed
				woken++
			}
		}()
		for range pieces - 1 {
			time.Sleep(100 * time.Microsecond)
			f.grow(1, time.Now())
		}
		begin := time.Now()
		<-seen
		if late := time.Since(begin); late > gatherMost {
			t.Errorf("readers hear of the last piece after %v", late)
		}
		if most := int(pieces*100*time.Microsecond/(readers*gatherEach)) + 2; woken > most {
			t.Errorf("woken %d times for %d pieces, at most %d are needed", woken, pieces, most)
		}
		_, changed := look()
		f.grow(gatherBytes, time.Now())
		select {
		case <-changed:
		default:
			t.Error("readers do not hear of much at once")
		}
	})
}
