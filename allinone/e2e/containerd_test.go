//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// startContainerd runs a containerd of the test's own, with nothing outside its
// directory, and returns the address of its socket.
func startContainerd(t *testing.T) string {
	t.Helper()
	// Not t.TempDir: a socket's path may have 108 bytes only.
	dir, err := os.MkdirTemp("", "containerd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unmountUnder(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing containerd's files: %v", err)
		}
	})
	socket, config := filepath.Join(dir, "c.sock"), filepath.Join(dir, "config.toml")
	text := fmt.Sprintf(`version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "%[2]s"
[plugins."io.containerd.internal.v1.opt"]
path = "%[1]s/opt"
`, dir, socket)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	p := &Process{Name: "containerd", Path: "/usr/bin/containerd", Args: []string{"-c", config, "-l", "warn"}}
	p.start(t)
	run := NewCommands(t)
	for deadline := time.Now().Add(readyWithin); ; time.Sleep(readyPause) {
		if _, _, err := run.Try("/usr/bin/ctr", "-a", socket, "version"); err == nil {
			return socket
		}
		if time.Now().After(deadline) {
			t.Fatalf("containerd does not answer within %v\n%s", readyWithin, p.tail())
		}
	}
}

// A containerd is driven with ctr.
type containerd struct {
	socket string
	*Commands
}

func (c *containerd) do(t *testing.T, args ...string) string {
	t.Helper()
	return c.Run(t, "/usr/bin/ctr", append([]string{"-a", c.socket}, args...)...)
}

// load brings a layout in under name with the tag 1.
func (c *containerd) load(t *testing.T, name string, l layout) {
	t.Helper()
	tar := filepath.Join(t.TempDir(), "layout.tar")
	c.Run(t, "tar", "-C", l.dir, "-cf", tar, ".")
	c.do(t, "images", "import", "--no-unpack", "--all-platforms", "--base-name", name, tar)
}

// forget removes all images and waits until their content is gone.
func (c *containerd) forget(t *testing.T) {
	t.Helper()
	if names := strings.Fields(c.do(t, "images", "ls", "-q")); len(names) > 0 {
		c.do(t, append([]string{"images", "rm", "--sync"}, names...)...)
	}
	if left := c.do(t, "content", "ls", "-q"); left != "" {
		t.Fatalf("content is left:\n%s", left)
	}
}

// holds fails unless everything of the layout is in the content store.
func (c *containerd) holds(t *testing.T, l layout) {
	t.Helper()
	manifests, blobs := l.walk(t)
	for _, d := range slices.Concat(manifests, blobs) {
		data, stderr, err := c.Try("/usr/bin/ctr", "-a", c.socket, "content", "get", string(d.Digest))
		if err != nil {
			t.Errorf("%s was not pulled: %v\n%s", d.Digest, err, stderr)
		} else if got := sha256Of([]byte(data)); got != d.Digest {
			t.Errorf("pulled %s reads as %s", d.Digest, got)
		}
	}
}

// containerdCells drive Debian's containerd.
func containerdCells(t *testing.T, contents contents) []cell {
	c := &containerd{socket: startContainerd(t), Commands: NewCommands(t)}
	// both pushes a layout, forgets it and pulls it back.
	both := func(content string, l layout, pull ...string) func(t *testing.T, s *System) {
		return func(t *testing.T, s *System) {
			repo := "containerd/" + content
			name := s.Addr + "/" + repo
			c.load(t, name, l)
			c.do(t, "images", "push", "--plain-http", name+":1")
			readBack(t, s, repo, "1", l.root.Digest)
			c.forget(t)
			c.do(t, append(pull, "--plain-http", name+":1")...)
			c.holds(t, l)
			c.forget(t)
		}
	}
	const proof = "layout imported, pushed, forgotten, pulled; every manifest and blob equal in the content store"
	return []cell{
		{client: "containerd `ctr`", content: "image", proof: proof, run: both("image", contents.image, "images", "pull")},
		{client: "containerd `ctr`", content: "index", proof: proof + " (`--all-platforms`)", run: both("index", contents.index, "images", "pull", "--all-platforms")},
		{client: "containerd `ctr`", content: "artifact", proof: proof + " (`content fetch`)", run: both("artifact", contents.artifact, "content", "fetch")},
		{
			client: "containerd `ctr`", content: "`hosts.toml`",
			proof: "a name whose host is this registry over plain HTTP: push, pull; another name whose mirror it is: pull, its own host being down",
			run:   func(t *testing.T, s *System) { c.testHosts(t, s, contents.image) },
		},
	}
}

// testHosts names the registry in hosts.toml only.
func (c *containerd) testHosts(t *testing.T, s *System, l layout) {
	hosts := t.TempDir()
	for name, text := range map[string]string{
		"depot.example": fmt.Sprintf("server = %[1]q\n[host.%[1]q]\n  capabilities = [\"pull\", \"resolve\", \"push\"]\n", s.URL()),
		// Port 9 refuses: what is pulled can come from the mirror only.
		"pallets.example": fmt.Sprintf("server = \"http://127.0.0.1:9\"\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", s.URL()),
	} {
		if err := os.MkdirAll(filepath.Join(hosts, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(hosts, name, "hosts.toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const repo = "containerd/hosts"
	c.load(t, "depot.example/"+repo, l)
	c.do(t, "images", "push", "--hosts-dir", hosts, "depot.example/"+repo+":1")
	readBack(t, s, repo, "1", l.root.Digest)
	for _, name := range []string{"depot.example", "pallets.example"} {
		c.forget(t)
		c.do(t, "images", "pull", "--hosts-dir", hosts, name+"/"+repo+":1")
		c.holds(t, l)
	}
	c.forget(t)
}
