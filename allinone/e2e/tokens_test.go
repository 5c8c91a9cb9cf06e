//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// withTokens has clients sent to the token service. Each gateway names itself, so
// that a token of one is shown to another.
func withTokens(t *testing.T, topology Topology) *System {
	t.Helper()
	users := filepath.Join(t.TempDir(), "htpasswd")
	var lines strings.Builder
	for _, user := range []string{"alice", "bob"} {
		out, err := exec.Command("htpasswd", "-nbB", "-C", "5", user, "pw of "+user).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(strings.TrimSpace(string(out)) + "\n")
	}
	if err := os.WriteFile(users, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return Start(t, Options{Topology: topology, Edit: func(config map[string]any) {
		h, ok := config["http"].(map[string]any)
		if !ok {
			return
		}
		h["externalUrl"] = "http://registry.test"
		h["auth"] = map[string]any{
			"htpasswd": map[string]any{"path": users}, "apikey": true,
			"token": map[string]any{"realm": fmt.Sprintf("http://127.0.0.1:%v/zot/auth/token", h["port"])},
		}
	}})
}

// apiKey makes an API key of alice.
func apiKey(t *testing.T, s *System, body string) (id, key string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/zot/auth/apikey", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("alice", "pw of alice")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		UUID   string `json:"uuid"`
		APIKey string `json:"apiKey"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.APIKey == "" {
		t.Fatalf("API key: %d, %v", resp.StatusCode, err)
	}
	return got.UUID, got.APIKey
}

// TestTokens logs in, pushes, pulls and logs out with the clients people use, by
// password and by API key. Afterwards each is refused.
func TestTokens(t *testing.T) {
	engine := startDockerd(t)
	c := makeContents(t, engine)
	chart := t.TempDir()
	helmRun := NewCommands(t)
	helmRun.Run(t, Client(t, "helm"), "create", filepath.Join(chart, "chart"))
	helmRun.Run(t, Client(t, "helm"), "package", filepath.Join(chart, "chart"), "-d", chart)

	t.Run("device code", func(t *testing.T) { testDeviceLogin(t, c) })
	for _, topology := range []Topology{Linked, TwoGateways} {
		t.Run(string(topology), func(t *testing.T) {
			s := withTokens(t, topology)
			_, key := apiKey(t, s, `{"label":"e2e"}`)
			for kind, password := range map[string]string{"password": "pw of alice", "key": key} {
				for _, client := range tokenClients(t, engine, c, chart) {
					if topology == TwoGateways && client.name == "crane" {
						continue // it takes no realm at a private address but that of the registry
					}
					t.Run(client.name+"/"+kind, func(t *testing.T) {
						run := client.commands(t)
						repo := "tokens/" + client.name + "/" + kind
						if _, _, err := client.push(run, s.Addr, repo); err == nil {
							t.Fatal("a push without a login")
						}
						if stdout, stderr, err := client.login(run, s.Addr, "alice", "wrong"); err == nil {
							t.Fatalf("a login with a wrong password:\n%s%s", stdout, stderr)
						}
						must := func(what string) func(stdout, stderr string, err error) {
							return func(stdout, stderr string, err error) {
								t.Helper()
								if err != nil {
									t.Fatalf("%s: %v\n%s%s", what, err, stdout, stderr)
								}
							}
						}
						must("login")(client.login(run, s.Addr, "alice", password))
						must("push")(client.push(run, s.Addr, repo))
						must("pull")(client.pull(run, s.Addr, repo))
						must("logout")(client.logout(run, s.Addr))
						if _, _, err := client.pull(run, s.Addr, repo); err == nil {
							t.Error("a pull after the logout")
						}
					})
				}
			}
			if topology == Linked {
				testKeyWithLimits(t, s, c)
			}
		})
	}
}

// testKeyWithLimits pushes and pulls with a key that is for one half of the names,
// and not to push there.
func testKeyWithLimits(t *testing.T, s *System, c contents) {
	crane := Client(t, "crane")
	alice := NewCommands(t)
	alice.Run(t, crane, "auth", "login", "--insecure", s.Addr, "-u", "alice", "-p", "pw of alice")
	for _, repo := range []string{"open/a", "shut/a"} {
		alice.Run(t, crane, "push", "--insecure", c.image.dir, s.Addr+"/"+repo+":1")
	}
	id, key := apiKey(t, s, `{"label":"reader","scopes":["open/**:pull"]}`)
	reader := NewCommands(t)
	reader.Run(t, crane, "auth", "login", "--insecure", s.Addr, "-u", "alice", "-p", key)
	got := reader.Run(t, crane, "digest", "--insecure", s.Addr+"/open/a:1")
	if digest.Digest(got) == "" {
		t.Errorf("digest: %q", got)
	}
	for what, args := range map[string][]string{
		"a push":              {"push", "--insecure", c.image.dir, s.Addr + "/open/a:2"},
		"another name's pull": {"pull", "--insecure", "--format", "oci", s.Addr + "/shut/a:1", t.TempDir()},
		"a delete":            {"delete", "--insecure", s.Addr + "/open/a@" + got},
		"a mount by a copy":   {"copy", "--insecure", s.Addr + "/shut/a:1", s.Addr + "/open/b:1"},
	} {
		if stdout, stderr, err := reader.Try(crane, args...); err == nil {
			t.Errorf("%s with a key that is not for it:\n%s%s", what, stdout, stderr)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.URL()+"/zot/auth/apikey?id="+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("alice", "pw of alice")
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("ending a key: %v, %v", resp, err)
	}
	resp.Body.Close()
}

// tokenClient is a client that logs in.
type tokenClient struct {
	name       string
	commands   func(t *testing.T) *Commands
	login      func(run *Commands, addr, user, password string) (string, string, error)
	push, pull func(run *Commands, addr, repo string) (string, string, error)
	logout     func(run *Commands, addr string) (string, string, error)
}

func tokenClients(t *testing.T, engine string, c contents, chart string) []tokenClient {
	crane, oras, helm := Client(t, "crane"), Client(t, "oras"), Client(t, "helm")
	plain := func(t *testing.T) *Commands { return NewCommands(t) }
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
			run := containersCommands(t)
			run.Run(t, "skopeo", "copy", "-q", "oci:"+c.image.dir+":1", "containers-storage:localhost/tokens:1")
			return run
		},
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try("podman", "login", "--tls-verify=false", "--authfile", run.dir+"/auth.json", "-u", user, "-p", password, addr)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("podman", "push", "-q", "--tls-verify=false", "--authfile", run.dir+"/auth.json", "localhost/tokens:1", addr+"/"+repo+":1")
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("podman", "pull", "-q", "--tls-verify=false", "--authfile", run.dir+"/auth.json", addr+"/"+repo+":1")
		},
		logout: func(run *Commands, addr string) (string, string, error) {
			return run.Try("podman", "logout", "--authfile", run.dir+"/auth.json", addr)
		},
	}, {
		name: "skopeo", commands: plain,
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			return run.Try("skopeo", "login", "--tls-verify=false", "--authfile", run.dir+"/auth.json", "-u", user, "-p", password, addr)
		},
		push: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("skopeo", "copy", "-q", "--authfile", run.dir+"/auth.json", "--dest-tls-verify=false", "oci:"+c.image.dir+":1", "docker://"+addr+"/"+repo+":1")
		},
		pull: func(run *Commands, addr, repo string) (string, string, error) {
			return run.Try("skopeo", "copy", "-q", "--authfile", run.dir+"/auth.json", "--src-tls-verify=false", "docker://"+addr+"/"+repo+":1", "oci:"+fresh()+":1")
		},
		logout: func(run *Commands, addr string) (string, string, error) {
			return run.Try("skopeo", "logout", "--authfile", run.dir+"/auth.json", addr)
		},
	}, {
		name: "crane", commands: plain,
		login: func(run *Commands, addr, user, password string) (string, string, error) {
			// crane only writes down what it is given.
			if stdout, stderr, err := run.Try(crane, "auth", "login", "--insecure", addr, "-u", user, "-p", password); err != nil {
				return stdout, stderr, err
			}
			return run.Try(crane, "catalog", "--insecure", addr)
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
