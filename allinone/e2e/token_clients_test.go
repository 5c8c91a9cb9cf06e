//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// tokenClient is a client that logs in, and keeps what it needs for it where it does so
// by itself.
type tokenClient struct {
	name       string
	believing  bool // its login asks nobody whether the password is right
	commands   func(t *testing.T) *Commands
	login      func(run *Commands, addr, user, password string) (string, string, error)
	push, pull func(run *Commands, addr, repo string) (string, string, error)
	logout     func(run *Commands, addr string) (string, string, error)
}

func tokenClients(t *testing.T, engine string, c contents, chart string) []tokenClient {
	crane, oras, helm := Client(t, "crane"), Client(t, "oras"), Client(t, "helm")
	plain := func(t *testing.T) *Commands { return inRuntimeDir(t, NewCommands(t)) }
	id := 0
	fresh := func() string { id++; return filepath.Join(t.TempDir(), fmt.Sprint("back", id)) }
	return []tokenClient{{
		name: "docker",
		commands: func(t *testing.T) *Commands {
			run := NewCommands(t, "DOCKER_HOST="+engine)
			run.Run(t, "skopeo", "copy", "-q", "--dest-daemon-host", engine, "oci:"+c.image.dir+":1", "docker-daemon:tokens:1")
			return run
		},
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try(docker, "login", "-u", user, "-p", password, addr)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			if _, stderr, err := run.Try(docker, "tag", "tokens:1", addr+"/"+repo+":1"); err != nil {
				return "", stderr, err
			}
			return run.Try(docker, "push", addr+"/"+repo+":1")
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try(docker, "pull", addr+"/"+repo+":1")
		},
		logout: func(run *Commands, addr string) (string, string, error) { return run.Try(docker, "logout", addr) },
	}, {
		name: "podman",
		commands: func(t *testing.T) *Commands {
			run := inRuntimeDir(t, containersCommands(t))
			run.Run(t, "skopeo", "copy", "-q", "oci:"+c.image.dir+":1", "containers-storage:localhost/tokens:1")
			return run
		},
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try("podman", "login", "--tls-verify=false", "-u", user, "-p", password, addr)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("podman", "push", "-q", "--tls-verify=false", "localhost/tokens:1", addr+"/"+repo+":1")
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("podman", "pull", "-q", "--tls-verify=false", addr+"/"+repo+":1")
		},
		logout: func(run *Commands, addr string) (string, string, error) {
			return run.Try("podman", "logout", addr)
		},
	}, {
		name: "skopeo", commands: plain,
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try("skopeo", "login", "--tls-verify=false", "-u", user, "-p", password, addr)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("skopeo", append(skopeoToken(run, addr, "dest"), "--dest-tls-verify=false", "oci:"+c.image.dir+":1", "docker://"+addr+"/"+repo+":1")...)
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("skopeo", append(skopeoToken(run, addr, "src"), "--src-tls-verify=false", "docker://"+addr+"/"+repo+":1", "oci:"+fresh()+":1")...)
		},
		logout: func(run *Commands, addr string) (string, string, error) {
			return run.Try("skopeo", "logout", addr)
		},
	}, {
		name: "crane", believing: true, commands: plain,
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try(crane, "auth", "login", "--insecure", addr, "-u", user, "-p", password)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try(crane, "push", "--insecure", c.image.dir, addr+"/"+repo+":1")
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try(crane, "pull", "--insecure", "--format", "oci", addr+"/"+repo+":1", fresh())
		},
		logout: func(run *Commands, addr string) (string, string, error) {
			return run.Try(crane, "auth", "logout", addr)
		},
	}, {
		name: "oras", commands: plain,
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try(oras, "login", "--plain-http", "-u", user, "-p", password, addr)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try(oras, "cp", "--from-oci-layout", c.image.dir+":1", "--to-plain-http", addr+"/"+repo+":1")
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try(oras, "cp", "--from-plain-http", addr+"/"+repo+":1", "--to-oci-layout", fresh()+":1")
		},
		logout: func(run *Commands, addr string) (string, string, error) { return run.Try(oras, "logout", addr) },
	}, {
		name: "helm", commands: plain,
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try(helm, "registry", "login", "--plain-http", "-u", user, "-p", password, addr)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try(helm, "push", "--plain-http", filepath.Join(chart, "chart-0.1.0.tgz"), "oci://"+addr+"/"+repo)
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try(helm, "pull", "--plain-http", "oci://"+addr+"/"+repo+"/chart", "--version", "0.1.0", "-d", run.dir)
		},
		logout: func(run *Commands, addr string) (string, string, error) {
			return run.Try(helm, "registry", "logout", addr)
		},
	}}
}

// inRuntimeDir has podman and skopeo keep credentials in a directory of run's own.
func inRuntimeDir(t *testing.T, run *Commands) *Commands {
	t.Helper()
	dir := filepath.Join(run.dir, "runtime")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run.env = append(run.env, "XDG_RUNTIME_DIR="+dir)
	return run
}

// skopeoToken begins a copy by skopeo, which takes tokens for a registry as an option
// only: that of docker's configuration file, if there is one.
func skopeoToken(run *Commands, addr, side string) []string {
	args := []string{"copy", "-q"}
	text, err := os.ReadFile(filepath.Join(run.home, ".docker", "config.json"))
	if err != nil {
		return args
	}
	var kept struct {
		Auths map[string]struct {
			Token string `json:"registrytoken"`
		}
	}
	if json.Unmarshal(text, &kept) == nil && kept.Auths[addr].Token != "" {
		args = append(args, "--"+side+"-registry-token", kept.Auths[addr].Token)
	}
	return args
}
