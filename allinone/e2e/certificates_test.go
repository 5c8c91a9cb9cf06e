//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// namedRegistry is how Docker's engine reaches the registry: what has an address of
// 127.0.0.0/8 it does not speak TLS with that means anything.
const namedRegistry = "registry.test"

// certificateClient shows the certificate of a directory: ca.crt, client.cert and
// client.key, as in docker's certs.d. Without client.cert it shows none.
type certificateClient struct {
	name       string
	push, pull func(dir, repo string) (string, string, error)
}

// testCertificates pushes and pulls with nothing but a certificate: alice may, bob may
// not, and without one nobody is let in.
func testCertificates(t *testing.T, c contents, chart string, table *loginTable) {
	const way = "client certificate"
	dir := t.TempDir()
	ca := certstest.NewAuthority(t, "all")
	server := ca.Save(t, filepath.Join(dir, "server"), certstest.Request{Names: []string{"127.0.0.1", namedRegistry}})
	identities := map[string]string{}
	for _, user := range []string{"alice", "bob", ""} {
		at := filepath.Join(dir, "of "+user)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		certstest.Write(t, filepath.Join(at, "ca.crt"), ca.Cert)
		if user != "" {
			// As SPIFFE has it: the name is in a URI, and what else is in the certificate does not count.
			cert, key := ca.Issue(t, certstest.Request{Subject: "alice", Names: []string{"spiffe://corp.test/ns/ci/sa/" + user}})
			certstest.Write(t, filepath.Join(at, "client.cert"), cert)
			certstest.Write(t, filepath.Join(at, "client.key"), key)
		}
		identities[user] = at
	}
	s := startWatched(t, Options{Topology: Linked, Edit: func(config map[string]any) {
		h := config["http"].(map[string]any)
		h["tls"] = map[string]any{"cert": server.Cert, "key": server.Key, "cacert": server.CA}
		h["auth"] = map[string]any{"mtls": map[string]any{"identityAttributes": []string{"URI", "CommonName"}, "uriSanPattern": "^spiffe://corp\\.test/ns/ci/sa/(.+)$"}}
		h["accessControl"] = onlyFor("alice")
	}}, "", "")
	for _, client := range certificateClients(t, s, c, chart) {
		table.cell(t, way, client.name, "", func(t *testing.T) {
			repo := "mine/" + client.name
			refused := func(user string, try func(dir, repo string) (string, string, error)) {
				t.Helper()
				began := time.Now()
				stdout, stderr, err := try(identities[user], repo)
				said := strings.ToLower(stdout + stderr)
				known := strings.Contains(said, "denied") || strings.Contains(said, "403")
				if user == "" {
					known = strings.Contains(said, "authentication required") || strings.Contains(said, "basic auth") || strings.Contains(said, "basic credential not found")
				}
				if took := time.Since(began); err == nil || took > refusedWithin || !known {
					t.Errorf("with the certificate of %q: %v after %v\n%s%s", user, err, took, stdout, stderr)
				}
			}
			refused("", client.push)
			refused("bob", client.push)
			for _, do := range []func(dir, repo string) (string, string, error){client.push, client.pull} {
				if stdout, stderr, err := do(identities["alice"], repo); err != nil {
					t.Fatalf("with alice's certificate: %v\n%s%s", err, stdout, stderr)
				}
			}
			refused("bob", client.pull)
			refused("", client.pull)
		})
	}
	table.cell(t, way, "crane", "it has no option for one", nil)
}

