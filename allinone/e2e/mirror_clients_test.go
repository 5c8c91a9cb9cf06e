//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	image "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestMirrorClients pulls through a mirror with the clients people have, each
// configured as docs/mirror.md says: docker with registry-mirrors, containerd with
// hosts.toml (which says ns), podman and skopeo with registries.conf, crane by the
// mirror's own names. Docker Hub is Debian's docker-registry, ghcr.io a second
// Berth. First all is cold; then nobody can be reached, and every pull must do as
// well; then the mirror was killed, and they must once more.
func TestMirrorClients(t *testing.T) {
	engine := startDockerd(t)
	c := makeContents(t, engine)
	hub, other := Start(t, Options{Topology: Peer}), Start(t, Options{Topology: Linked})
	for _, client := range []string{"docker", "containerd", "podman", "skopeo", "crane"} {
		pushLayout(t, hub, "library/"+client, c.index)
		pushLayout(t, other, "org/"+client, c.image)
	}
	pushLayout(t, other, "org/data", c.artifact)
	for _, topology := range []Topology{Linked, Split} {
		t.Run(string(topology), func(t *testing.T) {
			world := newInternet(t, map[string]*site{
				"registry-1.docker.io": {backend: hub.Addr}, "ghcr.io": {backend: other.Addr},
			})
			s := Start(t, Options{Topology: topology, Mirror: true, Env: world.env, Edit: mirroring(
				map[string]any{"urls": []string{"https://registry-1.docker.io"}, "onDemand": true, "manifestCheckInterval": "1ms", "content": []any{map[string]any{"prefix": "library/**"}}},
				map[string]any{"urls": []string{"https://ghcr.io"}, "onDemand": true, "manifestCheckInterval": "1ms"},
			)})
			pulls := mirrorPulls(t, s, c)
			all := func(how string, pulls []mirrorPull) {
				t.Helper()
				done := 0
				for _, p := range pulls {
					if t.Run(how+"/"+p.name, p.run) {
						done++
					}
				}
				t.Logf("%s: %d of %d pulls", how, done, len(pulls))
			}
			all("cold", pulls)
			for name, most := range map[string]string{"registry-1.docker.io": "/v2/library/", "ghcr.io": "/v2/org/"} {
				for _, r := range world.asked(name) {
					if !strings.Contains(r, most) && !strings.HasSuffix(r, " /v2/") {
						t.Errorf("%s was asked %s", name, r)
					}
				}
			}
			world.setDown(true)
			all("nobody reached", pulls)
			for _, p := range s.Processes {
				p.Kill(t)
			}
			for _, p := range s.Processes {
				p.start(t)
			}
			for _, p := range s.Processes {
				p.await(t)
			}
			all("killed, nobody reached", pulls[len(pulls)-4:])
			checkStopped(t, s)
		})
	}
}

// mirroring returns an edit that puts rules into a configuration.
func mirroring(rules ...any) func(map[string]any) {
	return func(config map[string]any) {
		config["extensions"] = map[string]any{"sync": map[string]any{"registries": rules}}
	}
}

// pushLayout pushes a layout as repo:1.
func pushLayout(t *testing.T, s *System, repo string, l layout) {
	t.Helper()
	NewCommands(t).Run(t, "skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", "oci:"+l.dir+":1", "docker://"+s.Addr+"/"+repo+":1")
}

// checkStopped stops a system and lets fsck look at its store.
func checkStopped(t *testing.T, s *System) {
	t.Helper()
	for i := len(s.Processes) - 1; i >= 0; i-- {
		if err := s.Processes[i].Stop(); err != nil {
			t.Error(err)
		}
	}
	stdout, stderr, err := NewCommands(t).Try(Program(t, "berth"), "fsck", s.Config)
	if err != nil {
		t.Errorf("berth fsck: %v\n%s%s", err, stdout, stderr)
	}
}

// mirrorPull is one pull of one client, which forgets what it had before.
type mirrorPull struct {
	name string
	run  func(t *testing.T)
}

