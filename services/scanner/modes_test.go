package scanner_test

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/services/scanner/vulndb"
)

// TestS137Modes: with any umask what the scanner keeps is for its owner only. It must not
// run in parallel with others: the umask is the process's.
func TestS137Modes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	s := newStore(t, onSQLite, nil)
	s.load(t, database(t))
	image := s.image(t, "app", "v1", layer(t, file("etc/os-release", debianRelease), file("var/lib/dpkg/status", openssl)))
	s.wait(t, "app", image.Digest)
	files := 0
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == s.dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if !e.IsDir() {
			files++
		}
		if perm := info.Mode().Perm(); perm&0o077 != 0 {
			t.Errorf("%s has mode %v", path, perm)
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("void: %d files, %v; want the vulnerability database, what is known of it, and results", files, err)
	}
}

// TestS137OthersMayWrite: a directory in which others could put a database of theirs is
// refused.
func TestS137OthersMayWrite(t *testing.T) {
	for mode, ok := range map[fs.FileMode]bool{0o700: true, 0o770: true, 0o702: false, 0o777: false} {
		dir := filepath.Join(t.TempDir(), "db")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		db, err := vulndb.Open(vulndb.Options{Dir: dir, Sources: []string{"auto"}, Log: slog.New(slog.DiscardHandler)})
		if (err == nil) != ok {
			t.Errorf("%v: %v", mode, err)
		}
		if err == nil {
			_ = db.Close()
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(t.TempDir(), link); err != nil {
		t.Fatal(err)
	}
	if err := vulndb.Private(link); err == nil {
		t.Error("a link is taken")
	}
}