func certificateClients(t *testing.T, s *System, c contents, chart string) []certificateClient {
	oras, helm := Client(t, "oras"), Client(t, "helm")
	n := 0
	fresh := func() string { n++; return filepath.Join(t.TempDir(), fmt.Sprint("back", n)) }
	// flags are those of oras and helm.
	flags := func(dir string) []string {
		list := []string{"--ca-file", filepath.Join(dir, "ca.crt")}
		if _, err := os.Stat(filepath.Join(dir, "client.cert")); err == nil {
			list = append(list, "--cert-file", filepath.Join(dir, "client.cert"), "--key-file", filepath.Join(dir, "client.key"))
		}
		return list
	}
	prefixed := func(list []string, prefix string) []string {
		out := make([]string, len(list))
		for i, f := range list {
			if out[i] = f; strings.HasPrefix(f, "--") {
				out[i] = "--" + prefix + f[2:]
			}
		}
		return out
	}
	var podman, skopeo, orasRun, helmRun = inRuntimeDir(t, containersCommands(t)), inRuntimeDir(t, NewCommands(t)), NewCommands(t), NewCommands(t)
	podman.Run(t, "skopeo", "copy", "-q", "oci:"+c.image.dir+":1", "containers-storage:localhost/certificates:1")
	return []certificateClient{certificateDocker(t, s, c), {
		name: "podman",
		push: func(dir, repo string) (string, string, error) {
			return podman.Try("podman", "push", "-q", "--cert-dir", dir, "localhost/certificates:1", s.Addr+"/"+repo+":1")
		},
		pull: func(dir, repo string) (string, string, error) {
			return podman.Try("podman", "pull", "-q", "--cert-dir", dir, s.Addr+"/"+repo+":1")
		},
	}, {
		name: "skopeo",
		push: func(dir, repo string) (string, string, error) {
			return skopeo.Try("skopeo", "copy", "-q", "--dest-cert-dir", dir, "oci:"+c.image.dir+":1", "docker://"+s.Addr+"/"+repo+":1")
		},
		pull: func(dir, repo string) (string, string, error) {
			return skopeo.Try("skopeo", "copy", "-q", "--src-cert-dir", dir, "docker://"+s.Addr+"/"+repo+":1", "oci:"+fresh()+":1")
		},
	}, {
		name: "oras",
		push: func(dir, repo string) (string, string, error) {
			args := append([]string{"cp", "--from-oci-layout", c.image.dir + ":1", s.Addr + "/" + repo + ":1"}, prefixed(flags(dir), "to-")...)
			return orasRun.Try(oras, args...)
		},
		pull: func(dir, repo string) (string, string, error) {
			args := append([]string{"cp", s.Addr + "/" + repo + ":1", "--to-oci-layout", fresh() + ":1"}, prefixed(flags(dir), "from-")...)
			return orasRun.Try(oras, args...)
		},
	}, {
		name: "helm",
		push: func(dir, repo string) (string, string, error) {
			return helmRun.Try(helm, append([]string{"push", filepath.Join(chart, "chart-0.1.0.tgz"), "oci://" + s.Addr + "/" + repo}, flags(dir)...)...)
		},
		pull: func(dir, repo string) (string, string, error) {
			return helmRun.Try(helm, append([]string{"pull", "oci://" + s.Addr + "/" + repo + "/chart", "--version", "0.1.0", "-d", helmRun.dir}, flags(dir)...)...)
		},
	}}
}

// certificateDocker is Docker's engine with an /etc/docker and an /etc/hosts of its own.
// The registry has a name there, and the address ::1: at 127.0.0.1 the engine would look
// at no certificate.
func certificateDocker(t *testing.T, s *System, c contents) certificateClient {
	etc := t.TempDir()
	cable := newCable(t, "[::1]:"+strconv.Itoa(freePort(t)), s.Addr)
	host := namedRegistry + ":" + strconv.Itoa(portOf(t, cable.Addr))
	certs := filepath.Join(etc, "docker", "certs.d", host)
	if err := os.MkdirAll(certs, 0o700); err != nil {
		t.Fatal(err)
	}
	certstest.Write(t, filepath.Join(etc, "hosts"), []byte("127.0.0.1 localhost\n::1 "+namedRegistry+"\n"))
	engine, _ := startEngine(t, []string{"/usr/bin/unshare", "--mount", "--propagation", "private", "/bin/sh", "-c",
		`mkdir -p /etc/docker && mount --bind ` + etc + `/docker /etc/docker && mount --bind ` + etc + `/hosts /etc/hosts && exec "$0" "$@"`},
		"--iptables=false", "--ip6tables=false", "--bridge=none")
	run := NewCommands(t, "DOCKER_HOST="+engine)
	run.Run(t, "skopeo", "copy", "-q", "--dest-daemon-host", engine, "oci:"+c.image.dir+":1", "docker-daemon:certificates:1")
	try := func(dir string, args ...string) (string, string, error) {
		if err := os.RemoveAll(certs); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(certs, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		return run.Try(docker, args...)
	}
	return certificateClient{
		name: "docker",
		push: func(dir, repo string) (string, string, error) {
			run.Run(t, docker, "tag", "certificates:1", host+"/"+repo+":1")
			return try(dir, "push", host+"/"+repo+":1")
		},
		pull: func(dir, repo string) (string, string, error) { return try(dir, "pull", host+"/"+repo+":1") },
	}
}
