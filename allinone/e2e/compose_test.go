//go:build e2e

package e2e

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// compose is Debian's docker-compose 1.29, or what $BERTH_COMPOSE names, such as
// compose v2, whose parser reads the files in deploy/validate.
var compose = cmp.Or(os.Getenv("BERTH_COMPOSE"), "/usr/bin/docker-compose")

// A project is a file of deploy/compose that runs in an engine.
type project struct {
	*engine
	file string
}

// up starts a project and waits until its services are well.
func (p *project) up(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", p.compose(t, "ps", "-a"))
			said, _, _ := p.Try(compose, "-f", p.file, "logs", "--no-color", "--tail", "30")
			t.Logf("%s", said)
		}
		if line := p.leak(t); line != "" {
			t.Errorf("a container wrote a secret:\n%s", line)
		}
		p.compose(t, "down", "-v")
	})
	p.compose(t, "up", "-d")
}

// leak returns the first line with a secret that a program of ours has written, or "".
func (p *project) leak(t *testing.T) string {
	t.Helper()
	ours := 0
	for line := range strings.Lines(p.compose(t, "logs", "--no-color")) {
		service, said, _ := strings.Cut(line, "|")
		if slices.ContainsFunc([]string{"database", "s3", "bucket", "balancer"}, func(other string) bool { return strings.HasPrefix(service, other) }) {
			continue
		}
		if ours++; leak(said) != "" {
			return line
		}
	}
	if ours == 0 {
		t.Error("void: no container of ours has a log")
	}
	return ""
}

func (p *project) compose(t *testing.T, args ...string) string {
	t.Helper()
	return p.Run(t, compose, append([]string{"-f", p.file}, args...)...)
}

// container returns the id of a service's container, which may have ended.
func (p *project) container(t *testing.T, service string) string {
	t.Helper()
	return p.compose(t, "ps", "-a", "-q", service)
}

// pushes tags the image as ref and pushes it.
func (e *engine) pushes(t *testing.T, from, ref string) digest.Digest {
	t.Helper()
	e.docker(t, "tag", from, ref)
	return digestIn(t, e.docker(t, "push", ref))
}

// pulls forgets an image that was pushed, pulls it, and fails unless it is want.
func (e *engine) pulls(t *testing.T, ref string, want digest.Digest) {
	t.Helper()
	e.Try(docker, "rmi", ref)
	if got := digestIn(t, e.docker(t, "pull", ref)); got != want {
		t.Errorf("pulled %s as %s, pushed %s", ref, got, want)
	}
}

// TestComposeEdge brings up the one process of compose.edge.yaml, pushes, makes
// it anew and pulls.
func TestComposeEdge(t *testing.T) {
	e := newEngine(t, "berth-edge")
	p := &project{e, filepath.Join(Root(t), "deploy/compose/compose.edge.yaml")}
	p.up(t)
	e.curl(t, "http://127.0.0.1:5000/readyz?writes")
	const ref = "127.0.0.1:5000/a/hello:1"
	pushed := e.pushes(t, e.hello(t), ref)
	p.compose(t, "up", "-d", "--force-recreate")
	e.curl(t, "http://127.0.0.1:5000/readyz")
	e.docker(t, "rmi", "hello:1")
	e.pulls(t, ref, pushed)
	if state := e.health(t, p.container(t, "registry")); state != "healthy" {
		t.Errorf("health is %q", state)
	}
}
