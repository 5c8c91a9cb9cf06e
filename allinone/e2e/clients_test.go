//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestClients pushes and pulls real images, indexes and artifacts with the
// clients people use. Every cell ends in [readBack]: what crane and curl get
// from the registry hashes to the digest that the client pushed.
func TestClients(t *testing.T) {
	topologies := []Topology{Linked, Split}
	if os.Getenv("BERTH_E2E_PEER") != "" {
		topologies = []Topology{Peer} // proves the cells that push and pull; the peer lacks referrers and Berth's rules of delete
	}
	table := runMatrix(t, topologies, allCells(t))
	t.Logf("\n%s", table)
	if topologies[0] != Peer && !t.Failed() {
		compareTable(t, "matrix", "clients", table)
	}
}

// TestClientsOfReplicas does the same with two of each service over PostgreSQL and
// S3, every request of a client to the next gateway. It leaves out ctr, which
// panics now and then when it talks through a proxy ("send on closed channel" in
// containerd 1.6.20's pusher.go, when the transport asks for the body again).
func TestClientsOfReplicas(t *testing.T) {
	cells := slices.DeleteFunc(allCells(t), func(c cell) bool { return strings.HasPrefix(c.client, "containerd") })
	t.Logf("\n%s", runMatrix(t, []Topology{Replicas}, cells))
}

// allCells returns the cells of every client.
func allCells(t *testing.T) []cell {
	engine := startDockerd(t)
	c := makeContents(t, engine)
	cells := dockerCells(t, engine)
	cells = append(cells, podmanCells(t)...)
	cells = append(cells, containerdCells(t, c)...)
	cells = append(cells, layoutCells(t, c)...)
	cells = append(cells, orasCells(t, c)...)
	cells = append(cells, helmCells()...)
	cells = append(cells, cosignCells(t, c)...)
	cells = append(cells, deleteCells(t, c)...)
	cells = append(cells, referrersCells(t, c)...)
	cells = append(cells, buildkitCells(t, c)...)

	// One client's cells side by side, in the order in which the clients came first.
	order := map[string]int{}
	for i, c := range cells {
		if _, ok := order[c.client]; !ok {
			order[c.client] = i
		}
	}
	slices.SortStableFunc(cells, func(a, b cell) int { return order[a.client] - order[b.client] })
	return cells
}

// dockerCells drive Debian's Docker engine with its own client.
func dockerCells(t *testing.T, engine string) []cell {
	build := buildContext(t)
	run := NewCommands(t, "DOCKER_HOST="+engine)

	// push builds an image of its own for the cell and pushes it.
	push := func(t *testing.T, s *System, arch, ref string) (id string, d digest.Digest) {
		buildImage(t, engine, build, arch, ref, ref)
		return run.Run(t, docker, "image", "inspect", "-f", "{{.Id}}", ref), digestIn(t, run.Run(t, docker, "push", ref))
	}
	// pull forgets the image and all its layers, pulls it again and runs it.
	pull := func(t *testing.T, ref, arch, id string) {
		run.Run(t, docker, "image", "prune", "-a", "-f")
		run.Run(t, docker, "builder", "prune", "-a", "-f")
		said := run.Run(t, docker, "pull", "--platform", "linux/"+arch, ref)
		if !strings.Contains(said, "Pull complete") {
			t.Errorf("docker pull fetched no layer:\n%s", said)
		}
		if got := run.Run(t, docker, "image", "inspect", "-f", "{{.Id}}", ref); got != id {
			t.Errorf("image id after the pull is %s, want %s", got, id)
		}
	}
	return []cell{{
		client: "docker", content: "image",
		proof: "build, push, forget, pull, run; image id equal; every layer read back",
		run: func(t *testing.T, s *System) {
			ref := s.Addr + "/docker/image:1"
			id, d := push(t, s, "amd64", ref)
			readBack(t, s, "docker/image", "1", d)
			pull(t, ref, "amd64", id)
			if got := run.Run(t, docker, "run", "--rm", "--network", "none", ref); got != "hello from amd64" {
				t.Errorf("the pulled image says %q", got)
			}
		},
	}, {
		client: "docker", content: "index",
		proof: "two pushes, `docker manifest create`, `annotate`, `push`; both platforms pulled, image ids equal",
		run: func(t *testing.T, s *System) {
			ref := s.Addr + "/docker/index:1"
			ids, parts := map[string]string{}, []string{}
			for _, arch := range []string{"amd64", "arm64"} {
				part := s.Addr + "/docker/index:" + arch
				ids[arch], _ = push(t, s, arch, part)
				parts = append(parts, part)
			}
			run.Run(t, docker, append([]string{"manifest", "create", "--insecure", ref}, parts...)...)
			run.Run(t, docker, "manifest", "annotate", "--os", "linux", "--arch", "arm64", ref, parts[1])
			d := digestIn(t, "digest: "+run.Run(t, docker, "manifest", "push", "--insecure", "--purge", ref))
			readBack(t, s, "docker/index", "1", d)
			for arch, id := range ids {
				pull(t, ref, arch, id)
			}
		},
	}, {
		client: "docker", content: "artifact",
		none: "the engine takes images and indexes only",
	}}
}