// mirrorPulls configures clients for a mirror.
func mirrorPulls(t *testing.T, s *System, c contents) []mirrorPull {
	t.Helper()
	host, _ := startEngine(t, nil, "--iptables=false", "--ip6tables=false", "--bridge=none", "--registry-mirror", s.URL())
	engine := NewCommands(t, "DOCKER_HOST="+host)
	dockerPull := func(ref string, l layout) func(t *testing.T) {
		return func(t *testing.T) {
			engine.Run(t, docker, "image", "prune", "-a", "-f")
			if got := digestIn(t, engine.Run(t, docker, "pull", ref)); got != l.root.Digest {
				t.Errorf("docker says that %s is %s, want %s", ref, got, l.root.Digest)
			}
		}
	}

	run := containersCommands(t)
	conf := filepath.Join(run.dir, "registries.conf")
	run.env = append(run.env, "CONTAINERS_REGISTRIES_CONF="+conf) // which skopeo does not look at
	var text strings.Builder
	for _, name := range []string{"docker.io", "ghcr.io"} {
		fmt.Fprintf(&text, "[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\ninsecure = true\n", name, s.Addr+"/"+name)
	}
	writeFile(t, run, "registries.conf", text.String())
	podman := &ociEngine{name: "podman", Commands: run}
	podmanPull := func(ref string, l layout) func(t *testing.T) {
		return func(t *testing.T) {
			podman.forget(t)
			if got, want := podman.do(t, "pull", "-q", ref), configOf(t, l); got != want {
				t.Errorf("podman pulled image %s, want %s", got, want)
			}
		}
	}
	skopeoPull := func(ref string, l layout, flags ...string) func(t *testing.T) {
		return func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "back")
			run.Run(t, "skopeo", append(append([]string{"--registries-conf", conf, "copy", "-q", "--all"}, flags...), "docker://"+ref, "oci:"+dir+":1")...)
			sameLayout(t, dir, l)
		}
	}
	cranePull := func(repo string, l layout) func(t *testing.T) {
		return func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "back")
			NewCommands(t).Run(t, Client(t, "crane"), "pull", "--insecure", "--format", "oci", s.Addr+"/"+repo+":1", dir)
			sameLayout(t, dir, l)
		}
	}

	hosts := t.TempDir()
	for name, server := range map[string]string{"docker.io": "https://registry-1.docker.io", "ghcr.io": "https://ghcr.io"} {
		if err := os.MkdirAll(filepath.Join(hosts, name), 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf("server = %q\n[host.%q]\n  capabilities = [\"pull\", \"resolve\"]\n", server, s.URL())
		if err := os.WriteFile(filepath.Join(hosts, name, "hosts.toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctr := &containerd{socket: startContainerd(t), Commands: NewCommands(t)}
	ctrPull := func(ref string, l layout) func(t *testing.T) {
		return func(t *testing.T) {
			ctr.forget(t)
			ctr.do(t, "images", "pull", "--hosts-dir", hosts, "--all-platforms", ref)
			ctr.holds(t, l)
		}
	}
	return []mirrorPull{
		{"docker registry-mirrors", dockerPull("docker:1", c.index)},
		{"docker by path", dockerPull(s.Addr+"/library/docker:1", c.index)},
		{"docker by host in path", dockerPull(s.Addr+"/ghcr.io/org/docker:1", c.image)},
		{"containerd docker.io", ctrPull("docker.io/library/containerd:1", c.index)},
		{"containerd ghcr.io", ctrPull("ghcr.io/org/containerd:1", c.image)},
		{"podman docker.io", podmanPull("docker.io/library/podman:1", c.index)},
		{"podman ghcr.io", podmanPull("ghcr.io/org/podman:1", c.image)},
		{"skopeo docker.io", skopeoPull("docker.io/library/skopeo:1", c.index)},
		{"skopeo ghcr.io", skopeoPull("ghcr.io/org/skopeo:1", c.image)},
		{"skopeo by path", skopeoPull(s.Addr+"/library/skopeo:1", c.index, "--src-tls-verify=false")},
		{"crane", cranePull("library/crane", c.index)},
		{"crane by host in path", cranePull("ghcr.io/org/crane", c.image)},
		{"crane artifact", cranePull("ghcr.io/org/data", c.artifact)},
	}
}

// configOf returns the id that podman gives the image of this machine in a layout.
func configOf(t *testing.T, l layout) string {
	t.Helper()
	manifest := l.read(t, l.root.Digest)
	if l.root.MediaType == image.MediaTypeImageIndex {
		var list image.Index
		if err := json.Unmarshal(manifest, &list); err != nil {
			t.Fatal(err)
		}
		manifest = l.read(t, list.Manifests[0].Digest) // linux/amd64
	}
	var m image.Manifest
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatal(err)
	}
	return m.Config.Digest.Encoded()
}
