//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// TestCompose brings up compose.yaml with PostgreSQL, an S3 server, scanner and syncer, and stops
// one container of each service after the other, and kills the other one, while
// docker pushes and pulls. No push or pull may fail while containers are stopped;
// one that was cut off by a kill may be repeated once. Every pull is what was
// pushed, also after everything was stopped and started again, and fsck finds
// nothing.
func TestCompose(t *testing.T) {
	e := newEngine(t, "berth", "berth-gateway", "berth-blobstore", "berth-metadata", "berth-scanner", "berth-syncer")
	e.serverImages(t)
	dir := filepath.Join(t.TempDir(), "compose")
	if err := os.CopyFS(dir, withoutSecrets(os.DirFS(filepath.Join(Root(t), "deploy/compose")))); err != nil {
		t.Fatal(err)
	}
	for of, file := range map[string]string{"database": "database/password", "s3": "s3/secret-key"} { // which it leaves as they are
		if err := os.MkdirAll(filepath.Join(dir, "secrets", of), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "secrets", file), []byte(password(of)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e.Run(t, "bash", filepath.Join(dir, "setup.sh"))
	if err := os.WriteFile(filepath.Join(dir, ".env"), []byte("BERTH_CONFIG=./full.json\nCOMPOSE_PROFILES=scanner,syncer\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &project{e, filepath.Join(dir, "compose.yaml")}
	p.up(t)
	e.curl(t, "http://127.0.0.1:5000/readyz?writes")

	hello := e.hello(t)
	const first = "127.0.0.1:5000/compose/first:1"
	pushed := e.pushes(t, hello, first)
	e.pulls(t, first, pushed)
	for _, name := range []string{"scanner", "syncer"} {
		if state := e.health(t, p.container(t, name)); state != "healthy" {
			t.Errorf("%s is %q", name, state)
		}
	}
	scanned := p.berth(t, dir, "full.json", "gateway", "scan", "start", "--wait", "/etc/berth/config.json", "compose/first:1")
	if !strings.Contains(scanned, "no database") { // there is no way to one in here
		t.Errorf("the scan of an image: %s", scanned)
	}

	load := newLoad(e)
	for _, service := range []string{"gateway", "blobstore", "metadata"} {
		for _, how := range []struct{ replica, verb string }{{"-1", "stop"}, {"-2", "kill"}} {
			name := service + how.replica
			load.rounds(t, 1)
			load.killing.Store(how.verb == "kill")
			p.compose(t, how.verb, name)
			load.rounds(t, 2)
			load.killing.Store(false)
			p.compose(t, "start", name)
			if state := e.health(t, p.container(t, name)); state != "healthy" {
				t.Errorf("%s is %q after its return", name, state)
			}
		}
	}
	n := load.end(t)
	t.Logf("%d images pushed and pulled, %d commands repeated after a kill", n, load.repeated)

	p.fsck(t, dir)
	// All of it is there after everything was away.
	p.compose(t, "stop")
	for _, name := range []string{"gateway-1", "blobstore-1", "metadata-1", "balancer"} {
		if code := e.docker(t, "inspect", "-f", "{{.State.ExitCode}}", p.container(t, name)); code != "0" {
			t.Errorf("%s stopped with exit code %s", name, code)
		}
	}
	p.compose(t, "up", "-d")
	e.curl(t, "http://127.0.0.1:5000/readyz?writes")
	e.pulls(t, first, pushed)
	some := 8
	for ref, d := range load.pushed {
		e.pulls(t, ref, d)
		if some--; some == 0 {
			break
		}
	}
}

// fsck stops the services and checks what they have left in PostgreSQL and S3.
func (p *project) fsck(t *testing.T, dir string) {
	t.Helper()
	p.compose(t, "stop", "gateway-1", "gateway-2", "metadata-1", "metadata-2", "blobstore-1", "blobstore-2")
	text, err := os.ReadFile(filepath.Join(dir, "berth.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	delete(config, "services") // what they do, fsck does itself
	if text, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fsck.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Log(p.berth(t, dir, "fsck.json", "metadata", "fsck", "/etc/berth/config.json"))
}

// berth runs a command beside the services, with a service's certificate.
func (p *project) berth(t *testing.T, dir, config, service string, args ...string) string {
	t.Helper()
	return p.docker(t, append(append(append([]string{"run", "--rm", "--network", "compose_inside",
		"-v", dir + "/" + config + ":/etc/berth/config.json:ro", "-v", dir + "/secrets/" + service + ":/etc/berth-tls:ro",
		"-v", dir + "/secrets/s3:/etc/berth-s3:ro", "-v", dir + "/secrets/database:/etc/berth-database:ro"}, hardened...),
		testImage), args...)...)
}

// withoutSecrets hides what setup.sh may have made in the working tree.
func withoutSecrets(in fs.FS) fs.FS { return hiding{in} }

type hiding struct{ fs.FS }

func (h hiding) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(h.FS, name)
	var kept []fs.DirEntry
	for _, e := range entries {
		if e.Name() != "secrets" && e.Name() != ".env" {
			kept = append(kept, e)
		}
	}
	return kept, err
}

// load pushes and pulls in the background.
type load struct {
	cancel context.CancelFunc
	ended  chan struct{}
	done   chan struct{} // a token for each round that ended

	killing atomic.Bool

	mu       sync.Mutex // guards what follows, until ended
	faults   []string
	repeated int
	pushed   map[string]digest.Digest
}

var digestLine = regexp.MustCompile(`[Dd]igest: (sha256:[0-9a-f]{64})`)

func newLoad(e *engine) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel, ended: make(chan struct{}), done: make(chan struct{}, 1), pushed: map[string]digest.Digest{}}
	go func() {
		defer close(l.ended)
		for i := 0; ctx.Err() == nil; i++ {
			if err := l.round(e, i); err != nil {
				l.mu.Lock()
				l.faults = append(l.faults, err.Error())
				l.mu.Unlock()
			}
			select {
			case l.done <- struct{}{}:
			default:
			}
		}
	}()
	return l
}

// round builds an image, pushes it, forgets it and pulls it.
func (l *load) round(e *engine, i int) error {
	ref := fmt.Sprintf("127.0.0.1:5000/compose/load:%d", i)
	dir := filepath.Join(e.dir, fmt.Sprintf("load-%d", i))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	layer := strings.Repeat(ref, 1<<16)
	for name, text := range map[string]string{"Dockerfile": "FROM scratch\nCOPY layer /\n", "layer": layer} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, args := range [][]string{
		{"build", "-q", "--network", "none", "-t", ref, dir},
		{"push", ref},
		{"rmi", ref},
		{"pull", ref},
		{"rmi", ref},
	} {
		mayFail := l.killing.Load()
		out, diag, err := e.Try(docker, args...)
		if err != nil && (mayFail || l.killing.Load()) {
			l.mu.Lock()
			l.repeated++
			l.mu.Unlock()
			out, diag, err = e.Try(docker, args...)
		}
		if err != nil {
			return fmt.Errorf("docker %s: %w\n%s%s", strings.Join(args, " "), err, out, diag)
		}
		if args[0] != "push" && args[0] != "pull" {
			continue
		}
		said := digestLine.FindStringSubmatch(out)
		if said == nil {
			return fmt.Errorf("docker %s names no digest:\n%s", strings.Join(args, " "), out)
		}
		d := digest.Digest(said[1])
		l.mu.Lock()
		if was, ok := l.pushed[ref]; ok && was != d {
			l.mu.Unlock()
			return fmt.Errorf("pulled %s as %s, pushed %s", ref, d, was)
		}
		l.pushed[ref] = d
		l.mu.Unlock()
	}
	return nil
}

// rounds waits until n rounds have ended that had not when it was called.
func (l *load) rounds(t *testing.T, n int) {
	t.Helper()
	for range n + 1 { // the first may have ended before
		select {
		case <-l.done:
		case <-time.After(2 * time.Minute):
			t.Fatal("no push and pull ends within two minutes")
		}
	}
}

// end stops the load, fails for what went wrong, and returns the number of images.
func (l *load) end(t *testing.T) int {
	t.Helper()
	l.cancel()
	<-l.ended
	for _, f := range l.faults {
		t.Error(f)
	}
	return len(l.pushed)
}

// serverImages makes the images of the servers in compose.yaml that are not
// ours, under the names that the file has for them.
func (e *engine) serverImages(t *testing.T) {
	t.Helper()
	tar := e.Run(t, "env", "BERTH_CACHE="+os.Getenv("BERTH_CACHE"), "HOME="+os.Getenv("HOME"), "bash", "-c", `[ -n "$BERTH_CACHE" ] || unset BERTH_CACHE; `+filepath.Join(Root(t), "allinone/e2e/servers.sh"))
	e.docker(t, "import", tar, "unpacked")
	dir := t.TempDir()
	link(t, Client(t, "versitygw"), filepath.Join(dir, "versitygw-link"))
	e.Run(t, "cp", "-L", filepath.Join(dir, "versitygw-link"), filepath.Join(dir, "versitygw"))
	if err := os.WriteFile(filepath.Join(dir, "postgres.sh"), []byte(postgresEntrypoint), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, image := range []struct{ name, text string }{
		// What packages do when they are configured.
		{"servers", `FROM unpacked
RUN ["/bin/bash", "-c", "ln -s bash /bin/sh; echo root:x:0:0::/:/bin/bash >/etc/passwd; echo postgres:x:999:999::/:/bin/bash >>/etc/passwd"]
`},
		{"haproxy:3.2", `FROM servers
CMD ["/usr/sbin/haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
`},
		{"postgres:17", `FROM servers
COPY postgres.sh /
RUN mkdir -p /var/lib/postgresql/data /run/postgresql && chown 999:999 /var/lib/postgresql/data
ENV PGDATA=/var/lib/postgresql/data PATH=/usr/lib/postgresql/15/bin:/usr/bin:/bin
ENTRYPOINT ["/postgres.sh"]
`},
		{"versity/versitygw:latest", `FROM servers
COPY versitygw /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/versitygw"]
`},
	} {
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(image.text), 0o644); err != nil {
			t.Fatal(err)
		}
		e.Run(t, "env", "DOCKER_BUILDKIT=1", docker, "build", "-q", "--network", "none", "-t", image.name, dir)
	}
}

// postgresEntrypoint does what compose.yaml relies on of the official image's.
const postgresEntrypoint = `#!/bin/bash
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	initdb -U "$POSTGRES_USER" --pwfile="$POSTGRES_PASSWORD_FILE" -A scram-sha-256 $POSTGRES_INITDB_ARGS
	echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
	echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -j postgres
fi
exec postgres -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
`
