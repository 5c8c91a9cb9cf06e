//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestGuide does what the guide that zot users start from tells them to, with
// berth in zot's place: every command from the first deployment to Helm, cosign
// and SBOMs, and every configuration. What this machine cannot do (a download,
// a cluster) is replaced, and the replacement printed. A line that is neither
// run nor replaced fails the test.
func TestGuide(t *testing.T) {
	steps := parseGuide(t, guideText(t))
	for _, step := range steps {
		if step.kind == stepCommand && ruleFor(step.text) == nil {
			t.Errorf("line %d of the guide is neither run nor replaced: %s", step.line, step.text)
		}
	}
	if t.Failed() {
		return
	}
	g := newGuide(t)
	count := map[string]int{}
	for _, step := range steps {
		switch step.kind {
		case stepWords, stepComment:
			count["words"]++
		case stepConfig:
			count["configurations"]++
			g.config(t, step)
		case stepDeploy:
			count["configurations"]++
			g.deploy(t, step)
		case stepCommand:
			count[g.command(t, step)]++
		}
	}
	t.Logf("%d commands run, %d replaced, %d configurations, %d lines of words",
		count["run"], count["replaced"], count["configurations"], count["words"])
	if count["run"] < 23 || count["configurations"] < 9 {
		t.Errorf("the guide has more to run than %v", count)
	}
}

// guide is the machine that the guide's reader sits at.
type guide struct {
	dir    string    // stands for the root directory of the machine, and is the working directory
	addr   string    // stands for localhost:5000 and zot.example.com
	scheme string    // of the server that runs
	sh     *Commands // what runs the commands
	server *Process  // nil before the first start
	served int       // configurations served so far
	done   map[string]bool
}

