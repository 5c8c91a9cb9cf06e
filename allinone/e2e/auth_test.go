//go:build e2e

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAuth logs in, pushes, pulls and logs out, by each method that takes a password,
// in both topologies: with every client that people use in one of each, and with
// docker in all.
func TestAuth(t *testing.T) {
	engine := startDockerd(t)
	directory := StartDirectory(t)
	for _, topology := range []Topology{Linked, Split} {
		for _, method := range []string{"htpasswd", "ldap"} {
			t.Run(string(topology)+"/"+method, func(t *testing.T) {
				htpasswd := filepath.Join(t.TempDir(), "htpasswd")
				block := map[string]any{"ldap": directory.Config()}
				user, password := "alice", password("alice")
				if method == "htpasswd" {
					user, password = "admin", "secretpassword"
					block = map[string]any{"htpasswd": map[string]any{"path": htpasswd}}
					// As zot's guide has it.
					line := NewCommands(t).Run(t, "/usr/bin/htpasswd", "-Bbn", user, password)
					if err := os.WriteFile(htpasswd, []byte(line+"\n"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				s := startWatched(t, Options{Topology: topology, Edit: func(c map[string]any) {
					c["http"].(map[string]any)["auth"] = block
				}}, user, password)
				testLogins(t, s, engine, user, password, (topology == Linked) == (method == "htpasswd"))
				s.checkMgmt(t, method)
			})
		}
	}
}

// testLogins drives each client: refused before the login, and with a wrong
// password; then login, push, pull, logout, and refused again.
func testLogins(t *testing.T, s *System, engine, user, password string, all bool) {
	build := buildContext(t)
	type client struct {
		name, env     string
		login, logout []string // the password comes on standard input
		push, pull    [][]string
	}
	ref := func(repo string) string { return s.Addr + "/" + repo + ":1" }
	buildImage(t, engine, build, "amd64", ref("docker"), ref("docker"))
	crane, oras, helm := Client(t, "crane"), Client(t, "oras"), Client(t, "helm")
	files := t.TempDir()
	layout := filepath.Join(files, "layout")
	// Something to push for those that build nothing.
	NewCommands(t, "DOCKER_HOST="+engine).Run(t, docker, "save", "-o", filepath.Join(files, "image.tar"), ref("docker"))
	NewCommands(t).Run(t, "skopeo", "copy", "docker-archive:"+filepath.Join(files, "image.tar"), "oci:"+layout+":1")
	NewCommands(t).Run(t, helm, "create", filepath.Join(files, "chart"))
	NewCommands(t).Run(t, helm, "package", filepath.Join(files, "chart"), "-d", files)
	podman := []string{"podman", "--root", filepath.Join(files, "p"), "--runroot", filepath.Join(files, "r"), "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"}
	podmanDo := func(args ...string) []string { return append(append([]string{}, podman...), args...) }
	for _, c := range []client{{
		name: "docker", env: "DOCKER_HOST=" + engine,
		login: []string{docker, "login", "-u", user, "--password-stdin", s.Addr}, logout: []string{docker, "logout", s.Addr},
		push: [][]string{{docker, "push", ref("docker")}}, pull: [][]string{{docker, "pull", ref("docker")}},
	}, {
		name:  "podman",
		login: podmanDo("login", "--tls-verify=false", "-u", user, "--password-stdin", s.Addr), logout: podmanDo("logout", s.Addr),
		push: [][]string{podmanDo("load", "-i", filepath.Join(files, "image.tar")), podmanDo("push", "--tls-verify=false", ref("docker"), "docker://"+ref("podman"))},
		pull: [][]string{podmanDo("pull", "--tls-verify=false", ref("podman"))},
	}, {
		name:  "skopeo",
		login: []string{"skopeo", "login", "--tls-verify=false", "-u", user, "--password-stdin", s.Addr}, logout: []string{"skopeo", "logout", s.Addr},
		push: [][]string{{"skopeo", "copy", "--dest-tls-verify=false", "oci:" + layout + ":1", "docker://" + ref("skopeo")}},
		pull: [][]string{{"skopeo", "inspect", "--tls-verify=false", "docker://" + ref("skopeo")}},
	}, {
		name:  "crane",
		login: []string{crane, "auth", "login", "-u", user, "--password-stdin", s.Addr}, logout: []string{crane, "auth", "logout", s.Addr},
		push: [][]string{{crane, "push", layout, ref("crane")}}, pull: [][]string{{crane, "pull", ref("crane"), filepath.Join(files, "crane.tar")}},
	}, {
		name:  "oras",
		login: []string{oras, "login", "--plain-http", "-u", user, "--password-stdin", s.Addr}, logout: []string{oras, "logout", s.Addr},
		push: [][]string{{oras, "push", "--plain-http", "--disable-path-validation", ref("oras"), filepath.Join(files, "image.tar")}},
		pull: [][]string{{oras, "pull", "--plain-http", "--allow-path-traversal", "-o", filepath.Join(files, "out"), ref("oras")}},
	}, {
		name:  "helm",
		login: []string{helm, "registry", "login", "--plain-http", "-u", user, "--password-stdin", s.Addr}, logout: []string{helm, "registry", "logout", s.Addr},
		push: [][]string{{helm, "push", "--plain-http", filepath.Join(files, "chart-0.1.0.tgz"), "oci://" + s.Addr + "/helm"}},
		pull: [][]string{{helm, "pull", "--plain-http", "--version", "0.1.0", "-d", t.TempDir(), "oci://" + s.Addr + "/helm/chart"}},
	}} {
		if c.name != "docker" && !all {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			home := t.TempDir()
			run := NewCommands(t, c.env, "REGISTRY_AUTH_FILE="+filepath.Join(home, "auth.json"))
			if err := os.WriteFile(filepath.Join(home, "auth.json"), []byte("{}"), 0o600); err != nil { // podman wants one
				t.Fatal(err)
			}
			last := c.push[len(c.push)-1]
			refused := func(when string) {
				t.Helper()
				if out, diag, err := run.Try(last[0], last[1:]...); err == nil {
					t.Fatalf("%s the push works:\n%s%s", when, out, diag)
				} else if said := strings.ToLower(out + diag); !strings.Contains(said, "unauthorized") && !strings.Contains(said, "401") && !strings.Contains(said, "authentication required") && !strings.Contains(said, "no basic auth credentials") && !strings.Contains(said, "basic credential not found") {
					t.Errorf("%s the push fails for another reason:\n%s%s", when, out, diag)
				}
			}
			for _, step := range c.push[:len(c.push)-1] {
				run.Run(t, step[0], step[1:]...)
			}
			refused("before the login")
			if out, diag, err := run.tryInput("wrong", c.login[0], c.login[1:]...); err == nil && c.name != "crane" { // which asks nobody
				t.Fatalf("a login with a wrong password works:\n%s%s", out, diag)
			}
			if out, diag, err := run.tryInput(password, c.login[0], c.login[1:]...); err != nil {
				t.Fatalf("login: %v\n%s%s", err, out, diag)
			}
			run.Run(t, last[0], last[1:]...)
			for _, step := range c.pull {
				run.Run(t, step[0], step[1:]...)
			}
			run.Run(t, c.logout[0], c.logout[1:]...)
			refused("after the logout")
		})
	}
}

// checkMgmt reads what zot's clients read before they log in.
func (s *System) checkMgmt(t *testing.T, method string) {
	t.Helper()
	res, err := http.Get(s.URL() + "/v2/_zot/ext/mgmt")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		HTTP struct{ Auth map[string]any }
	}
	if err := json.Unmarshal(text, &got); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("mgmt: %d, %v", res.StatusCode, err)
	}
	if _, ok := got.HTTP.Auth[method]; !ok || len(got.HTTP.Auth) != 1 {
		t.Errorf("mgmt says %s", text)
	}
}