// layoutCells drive clients that copy whole OCI layouts: what is pulled must
// be the pushed layout, blob for blob.
func layoutCells(t *testing.T, c contents) []cell {
	crane, regctl := Client(t, "crane"), Client(t, "regctl")
	clients := []struct {
		name       string
		push, pull func(t *testing.T, run *Commands, addr, dir, ref string)
	}{{
		name: "skopeo",
		push: func(t *testing.T, run *Commands, _, dir, ref string) {
			run.Run(t, "skopeo", "copy", "--all", "--dest-tls-verify=false", "oci:"+dir+":1", "docker://"+ref)
		},
		pull: func(t *testing.T, run *Commands, _, dir, ref string) {
			run.Run(t, "skopeo", "copy", "--all", "--src-tls-verify=false", "docker://"+ref, "oci:"+dir+":1")
		},
	}, {
		name: "crane",
		push: func(t *testing.T, run *Commands, _, dir, ref string) {
			run.Run(t, crane, "push", "--insecure", dir, ref)
		},
		pull: func(t *testing.T, run *Commands, _, dir, ref string) {
			run.Run(t, crane, "pull", "--insecure", "--format", "oci", ref, dir)
		},
	}, {
		name: "regctl",
		push: func(t *testing.T, run *Commands, addr, dir, ref string) {
			run.Run(t, regctl, "registry", "set", "--tls", "disabled", addr)
			run.Run(t, regctl, "image", "copy", "ocidir://"+dir+":1", ref)
		},
		pull: func(t *testing.T, run *Commands, _, dir, ref string) {
			run.Run(t, regctl, "image", "copy", ref, "ocidir://"+dir+":1")
		},
	}}
	var cells []cell
	for _, client := range clients {
		for _, content := range []struct {
			name string
			l    layout
		}{{"image", c.image}, {"index", c.index}, {"artifact", c.artifact}} {
			repo := client.name + "/" + content.name
			cells = append(cells, cell{
				client: client.name, content: content.name,
				proof: "OCI layout pushed and pulled; every manifest and blob equal",
				run: func(t *testing.T, s *System) {
					run, ref := NewCommands(t), s.Addr+"/"+repo+":1"
					client.push(t, run, s.Addr, content.l.dir, ref)
					readBack(t, s, repo, "1", content.l.root.Digest)
					back := filepath.Join(t.TempDir(), "back")
					client.pull(t, run, s.Addr, back, ref)
					sameLayout(t, back, content.l)
				},
			})
		}
	}
	return cells
}

