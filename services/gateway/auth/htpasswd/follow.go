package htpasswd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	// recheck is how long a file is believed not to have changed.
	recheck = time.Second
	// settle is how long a changed file must have been left alone before it counts:
	// what an editor or a copy is still writing is cut off somewhere.
	settle = time.Second
)

// Follower keeps the users of a file that may change: by being written in place,
// renamed over, or as a symlink that is swapped, as Kubernetes does. It looks at
// the file while somebody asks, at most once a second. A change counts when the
// file has been left alone for a second. A file that is wrong, gone or empty
// leaves the users as they were, and is logged once; to let nobody in, leave a
// line with a comment. It may be used by many goroutines.
type Follower struct {
	path string
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex // guards all below
	users   *Users
	from    os.FileInfo // of the file that users came from
	seen    os.FileInfo // as last seen, if it differs from from
	since   time.Time   // when it was first seen like that
	checked time.Time
	told    string // the last failure that was logged
}

// Follow reads a file for the first time. An error names it.
func Follow(path string, log *slog.Logger) (*Follower, error) {
	f := &Follower{path: path, log: log, now: time.Now}
	users, info, err := load(path)
	if err != nil {
		return nil, err
	}
	f.users, f.from, f.checked = users, info, f.now()
	if n := len(users.hashes); n == 0 {
		log.Warn("the password file has no user: nobody can log in by it", "file", path)
	} else {
		log.Info("using a password file", "file", path, "users", n)
	}
	return f, nil
}

// Current returns the users as they are now.
func (f *Follower) Current() *Users {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := f.now(); now.Sub(f.checked) >= recheck {
		f.checked = now
		if err := f.follow(now); err == nil {
			f.told = ""
		} else if err.Error() != f.told {
			f.told = err.Error()
			f.log.Error("the new password file can't be used; going on with the old one", "error", f.told)
		}
	}
	return f.users
}

func (f *Follower) follow(now time.Time) error {
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("looking at the password file: %w", err)
	}
	if same(info, f.from) {
		f.seen = nil
		return nil
	}
	if f.seen == nil || !same(info, f.seen) {
		f.seen, f.since = info, now
	}
	if age := now.Sub(info.ModTime()); age < settle && now.Sub(f.since) < settle {
		return nil
	}
	users, info, err := load(f.path)
	switch {
	case err != nil:
		return err
	case info.Size() == 0:
		return fmt.Errorf("%s is empty", f.path)
	case !same(info, f.seen):
		return nil // it changed while it was read
	}
	f.users, f.from, f.seen = users, info, nil
	f.log.Info("using a new password file", "file", f.path, "users", len(users.hashes))
	return nil
}

// load reads the file. The info is from before and after.
func load(path string) (*Users, os.FileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the password file: %w", err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("reading the password file: %w", err)
	}
	if !before.Mode().IsRegular() {
		return nil, nil, fmt.Errorf("reading the password file: %s is not a file", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the password file: %w", err)
	}
	after, err := f.Stat()
	if err == nil && !same(before, after) {
		err = errors.New("it changes while it is read")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading the password file %s: %w", path, err)
	}
	users, err := Parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("password file %s: %w", path, err)
	}
	return users, after, nil
}

// same reports whether a file was neither replaced nor written.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
