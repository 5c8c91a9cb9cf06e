package config

import (
	"context"
	"os"
	"time"
)

// watchEvery is the time between two looks at the file. It is read when two in
// succession find the same: one that is half written may be valid, and open what the
// whole protects.
const watchEvery = time.Second

// Watch reloads the configuration when its file changes, until ctx ends: written in
// place, renamed over, or behind a symlink that is swapped, as in Kubernetes. It
// takes one to two seconds. On a nil Live, and without a file, it does nothing.
func (l *Live) Watch(ctx context.Context, path string) {
	if l == nil || path == "" {
		return
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	read, _ := os.Stat(path) // what the configuration came from, or nearly
	last := read
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, err := os.Stat(path)
		if err != nil {
			last = nil // between two files, perhaps
			continue
		}
		still := sameFile(now, last)
		last = now
		if !still || sameFile(now, read) {
			continue
		}
		read = now
		_ = l.Reload(ctx) // it has logged the error
	}
}

// sameFile reports whether a file was neither replaced nor written.
func sameFile(a, b os.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
