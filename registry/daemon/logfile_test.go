package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLogRotationLosesNothing renames the file away while lines are written, as
// logrotate does, with and without a call of Reopen after it.
func TestLogRotationLosesNothing(t *testing.T) {
	for _, told := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			const writers, lines, rotations = 4, 1500, 5
			dir := t.TempDir()
			path := filepath.Join(dir, "log")
			l, err := OpenLogFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var all sync.WaitGroup
			for w := range writers {
				all.Go(func() {
					for i := range lines {
						if _, err := fmt.Fprintf(l, "%d/%d\n", w, i); err != nil {
							t.Error(err)
						}
						time.Sleep(10 * time.Millisecond) // fake: this is a bubble
					}
				})
			}
			for i := range rotations {
				time.Sleep(900 * time.Millisecond)
				if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
					t.Error(err)
				}
				if told {
					if err := l.Reopen(); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(recheckLog / 2)
				if !told {
					time.Sleep(recheckLog)
				}
			}
			all.Wait()
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			seen := map[string]int{}
			files, _ := filepath.Glob(path + "*")
			for _, f := range files {
				b, err := os.ReadFile(f)
				if err != nil {
					t.Fatal(err)
				}
				for line := range bytes.Lines(b) {
					seen[string(line)]++
				}
			}
			if len(seen) != writers*lines || len(files) != rotations+1 {
				t.Errorf("told %v: %d different lines of %d in %d files", told, len(seen), writers*lines, len(files))
			}
		})
	}
}

func TestSetLevel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, err := NewLogger(LogOptions{Level: "warn", Output: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	log := l.With("part", "x")
	log.Info("one")
	if err := l.SetLevel("info"); err != nil {
		t.Fatal(err)
	}
	log.Info("two")
	if err := l.SetLevel("loud"); err == nil {
		t.Error("loud is a level")
	}
	b, _ := os.ReadFile(path)
	if bytes.Contains(b, []byte("one")) || !bytes.Contains(b, []byte("two")) {
		t.Errorf("logged %s", b)
	}
	info, _ := os.Stat(path)
	if info.Mode().Perm() != logMode {
		t.Errorf("mode %o", info.Mode().Perm())
	}
}
