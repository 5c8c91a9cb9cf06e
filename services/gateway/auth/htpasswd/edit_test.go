package htpasswd

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSetChangesOneLine(t *testing.T) {
	const before = "# ours\r\n\nalice:$5$abcdefgh$039Hv/0gWTexVhFwOZ16ap1QTskv.omwfoTWcF1l/O9\nbob:$5$abcdefgh$039Hv/0gWTexVhFwOZ16ap1QTskv.omwfoTWcF1l/O9"
	const other = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"
	for _, test := range []struct {
		name      string
		add       bool
		want, err string
	}{
		{"alice", false, strings.Replace(before, "$5$abcdefgh$039Hv/0gWTexVhFwOZ16ap1QTskv.omwfoTWcF1l/O9", other, 1), ""},
		{"carol", true, before + "\ncarol:" + other + "\n", ""},
		{"alice", true, before, "already"},
		{"carol", false, before, "has no user"},
		{"a:b", true, before, "no colon"},
		{"#a", true, before, "begins with no #"},
		{"a\n", true, before, "space"},
	} {
		dir := t.TempDir()
		real, file := filepath.Join(dir, "real"), filepath.Join(dir, "link")
		put(t, real, before)
		os.Chmod(real, 0o640)
		if err := os.Symlink("real", file); err != nil {
			t.Fatal(err)
		}
		err := Set(file, test.name, other, test.add)
		if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%q: got %v, want %q", test.name, err, test.err)
		}
		got, _ := os.ReadFile(real)
		if diff := cmp.Diff(test.want, string(got)); diff != "" {
			t.Errorf("%q: (-want +got)\n%s", test.name, diff)
		}
		if info, err := os.Lstat(real); err != nil || info.Mode() != 0o640 {
			t.Errorf("%q: %v, %v", test.name, info.Mode(), err)
		}
		if info, _ := os.Lstat(file); info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%q: the link is gone", test.name)
		}
		if left, _ := os.ReadDir(dir); len(left) != 2 {
			t.Errorf("%q: left behind: %v", test.name, left)
		}
	}
}

// TestSetAtTheSameTime: nobody's user is lost, and every state of the file is whole.
func TestSetAtTheSameTime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	const n = 20
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := Set(file, fmt.Sprintf("user%d", i), vectors[0].hash, true); err != nil {
				t.Error(err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
			}
			if _, err := Parse(text); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	users, info, err := load(file)
	if err != nil || len(users.Names()) != n || info.Mode() != 0o600 {
		t.Errorf("%d users, %v, %v", len(users.Names()), info.Mode(), err)
	}
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	file, cfg := filepath.Join(dir, "htpasswd"), filepath.Join(dir, "config.json")
	put(t, cfg, `{"storage":{"rootDirectory":"/x"},"http":{"auth":{"htpasswd":{"path":"`+file+`"}}}}`)
	run := func(command, stdin string, args ...string) (string, error) {
		in := filepath.Join(dir, "in")
		put(t, in, stdin)
		f, err := os.Open(in)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var out bytes.Buffer
		flags := flag.NewFlagSet("user "+command, flag.ContinueOnError)
		switch command {
		case "list":
			err = list(flags, args, &out)
		default:
			err = set(flags, args, f, &out, command == "add")
		}
		return out.String(), err
	}
	for _, step := range []struct{ command, stdin, args, want, err string }{
		{"add", "sesame\n", "--cost 4 " + cfg + " alice", "added alice", ""},
		{"add", "sesame", "--cost 4 --htpasswd " + file + " bob", "added bob", ""},
		{"add", "sesame", cfg + " alice", "", "already"},
		{"passwd", "open\r\n", "--cost 4 " + cfg + " alice", "changed the password of alice", ""},
		{"passwd", "x", cfg + " carol", "", "has no user"},
		{"passwd", "", cfg + " alice", "", "empty"},
		{"passwd", strings.Repeat("x", 73), cfg + " alice", "", "72 bytes"},
		{"passwd", "x", "--cost 15 " + cfg + " alice", "", "at most 14"},
		{"add", "x", cfg, "", "arguments are needed"},
		{"list", "", cfg, "alice\tbcrypt, cost 4\nbob\tbcrypt, cost 4\n", ""},
		{"list", "", "--htpasswd " + file, "alice\tbcrypt, cost 4\nbob\tbcrypt, cost 4\n", ""},
	} {
		got, err := run(step.command, step.stdin, strings.Fields(step.args)...)
		if (err == nil) != (step.err == "") || err != nil && !strings.Contains(err.Error(), step.err) || !strings.HasPrefix(got, step.want) {
			t.Errorf("%s %s: got %q, %v", step.command, step.args, got, err)
		}
	}
	users, _, err := load(file)
	if err != nil || !users.Verify("alice", "open") || users.Verify("alice", "sesame") || !users.Verify("bob", "sesame") {
		t.Errorf("the passwords are not those given: %v", err)
	}
}
