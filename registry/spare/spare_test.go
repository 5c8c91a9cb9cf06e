package spare_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry/spare"
)

func TestMeter(t *testing.T) {
	const reserve, gib = 64 << 20, 1 << 30
	failed := errors.New("no such directory")
	tests := map[string]struct {
		free  int64
		err   error
		after time.Duration // between two questions
		asked int
	}{
		"plenty":                {free: 2 * gib, after: 10 * time.Millisecond, asked: 1},
		"plenty, long ago":      {free: 2 * gib, after: time.Second, asked: 2},
		"little":                {free: reserve + gib - 1, asked: 2},
		"just enough":           {free: reserve + gib, asked: 1},
		"less than is reserved": {free: reserve - 1, asked: 2},
		"an error":              {err: failed, asked: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				m := spare.NewMeter(func() (int64, error) { asked++; return tt.free, tt.err })
				for range 2 {
					if free, err := m.Free(reserve); free != tt.free || !errors.Is(err, tt.err) {
						t.Errorf("Free = %d, %v; want %d, %v", free, err, tt.free, tt.err)
					}
					time.Sleep(tt.after)
				}
				if asked != tt.asked {
					t.Errorf("asked %d times, want %d", asked, tt.asked)
				}
			})
		})
	}
}

// TestMeterNoticesLittle lets storage fill up while the answer is remembered, and
// asks for more than is left then: the next answer that is asked for is true.
func TestMeterNoticesLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := int64(4 << 30)
		m := spare.NewMeter(func() (int64, error) { return left, nil })
		if _, err := m.Free(0); err != nil {
			t.Fatal(err)
		}
		left = 100
		time.Sleep(50 * time.Millisecond)
		for _, want := range []int64{100, 90, 5 << 30} {
			left = want
			if free, err := m.Free(0); free != want || err != nil {
				t.Errorf("Free = %d, %v; want %d", free, err, want)
			}
		}
	})
}
