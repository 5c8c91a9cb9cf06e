package htpasswd

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// line returns a user's line. The hash is that of "pw1".
func line(name string) string {
	return name + ":$5$abcdefgh$039Hv/0gWTexVhFwOZ16ap1QTskv.omwfoTWcF1l/O9\n"
}

// followed is a follower of a file, with a clock of its own.
type followed struct {
	*Follower
	file string
	at   time.Time
	out  bytes.Buffer
}

func follow(t *testing.T, file, text string) *followed {
	t.Helper()
	put(t, file, text)
	f := &followed{file: file, at: time.Now()}
	var err error
	if f.Follower, err = Follow(file, slog.New(slog.NewTextHandler(&f.out, nil))); err != nil {
		t.Fatal(err)
	}
	f.now = func() time.Time { return f.at }
	return f
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// after lets time pass while somebody asks, and returns the users.
func (f *followed) after(d time.Duration) string {
	for end := f.at.Add(d); f.at.Before(end); {
		f.at = f.at.Add(100 * time.Millisecond)
		f.Current()
	}
	names := f.Current().Names()
	for _, n := range []string{"alice", "bob", ""} {
		if f.Current().Has(n) != slices.Contains(names, n) {
			panic("Has and Names differ")
		}
	}
	return strings.Join(names, " ")
}

// TestS059RemovedUsersAreGoneSoon changes the file in every way there is.
func TestS059RemovedUsersAreGoneSoon(t *testing.T) {
	const within = 5 * time.Second
	for name, change := range map[string]func(t *testing.T, dir string){
		"written in place": func(t *testing.T, dir string) { put(t, filepath.Join(dir, "real", "htpasswd"), line("bob")) },
		"renamed over": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "real", "new"), line("bob"))
			os.Rename(filepath.Join(dir, "real", "new"), filepath.Join(dir, "real", "htpasswd"))
		},
		"a link that is swapped": func(t *testing.T, dir string) {
			os.Mkdir(filepath.Join(dir, "next"), 0o700)
			put(t, filepath.Join(dir, "next", "htpasswd"), line("bob"))
			if err := os.Symlink("next", filepath.Join(dir, "..tmp")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		},
		"by our own command": func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "htpasswd"), "")
			if err := Set(filepath.Join(dir, "htpasswd"), "bob", strings.TrimSpace(strings.TrimPrefix(line("bob"), "bob:")), true); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			// As Kubernetes mounts it: htpasswd -> ..data/htpasswd, ..data -> real.
			os.Mkdir(filepath.Join(dir, "real"), 0o700)
			os.Symlink("real", filepath.Join(dir, "..data"))
			os.Symlink("..data/htpasswd", filepath.Join(dir, "htpasswd"))
			f := follow(t, filepath.Join(dir, "htpasswd"), line("alice")+line("bob"))
			generation := f.Current().Generation()
			change(t, dir)
			f.at = time.Now()
			if got := f.after(within); got != "bob" {
				t.Errorf("%v later the users are %s", within, got)
			}
			if f.Current().Generation() == generation {
				t.Error("the generation is the old one")
			}
			if n := strings.Count(f.out.String(), "using a new password file"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, f.out.String())
			}
		})
	}
}

// TestS059HalfWrittenFilesNeverCount writes a file in steps, some of which are right
// by themselves.
func TestS059HalfWrittenFilesNeverCount(t *testing.T) {
	f := follow(t, filepath.Join(t.TempDir(), "htpasswd"), line("alice"))
	whole := line("bob") + line("carol") + line("dave")
	w, err := os.OpenFile(f.file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for i := 0; i < len(whole); i += 20 {
		f.at = time.Now() // as the file's own time
		if got := f.after(500 * time.Millisecond); got != "alice" {
			t.Fatalf("with %d of %d bytes the users are %s", i, len(whole), got)
		}
		w.WriteString(whole[i:min(i+20, len(whole))])
	}
	f.at = time.Now()
	if got := f.after(3 * time.Second); got != "bob carol dave" {
		t.Errorf("at last the users are %s", got)
	}
}

// TestFilesThatCantBeUsedLeaveTheUsers, and are told of once.
func TestFilesThatCantBeUsedLeaveTheUsers(t *testing.T) {
	for name, change := range map[string]func(file string){
		"gone":      func(file string) { os.Remove(file) },
		"empty":     func(file string) { os.Truncate(file, 0) },
		"wrong":     func(file string) { os.WriteFile(file, []byte(line("bob")+"x"), 0o600) },
		"cut off":   func(file string) { os.WriteFile(file, []byte(line("bob")+line("carol")[:40]), 0o600) },
		"directory": func(file string) { os.Remove(file); os.Mkdir(file, 0o700) },
	} {
		f := follow(t, filepath.Join(t.TempDir(), "htpasswd"), line("alice"))
		change(f.file)
		f.at = time.Now()
		if got := f.after(5 * time.Second); got != "alice" {
			t.Errorf("%s: the users are %s", name, got)
		}
		if n := strings.Count(f.out.String(), "level=ERROR"); n != 1 {
			t.Errorf("%s: %d errors logged:\n%s", name, n, f.out.String())
		}
		os.RemoveAll(f.file)
		put(t, f.file, "# nobody\n")
		if got := f.after(3 * time.Second); got != "" {
			t.Errorf("%s: then the users are %s", name, got)
		}
	}
	for name, text := range map[string]string{"wrong": "x", "too large": strings.Repeat("#\n", MaxFile/2+1)} {
		file := filepath.Join(t.TempDir(), "htpasswd")
		put(t, file, text)
		if _, err := Follow(file, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s at the start: %v", name, err)
		}
	}
	if _, err := Follow(filepath.Join(t.TempDir(), "none"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that is not there is followed")
	}
}
