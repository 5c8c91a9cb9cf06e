//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// An engine is an isolated Docker engine with the images of deploy/Dockerfile
// in it, all of version "test".
type engine struct {
	*Commands          // with DOCKER_HOST
	inside    []string // before a command that is to reach published ports
}

const testImage = "berth-registry/berth:test"

// newEngine starts an engine and builds the images of programs.
func newEngine(t *testing.T, programs ...string) *engine {
	t.Helper()
	host, inside := startIsolatedDockerd(t)
	e := &engine{NewCommands(t, "DOCKER_HOST="+host), inside}
	buildImages(t, e.Commands, programs...)
	return e
}

// buildImages builds the images of programs, tagged "test" and "latest", with
// the script that users build them with.
func buildImages(t *testing.T, run *Commands, programs ...string) {
	t.Helper()
	dist := t.TempDir()
	for _, p := range programs {
		link(t, Program(t, p), filepath.Join(dist, p+"-linux-"+runtime.GOARCH))
	}
	run.Run(t, "env", "VERSION=test", "DOCKER="+docker, "IMAGE_DIST="+dist, "IMAGE_PROGRAMS="+strings.Join(programs, " "),
		filepath.Join(Root(t), "deploy/images.sh"))
}

func link(t *testing.T, from, to string) {
	t.Helper()
	from, err := filepath.EvalSymlinks(from)
	if err == nil {
		err = os.Symlink(from, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// docker runs docker and returns what it printed.
func (e *engine) docker(t *testing.T, args ...string) string {
	t.Helper()
	return e.Run(t, docker, args...)
}

// curl asks a published port, and tries again while nobody answers.
func (e *engine) curl(t *testing.T, args ...string) string {
	t.Helper()
	return e.Run(t, e.inside[0], append(append(e.inside[1:len(e.inside):len(e.inside)], "curl", "-fsS",
		"--retry", "400", "--retry-connrefused", "--retry-all-errors", "--retry-delay", "0", "--retry-max-time", "120"), args...)...)
}

// health waits until a container is healthy, but no longer than two minutes, and returns
// what its health is then.
func (e *engine) health(t *testing.T, container string) string {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(readyPause) {
		state := e.docker(t, "inspect", "-f", "{{.State.Health.Status}}", container)
		if state == "healthy" || time.Now().After(deadline) {
			return state
		}
	}
}

// hardened is how an image may be run that writes to its volume only.
var hardened = []string{"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"}

// TestImage runs the image as those do who have put its name in zot's place,
// and as those do who trust nobody.
func TestImage(t *testing.T) {
	e := newEngine(t, "berth")
	hello := e.hello(t)

	t.Run("the guide's command", func(t *testing.T) {
		run := func() {
			e.docker(t, "run", "-d", "--name", "zot", "-p", "5000:5000", "-v", "zot-data:/var/lib/zot", testImage)
			if got := e.curl(t, "http://localhost:5000/v2/"); !strings.Contains(got, `"distSpecVersion"`) {
				t.Errorf("GET /v2/: %s", got)
			}
		}
		run()
		pushed := e.pushes(t, hello, "localhost:5000/library/hello:1")
		if state := e.health(t, "zot"); state != "healthy" {
			t.Errorf("health is %q", state)
		}
		e.docker(t, "stop", "zot")
		if code := e.docker(t, "inspect", "-f", "{{.State.ExitCode}}", "zot"); code != "0" {
			t.Errorf("stopped with exit code %s:\n%s", code, e.docker(t, "logs", "zot"))
		}
		e.docker(t, "rm", "zot")
		// The next container has what the volume has.
		run()
		e.docker(t, "rmi", hello)
		e.pulls(t, "localhost:5000/library/hello:1", pushed)
		e.docker(t, "rm", "-f", "zot")
	})

	config := filepath.Join(e.dir, "config.json")
	text := `{"storage": {"rootDirectory": "/var/lib/registry"}, "http": {"address": "0.0.0.0", "port": "8080"}}`
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("zot's mounts, hardened", func(t *testing.T) {
		e.docker(t, append(append([]string{"run", "-d", "--name", "hard", "--memory", "64m", "-p", "127.0.0.1:8080:8080",
			"-v", config + ":/etc/zot/config.json:ro", "-v", "hard:/var/lib/registry"}, hardened...), testImage, "serve", "/etc/zot/config.json")...)
		e.curl(t, "http://127.0.0.1:8080/readyz?writes")
		if state := e.health(t, "hard"); state != "healthy" {
			t.Errorf("health is %q", state)
		}
		if user := e.docker(t, "inspect", "-f", "{{.Config.User}}", "hard"); user != "65532:65532" {
			t.Errorf("user is %q", user)
		}
		if said := e.docker(t, "exec", "hard", "berth", "verify", "/etc/berth/config.json"); !strings.Contains(said, "valid") {
			t.Errorf("verify in the container says %q", said)
		}
		e.docker(t, "rm", "-f", "hard")
	})

	t.Run("a directory of root's", func(t *testing.T) {
		root := filepath.Join(e.dir, "root")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		args := append(append([]string{"run", "--rm", "-v", root + ":/var/lib/zot"}, hardened...), testImage)
		const want = "must belong to the user of this process, 65532:65532"
		if _, said, err := e.Try(docker, args...); err == nil || !strings.Contains(said, want) {
			t.Errorf("got %v, %q; want %q", err, said, want)
		}
		args[len(args)-1] += "-root"
		e.docker(t, append([]string{"run", "-d", "--name", "root", "-p", "127.0.0.1:5001:5000"}, args[2:]...)...)
		e.curl(t, "http://127.0.0.1:5001/readyz?writes")
		e.docker(t, "rm", "-f", "root")
	})

	t.Run("no volume", func(t *testing.T) {
		const want = "read-only file system"
		if _, said, err := e.Try(docker, append(append([]string{"run", "--rm"}, hardened...), testImage)...); err == nil || !strings.Contains(said, want) {
			t.Errorf("got %v, %q; want %q", err, said, want)
		}
	})
}

// hello builds an image to push, of two layers, and returns its name.
func (e *engine) hello(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": "FROM scratch\nCOPY one /\nCOPY two /\nCMD [\"/one\"]\n", "one": strings.Repeat("one ", 1<<18), "two": t.Name()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e.docker(t, "build", "-q", "--network", "none", "-t", "hello:1", dir)
	return "hello:1"
}