// orasCells drive oras: layouts as the others, and its own verbs on artifacts.
func orasCells(t *testing.T, c contents) []cell {
	oras := Client(t, "oras")
	copyBoth := func(t *testing.T, run *Commands, s *System, repo string, l layout) {
		ref := s.Addr + "/" + repo + ":1"
		run.Run(t, oras, "cp", "--from-oci-layout", l.dir+":1", "--to-plain-http", ref)
		readBack(t, s, repo, "1", l.root.Digest)
		back := filepath.Join(t.TempDir(), "back")
		run.Run(t, oras, "cp", "--from-plain-http", ref, "--to-oci-layout", back+":1")
		sameLayout(t, back, l)
	}
	return []cell{{
		client: "oras", content: "image",
		proof: "OCI layout copied there and back; every manifest and blob equal",
		run:   func(t *testing.T, s *System) { copyBoth(t, NewCommands(t), s, "oras/image", c.image) },
	}, {
		client: "oras", content: "index",
		proof: "OCI layout copied there and back; every manifest and blob equal",
		run:   func(t *testing.T, s *System) { copyBoth(t, NewCommands(t), s, "oras/index", c.index) },
	}, {
		client: "oras", content: "artifact",
		proof: "layout copied both ways; `push`, `pull`: file equal",
		run: func(t *testing.T, s *System) {
			run := NewCommands(t)
			copyBoth(t, run, s, "oras/artifact", c.artifact)

			const text = "twelve pallets\n"
			writeFile(t, run, "note.txt", text)
			ref := s.Addr + "/oras/files:1"
			pushed := digestIn(t, run.Run(t, oras, "push", "--plain-http", "--artifact-type", artifactType, ref, "note.txt:text/plain"))
			readBack(t, s, "oras/files", "1", pushed)
			run.Run(t, oras, "pull", "--plain-http", "-o", "out", ref)
			if got := readFile(t, run, "out/note.txt"); got != text {
				t.Errorf("the pulled file says %q, want %q", got, text)
			}
		},
	}}
}

// digestIn finds the digest that a client says it pushed: the last one after
// the word digest.
func digestIn(t *testing.T, said string) digest.Digest {
	t.Helper()
	lower := strings.ToLower(said)
	at := strings.LastIndex(lower, "digest: ")
	if at < 0 {
		t.Fatalf("the client names no digest:\n%s", said)
	}
	d, err := digest.Parse(strings.Fields(said[at+len("digest: "):])[0])
	if err != nil {
		t.Fatalf("the client names a bad digest: %v\n%s", err, said)
	}
	return d
}

// readBack proves that repo:ref is the manifest with digest want, and that
// everything below it is there: crane and curl read the manifest, curl every
// blob, and the bytes hash to their digests.
func readBack(t *testing.T, s *System, repo, ref string, want digest.Digest) {
	t.Helper()
	run := NewCommands(t)
	sep := ":"
	if strings.Contains(ref, ":") {
		sep = "@"
	}
	stdout, stderr, err := run.Try(Client(t, "crane"), "manifest", "--insecure", s.Addr+"/"+repo+sep+ref)
	if err != nil {
		t.Fatalf("crane manifest: %v\n%s", err, stderr)
	}
	if got := sha256Of([]byte(stdout)); got != want {
		t.Errorf("crane reads %s as %s, pushed was %s", ref, got, want)
	}
	curl := func(path string) []byte {
		t.Helper()
		body, stderr, err := run.Try("curl", "-sS", "--fail-with-body",
			"-H", "Accept: "+image.MediaTypeImageManifest+", "+image.MediaTypeImageIndex+
				", application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json",
			s.URL()+"/v2/"+repo+path)
		if err != nil {
			t.Fatalf("curl %s: %v\n%s%s", path, err, body, stderr)
		}
		return []byte(body)
	}
	if got := sha256Of(curl("/manifests/" + ref)); got != want {
		t.Errorf("curl reads %s as %s, pushed was %s", ref, got, want)
	}
	var below func(d digest.Digest)
	below = func(d digest.Digest) {
		t.Helper()
		manifest := curl("/manifests/" + string(d))
		if got := sha256Of(manifest); got != d {
			t.Errorf("manifest %s reads as %s", d, got)
		}
		for _, child := range children(t, manifest) {
			if isManifest(child.MediaType) {
				below(child.Digest)
			} else if got := sha256Of(curl("/blobs/" + string(child.Digest))); got != child.Digest {
				t.Errorf("blob %s reads as %s", child.Digest, got)
			}
		}
	}
	below(want)
}

func writeFile(t *testing.T, c *Commands, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, c *Commands, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