// TestAuthDirectory asks slapd itself about what goes wrong with directories: names
// that mean something in filters, empty passwords, TLS that does not hold, outages.
func TestAuthDirectory(t *testing.T) {
	d := StartDirectory(t)
	start := func(ldap map[string]any) *System {
		return Start(t, Options{Topology: Linked, Edit: func(c map[string]any) {
			c["http"].(map[string]any)["auth"] = map[string]any{"ldap": ldap}
		}})
	}
	status := func(s *System, user, password string) int {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, s.URL()+"/v2/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth(user, password)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	credentials := filepath.Join(t.TempDir(), "ldap.json")
	if err := os.WriteFile(credentials, []byte(`{"bindDN": "cn=admin,dc=example,dc=com", "bindPassword": "`+directoryPassword+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		ldap map[string]any
		want int // for alice
	}{
		"LDAPS":                    {d.Config(), 200},
		"StartTLS":                 {d.Plain(map[string]any{"startTLS": true}), 200},
		"clear text":               {d.Plain(map[string]any{"insecure": true}), 200},
		"zot's credentials file":   {d.Plain(map[string]any{"startTLS": true, "bindDN": nil, "bindPassword": nil, "credentialsFile": credentials}), 200},
		"an authority unknown":     {d.Plain(map[string]any{"port": strconv.Itoa(d.TLSPort), "cacert": nil}), 503},
		"unknown, and not checked": {d.Plain(map[string]any{"port": strconv.Itoa(d.TLSPort), "cacert": nil, "skipVerify": true}), 200},
		"StartTLS, unknown":        {d.Plain(map[string]any{"startTLS": true, "cacert": nil}), 503},
		"a wrong bind password":    {d.Plain(map[string]any{"insecure": true, "bindPassword": "x"}), 503},
		"a filter that has her":    {d.Plain(map[string]any{"insecure": true, "userFilter": "(memberOf=cn=admins,ou=groups,dc=example,dc=com)"}), 200},
		"a filter that has not":    {d.Plain(map[string]any{"insecure": true, "userFilter": "(memberOf=cn=developers,ou=groups,dc=example,dc=com)"}), 401},
		"nobody there":             {d.Plain(map[string]any{"insecure": true, "port": strconv.Itoa(freePort(t))}), 503},
		"a base that is not there": {d.Plain(map[string]any{"insecure": true, "baseDN": "ou=none,dc=example,dc=com"}), 401},
	} {
		for key, v := range test.ldap {
			if v == nil {
				delete(test.ldap, key)
			}
		}
		s := start(test.ldap)
		if got := status(s, "alice", password("alice")); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}

	s := start(d.Plain(map[string]any{"insecure": true, "subtreeSearch": false}))
	if got := status(s, "bob", password("bob")); got != 401 {
		t.Errorf("somebody further down: %d", got)
	}
	s = start(d.Config())
	for _, test := range []struct {
		row, user, password string
		want                int
	}{
		{"", "bob", password("bob"), 200},
		{"", "ALICE", password("alice"), 200},
		{"", "s*(t)\\r", password("star"), 200},
		{"", "alice", password("bob"), 401},
		{"", "nobody", password("nobody"), 401},
		{"S-041", "alice", "", 401},
		{"S-041", "alice", "\x00\x00", 401},
		{"S-042", "*", password("alice"), 401},
		{"S-042", "a*", password("alice"), 401},
		{"S-042", "*)(uid=*", password("alice"), 401},
		{"S-042", "alice)(&)", password("alice"), 401},
		{"S-042", `\61lice`, password("alice"), 401},
		{"S-042", "alice\x00", password("alice"), 401},
		{"S-042", strings.Repeat("a", 10000), password("alice"), 401},
		{"S-042", "twin", password("twin"), 401}, // two entries
	} {
		if got := status(s, test.user, test.password); got != test.want {
			t.Errorf("%s: %.20q with %q: %d, want %d", test.row, test.user, test.password, got, test.want)
		}
	}
	// A directory that is gone: who was verified comes in still, nobody else.
	if err := d.process.Stop(); err != nil {
		t.Logf("slapd: %v", err)
	}
	began := time.Now()
	if got := status(s, "bob", password("bob")); got != 200 && time.Since(began) < 30*time.Second {
		t.Errorf("without the directory, and known: %d", got)
	}
	if got := status(s, "alice", "another"); got != 503 {
		t.Errorf("without the directory: %d", got)
	}
}

// tryInput is Try with something on standard input.
func (c *Commands) tryInput(input, name string, args ...string) (stdout, stderr string, err error) {
	file := filepath.Join(c.dir, "input")
	if err := os.WriteFile(file, []byte(input), 0o600); err != nil {
		return "", "", err
	}
	return c.Try("/bin/sh", append([]string{"-c", `exec "$@" <"$0"`, file, name}, args...)...)
}
