package e2e

import (
	_ "embed"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

//go:embed clients.txt
var clientList string

// Client returns the path of a client that install.sh built at its pinned version.
func Client(t testing.TB, name string) string {
	t.Helper()
	cache := os.Getenv("BERTH_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache", "berth")
	}
	path := filepath.Join(cache, "clients", name+"-"+ClientVersion(t, name), name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("client %s is not installed (run `make clients-install`): %v", name, err)
	}
	return path
}

// ClientVersion returns the version that clients.txt pins.
func ClientVersion(t testing.TB, name string) string {
	t.Helper()
	for line := range strings.Lines(clientList) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == name {
			return f[1]
		}
	}
	t.Fatalf("clients.txt has no %s", name)
	return ""
}

// Commands runs clients with an environment of their own, so that no
// configuration or credential of the user who runs the tests is seen.
type Commands struct {
	dir  string   // working directory
	home string   // HOME
	env  []string // the whole environment
}

// NewCommands makes a home directory for clients that goes away with t.
func NewCommands(t testing.TB, env ...string) *Commands {
	t.Helper()
	dir := t.TempDir()
	return &Commands{dir: dir, home: dir, env: append([]string{
		"PATH=/usr/bin:/usr/sbin:/bin:/sbin",
		"HOME=" + dir,
		"TMPDIR=" + os.TempDir(),
	}, env...)}
}

// Run runs a command and returns its standard output without space at the
// ends. It fails t, with all output, when the command fails.
func (c *Commands) Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	stdout, stderr, err := c.Try(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, stdout, stderr)
	}
	return strings.TrimSpace(stdout)
}

// Try runs a command and returns what it wrote.
func (c *Commands) Try(name string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = c.dir, c.env
	var out, diag strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &diag
	err = cmd.Run()
	return out.String(), diag.String(), err
}
