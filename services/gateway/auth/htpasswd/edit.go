package htpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Set writes a user's hash into a file, whole: a program that reads the file at any
// time finds the old one or the new one. All else in the file stays as it is, and so
// do its mode, its owner, and the links that lead to it. With add the user must not
// be there yet, and the file need not; without it, the user must.
// Programs that do this at the same time wait for each other.
func Set(path, name, hash string, add bool) error {
	if err := CheckName(name); err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && add {
		real, err = path, nil
	}
	if err != nil {
		return fmt.Errorf("the password file: %w", err)
	}
	unlock, err := lock(filepath.Dir(real))
	if err != nil {
		return err
	}
	defer unlock()
	text, mode, owner, err := read(real, add)
	if err != nil {
		return err
	}
	users, err := Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, there := users.hashes[name]
	switch {
	case there && add:
		return fmt.Errorf("%s has a user %q already", path, name)
	case !there && !add:
		return fmt.Errorf("%s has no user %q", path, name)
	}
	text = withLine(text, name, hash)
	if _, err := Parse(text); err != nil { // it must never become one that is refused
		return fmt.Errorf("%s: %w", path, err)
	}
	return replace(real, text, mode, owner)
}

// lock waits until nobody else changes files in a directory by [Set].
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("the password file: %w", err)
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), d.Close())
	}
	return func() { _ = d.Close() }, nil // which ends the lock
}

func read(file string, add bool) (text []byte, mode fs.FileMode, owner *syscall.Stat_t, err error) {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) && add {
		return nil, 0o600, nil, nil
	}
	if err == nil && info.Size() > MaxFile {
		err = fmt.Errorf("%s is larger than %d bytes", file, MaxFile)
	}
	if err == nil {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, 0, nil, fmt.Errorf("reading the password file: %w", err)
	}
	owner, _ = info.Sys().(*syscall.Stat_t)
	return text, info.Mode().Perm(), owner, nil
}

// withLine returns the text with the user's line in the place of the old one, or at
// the end.
func withLine(text []byte, name, hash string) []byte {
	line := []byte(name + ":" + hash + "\n")
	var out []byte
	done := false
	for old := range bytes.Lines(text) {
		if user, _, ok := strings.Cut(strings.TrimSpace(string(old)), ":"); ok && user == name {
			out, done = append(out, line...), true
			continue
		}
		out = append(out, old...)
	}
	if done {
		return out
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, line...)
}

// replace writes a file beside the old one, to the disk, and renames it.
func replace(file string, text []byte, mode fs.FileMode, owner *syscall.Stat_t) (err error) {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, "."+filepath.Base(file)+"-*")
	if err != nil {
		return fmt.Errorf("writing the password file: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the password file: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(text)
	if err == nil && owner != nil && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		err = f.Chown(int(owner.Uid), int(owner.Gid))
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil // the file is there
	}
	defer d.Close()
	_ = d.Sync() // of the name only: a crash leaves the old file or the new one
	return nil
}
