package certs

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// recheck is how long files are believed not to have changed.
const recheck = time.Second

// follower keeps a value that is read from files.
type follower[T any] struct {
	what  string // for messages: "certificate"
	files []string
	// read reads the files, and says from when to when the value is good.
	read func() (T, validity, error)
	log  *slog.Logger

	mu      sync.Mutex // guards all below
	value   T
	valid   validity
	from    []os.FileInfo // of the files that value came from
	checked time.Time
	told    string    // the last failure that was logged
	warned  time.Time // when the end of validity was last logged
}

// start reads the files for the first time. An error names them.
func (f *follower[T]) start() error {
	now := time.Now()
	f.checked = now
	if err := f.load(); err != nil {
		return err
	}
	f.warn(now)
	return nil
}

// current returns the value to use now. It looks at the files if nobody has for
// a second, so that they are looked at only while somebody asks.
func (f *follower[T]) current() T {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.checked) >= recheck {
		f.checked = now
		f.follow()
		f.warn(now)
	}
	return f.value
}

// follow loads the files if they changed.
func (f *follower[T]) follow() {
	now, err := f.stat()
	if err == nil && same(now, f.from) {
		f.told = ""
		return
	}
	if err == nil {
		err = f.load()
	}
	switch {
	case err == nil:
		f.told = ""
		f.log.Info("using a new "+f.what, "file", f.files[0], "expires", f.valid.until)
	case err.Error() != f.told:
		f.told = err.Error()
		f.log.Error("the new "+f.what+" can't be used; going on with the old one", "error", f.told)
	}
}

// load reads the files. What they were is noted before, so that a change in
// between is seen the next time.
func (f *follower[T]) load() error {
	from, err := f.stat()
	if err != nil {
		return err
	}
	value, valid, err := f.read()
	if err != nil {
		return err
	}
	f.value, f.valid, f.from, f.warned = value, valid, from, time.Time{}
	return nil
}

func (f *follower[T]) stat() ([]os.FileInfo, error) {
	info := make([]os.FileInfo, len(f.files))
	for i, file := range f.files {
		var err error
		if info[i], err = os.Stat(file); err != nil {
			return nil, fmt.Errorf("looking at a file of the %s: %w", f.what, err)
		}
	}
	return info, nil
}

// warn logs that the value expires soon, or has expired.
func (f *follower[T]) warn(now time.Time) {
	message, every := f.valid.at(now)
	if message == "" || now.Sub(f.warned) < every {
		return
	}
	f.warned = now
	level := slog.LevelWarn
	if !now.Before(f.valid.until) {
		level = slog.LevelError
	}
	f.log.Log(context.Background(), level, f.what+" "+message, "file", strings.Join(f.files, ", "), "expires", f.valid.until)
}

// same reports whether no file was replaced or written.
func same(a, b []os.FileInfo) bool {
	for i := range a {
		if !os.SameFile(a[i], b[i]) || !a[i].ModTime().Equal(b[i].ModTime()) || a[i].Size() != b[i].Size() {
			return false
		}
	}
	return true
}

// validity is when a certificate, or a set of them, is good.
type validity struct{ since, until time.Time }

// ahead is the longest time before the end of validity at which it is logged. A
// certificate of a short life is mentioned in the last quarter of it, by when
// whatever renews it should have done so.
const ahead = 14 * 24 * time.Hour

// at returns what is to be said of v now, "" if nothing, and how often.
func (v validity) at(now time.Time) (message string, every time.Duration) {
	switch left := v.until.Sub(now); {
	case left <= 0:
		return "has expired", time.Hour
	case left < min(v.until.Sub(v.since)/4, ahead):
		return "expires soon", 12 * time.Hour
	}
	return "", 0
}