func newGuide(t *testing.T) *guide {
	engine := startDockerd(t)
	g := &guide{addr: loopback(freePort(t)), scheme: "http", done: map[string]bool{}}
	path := []string{"/usr/bin", "/usr/sbin", "/bin", "/sbin"}
	for _, client := range []string{"crane", "helm", "cosign"} {
		path = append(path, filepath.Dir(Client(t, client)))
	}
	g.sh = NewCommands(t, "DOCKER_HOST="+engine, "COSIGN_PASSWORD=pallet", "TUF_MIRROR=http://127.0.0.1:9", "USER=root")
	g.sh.env[0] = "PATH=" + strings.Join(path, ":")
	g.dir = g.sh.dir
	for _, dir := range []string{"etc/zot", "var/log/zot", "certs"} {
		if err := os.MkdirAll(filepath.Join(g.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// The certificate and the image that the guide takes for granted.
	g.sh.Run(t, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=zot.example.com",
		"-addext", "subjectAltName=DNS:zot.example.com,IP:127.0.0.1", "-keyout", "certs/server.key", "-out", "certs/server.crt")
	g.sh.env = append(g.sh.env, "SSL_CERT_FILE="+filepath.Join(g.dir, "certs/server.crt"))
	// Its whole configuration asks for these labels (extensions.lint).
	buildImage(t, engine, buildContext(t), "amd64", "nginx:alpine", "guide",
		"org.opencontainers.image.source=https://example.com/nginx", "org.opencontainers.image.licenses=BSD-2-Clause")
	return g
}

// command runs one command of the guide, or what stands for it, and reports
// which of both it was.
func (g *guide) command(t *testing.T, step guideStep) string {
	t.Helper()
	rule := ruleFor(step.text)
	command, how := step.text, "run"
	if rule.instead != "" {
		command = rule.instead
	} else if rule.why != "" {
		command = ""
	}
	if rule.why != "" {
		how = "replaced"
	}
	if rule.prepare != nil && !g.done[rule.match.String()] {
		g.done[rule.match.String()] = true
		rule.prepare(t, g)
	}
	var out string
	if command != "" {
		if rule.instead != "" {
			command = rule.match.ReplaceAllString(step.text, rule.instead)
		}
		command = g.local(command)
		out = g.bash(t, step, command)
	}
	t.Logf("%-8s %4d: %s%s", how, step.line, firstLine(step.text), explain(rule, command))
	if rule.then != nil {
		rule.then(t, g, out)
	}
	return how
}

// ruleFor returns the first rule that matches the command, or nil.
func ruleFor(command string) *guideRule {
	for i := range guideRules {
		if guideRules[i].match.MatchString(command) {
			return &guideRules[i]
		}
	}
	return nil
}

// explain says what ran in a command's place, and why.
func explain(rule *guideRule, command string) string {
	switch {
	case rule.why != "" && command != "":
		return fmt.Sprintf("\n               in its place: %s (%s)", command, rule.why)
	case rule.why != "":
		return fmt.Sprintf("\n               in its place: %s", rule.why)
	case rule.instead != "":
		return "\n               as: " + command
	}
	return ""
}

// local turns names of the guide's machine into this test's.
func (g *guide) local(command string) string {
	return strings.NewReplacer(
		"sudo ", "",
		"zot-data:/var/lib/zot", "zot-data:/var/lib/zot", // in a container
		"/var/lib/zot", g.dir+"/var/lib/zot",
		"/var/log/zot", g.dir+"/var/log/zot",
		"/etc/zot", g.dir+"/etc/zot",
		"/certs/", g.dir+"/certs/",
		"/mnt/", g.dir+"/mnt/",
		"https://zot.example.com", g.url(),
		"zot.example.com", g.addr,
		"localhost:5000", g.addr,
	).Replace(command)
}

func (g *guide) url() string { return g.scheme + "://" + g.addr }

func (g *guide) bash(t *testing.T, step guideStep, command string) string {
	t.Helper()
	stdout, stderr, err := g.sh.Try("bash", "-e", "-o", "pipefail", "-c", command)
	if err != nil {
		t.Errorf("line %d of the guide: %s\nas %s: %v\n%s%s", step.line, step.text, command, err, stdout, stderr)
	}
	return stdout + stderr
}

// serve puts a configuration on the guide's machine and serves it from a
// program in place of the one that runs. accepted are keys that are not built.
func (g *guide) serve(t *testing.T, config string, accepted ...string) {
	t.Helper()
	g.stop(t)
	g.served++
	g.scheme = "http"
	if strings.Contains(config, `"tls":`) {
		g.scheme = "https"
	}
	path := filepath.Join(g.dir, fmt.Sprintf("served-%d.json", g.served))
	if err := os.WriteFile(path, []byte(g.reachable(config)), 0o644); err != nil {
		t.Fatal(err)
	}
	g.server = &Process{
		Name:  "berth",
		Path:  Program(t, "berth"),
		Args:  append([]string{"serve"}, append(accepting(accepted), path)...),
		ready: g.url() + "/readyz",
	}
	g.server.start(t)
	g.server.waitReady(t)
}

func (g *guide) stop(t *testing.T) {
	t.Helper()
	if g.server != nil {
		if err := g.server.Stop(); err != nil {
			t.Error(err)
		}
		g.server = nil
	}
}

var (
	anyAddress = regexp.MustCompile(`"address": *"0\.0\.0\.0"`)
	anyPort    = regexp.MustCompile(`"port": *"5000"`)
)

// reachable changes where a configuration of the guide listens and stores, and
// nothing else.
func (g *guide) reachable(config string) string {
	host, port, _ := strings.Cut(g.addr, ":")
	config = anyAddress.ReplaceAllString(config, `"address": "`+host+`"`)
	config = anyPort.ReplaceAllString(config, `"port": "`+port+`"`)
	return g.local(config)
}

// config checks a configuration of the guide, and serves it if it is a whole
// one. An excerpt is completed with a root directory. Keys whose feature is not
// built are accepted one by one, by the names that verify gives them, and
// printed.
func (g *guide) config(t *testing.T, step guideStep) {
	t.Helper()
	text := step.text
	whole := strings.Contains(text, `"rootDirectory"`)
	how := "verified and served"
	if !whole {
		text = strings.Replace(text, "{", `{"storage": {"rootDirectory": "/var/lib/zot"},`, 1)
		how = "excerpt verified with a root directory"
	}
	path := filepath.Join(g.dir, fmt.Sprintf("line-%d.json", step.line))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	accepted := verifyAccepting(t, g.sh, path)
	if len(accepted) > 0 {
		how += ", not built yet: " + strings.Join(accepted, " ")
	}
	if whole {
		credentials := ""
		if strings.Contains(text, `"htpasswd"`) {
			g.users(t, step)
			credentials = "-u admin:secretpassword "
		}
		g.serve(t, text, accepted...)
		g.bash(t, step, "curl -fsS "+credentials+g.url()+"/v2/")
		if credentials != "" { // as whoever goes on with this server must
			g.bash(t, step, docker+" login -u admin -p secretpassword "+g.addr)
		}
	}
	t.Logf("%-8s %4d: %s", "config", step.line, how)
}

// users makes the password file that the guide makes further down.
func (g *guide) users(t *testing.T, step guideStep) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(g.dir, "etc/zot/htpasswd")); err != nil {
		g.bash(t, step, g.local("htpasswd -Bbn admin secretpassword > /etc/zot/htpasswd"))
	}
}

var unbuiltKey = regexp.MustCompile(`--accept-unbuilt ([A-Za-z0-9_.\[\]*/-]+)`)

// verifyAccepting runs `berth verify` until it accepts the file, each time
// adding the unbuilt keys that it names, and returns those.
func verifyAccepting(t *testing.T, sh *Commands, path string) (accepted []string) {
	t.Helper()
	for range 20 {
		args := append([]string{"verify"}, append(accepting(accepted), path)...)
		stdout, stderr, err := sh.Try(Program(t, "berth"), args...)
		if err == nil {
			return accepted
		}
		named := unbuiltKey.FindAllStringSubmatch(stdout+stderr, -1)
		if len(named) == 0 {
			t.Errorf("berth verify %s: %v\n%s%s", filepath.Base(path), err, stdout, stderr)
			return accepted
		}
		for _, m := range named {
			accepted = append(accepted, m[1])
		}
	}
	t.Errorf("berth verify %s names ever more keys: %v", filepath.Base(path), accepted)
	return accepted
}

// accepting returns the flags that accept unbuilt keys.
func accepting(keys []string) []string {
	var args []string
	for _, key := range keys {
		args = append(args, "--accept-unbuilt", key)
	}
	return args
}

// deploy serves the configuration of a Kubernetes deployment and asks what its
// probes ask.
func (g *guide) deploy(t *testing.T, step guideStep) {
	t.Helper()
	_, rest, ok := strings.Cut(step.text, "config.json: |\n")
	config, _, ok2 := strings.Cut(rest, "\n---")
	if !ok || !ok2 || !json.Valid([]byte(config)) {
		t.Fatalf("the deployment at line %d has no config.json:\n%s", step.line, step.text)
	}
	g.bash(t, step, "docker rm -f zot")
	g.config(t, guideStep{step.line, stepConfig, config})
	for _, want := range []string{"- serve\n- /etc/zot/config.json", "livenessProbe:\nhttpGet:\npath: /v2/", "readinessProbe:\nhttpGet:\npath: /v2/"} {
		if !strings.Contains(step.text, want) {
			t.Errorf("the deployment at line %d is not the one this test knows: no %q", step.line, want)
		}
	}
	t.Logf("%-8s %4d: its configuration served, and asked what its probes ask\n               in its place: no cluster here", "deploy", step.line)
}

func firstLine(s string) string {
	first, _, more := strings.Cut(s, "\n")
	if more {
		first += " …"
	}
	return first
}
