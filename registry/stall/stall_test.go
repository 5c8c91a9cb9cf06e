package stall_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry/stall"
)

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w stall.Watch
		want := func(d time.Duration) {
			t.Helper()
			if got := w.Oldest(); got != d {
				t.Errorf("the oldest call has taken %v, want %v", got, d)
			}
		}
		want(0)
		first := w.Begin()
		time.Sleep(3 * time.Second)
		second := w.Begin()
		time.Sleep(time.Second)
		want(4 * time.Second)
		w.End(first)
		want(time.Second)
		w.End(first) // twice is no harm
		w.End(second)
		want(0)
	})
}

func TestNoWatch(t *testing.T) {
	var w *stall.Watch
	w.End(w.Begin())
	if got := w.Oldest(); got != 0 {
		t.Errorf("nothing is watched, and the oldest call has taken %v", got)
	}
}
