//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A guideRule says what is done for a command of the guide. With neither
// instead nor why the command runs as it stands. With instead that runs in its
// place (a replacement for match, so $0 is the command). With why the command
// counts as replaced, for that reason.
type guideRule struct {
	match   *regexp.Regexp // of the whole command
	instead string
	why     string
	prepare func(t *testing.T, g *guide)             // before, once
	then    func(t *testing.T, g *guide, out string) // after
}

// The first rule that matches counts.
var guideRules = []guideRule{
	// Deploy the program.
	{match: command(`ZOT_VERSION=`), why: "nothing is downloaded"},
	{match: command(`curl -Lo zot https://github\.com/`), why: "bin/berth, as zot",
		then: func(t *testing.T, g *guide, _ string) { g.install(t) }},
	{match: command(`chmod \+x zot`)},
	{match: command(`cat > config\.json <<EOF`)},
	{match: command(`sudo mkdir -p /var/lib/zot`)},
	{match: command(`sudo chown \$USER /var/lib/zot`)},
	{match: command(`\./zot serve config\.json`), why: "in the background, on a free loopback port",
		then: func(t *testing.T, g *guide, _ string) { g.serve(t, readFile(t, g.sh, "config.json")) }},
	{match: command(`curl http://localhost:5000/v2/`),
		then: func(t *testing.T, g *guide, out string) {
			if !strings.Contains(out, `"distSpecVersion"`) {
				t.Errorf("GET /v2/ does not answer what the guide shows: %s", out)
			}
		}},

	// Deploy the container.
	{match: command(`docker run -d \\\n--name zot`),
		instead: "docker run -d --name zot --network host -v zot-data:/var/lib/zot -v $$PWD/image-config.json:/etc/berth/config.json:ro " + testImage,
		why:     "an image of bin/berth built here, in the host's network and so on a free loopback port; TestImage runs the command as it stands",
		prepare: func(t *testing.T, g *guide) { g.container(t) },
		then:    func(t *testing.T, g *guide, _ string) { g.waitContainer(t) }},
	{match: command(`docker tag nginx:alpine `)},
	{match: command(`docker push localhost:5000/library/nginx:alpine`)},
	{match: command(`curl -s http://localhost:5000/v2/_catalog \| jq \.`),
		then: func(t *testing.T, g *guide, out string) { listed(t, out, "library/nginx") }},
	{match: command(`kubectl `), why: "no cluster: the deployment's configuration is served on loopback"},

	// Users.
	{match: command(`htpasswd -Bbn \S+ \S+ >>? /etc/zot/htpasswd`),
		then: func(t *testing.T, g *guide, _ string) {
			text := readFile(t, g.sh, "etc/zot/htpasswd")
			if !strings.Contains(text, ":$2y$") {
				t.Errorf("htpasswd wrote no bcrypt line:\n%s", text)
			}
		}},

	// Pull through.
	{match: command(`docker pull zot\.example\.com/(\S+)( .*)?`), instead: "docker pull zot.example.com/$1",
		why: "no upstream is reachable: pulled from what was pushed under that name",
		prepare: func(t *testing.T, g *guide) {
			for _, name := range []string{"library/nginx:latest", "ghcr.io/kubernetes/kubectl:latest"} {
				g.sh.Run(t, docker, "tag", "nginx:alpine", g.addr+"/"+name)
				g.sh.Run(t, docker, "push", g.addr+"/"+name)
			}
		}},

	// Helm.
	{match: command(`export HELM_EXPERIMENTAL_OCI=1`),
		then: func(_ *testing.T, g *guide, _ string) { g.sh.env = append(g.sh.env, "HELM_EXPERIMENTAL_OCI=1") }},
	{match: command(`helm registry login zot\.example\.com`), instead: "${0} -u admin -p secretpassword",
		why: "name and password are asked for on a terminal"},
	{match: command(`helm package mychart/`),
		prepare: func(t *testing.T, g *guide) {
			g.sh.Run(t, "bash", "-c", "helm create mychart && sed -i 's/^version: .*/version: 1.0.0/' mychart/Chart.yaml && "+
				"printf 'annotations:\\n  %s: %s\\n  %s: %s\\n' org.opencontainers.image.source https://example.com/mychart "+
				"org.opencontainers.image.licenses MIT >>mychart/Chart.yaml") // the whole configuration asks for these
		}},
	{match: command(`helm push mychart-1\.0\.0\.tgz oci://.*`)},
	{match: command(`helm pull oci://.* --version 1\.0\.0`)},
	{match: command(`helm install myrelease (oci://.*) --version 1\.0\.0`), instead: "helm template myrelease $1 --version 1.0.0",
		why: "no cluster"},
	{match: command(`curl -s https://zot\.example\.com/v2/charts/mychart/tags/list \| jq \.`),
		then: func(t *testing.T, g *guide, out string) { listed(t, out, "1.0.0") }},

	// Signatures.
	{match: command(`cosign sign --key cosign\.key (\S+)`), instead: "${0} -y --tlog-upload=false",
		prepare: func(t *testing.T, g *guide) {
			g.sh.Run(t, docker, "tag", "nginx:alpine", g.addr+"/myapp:v1.0.0")
			g.sh.Run(t, docker, "push", g.addr+"/myapp:v1.0.0")
			g.sh.Run(t, "bash", "-c", "cosign generate-key-pair")
		}},
	{match: command(`cosign verify --key cosign\.pub (\S+)`), instead: "${0} --insecure-ignore-tlog --private-infrastructure"},
	{match: command(`curl -s https://zot\.example\.com/v2/myapp/tags/list \| jq \.`),
		then: func(t *testing.T, g *guide, out string) {
			listed(t, out, "v1.0.0")
			if !regexp.MustCompile(`"sha256-[0-9a-f]{64}\.sig"`).MatchString(out) {
				t.Errorf("no signature's tag in the list:\n%s", out)
			}
		}},

	// SBOM.
	{match: command(`syft .* > sbom\.json`), instead: `echo '{"spdxVersion": "SPDX-2.3", "name": "myapp", "packages": []}' > sbom.json`,
		why: "no syft: an SPDX document written by hand"},
	{match: command(`cosign attach sbom --sbom sbom\.json (\S+)`)},
	{match: command(`cosign download sbom (\S+)`),
		then: func(t *testing.T, g *guide, out string) {
			if !strings.Contains(out, `"spdxVersion": "SPDX-2.3"`) {
				t.Errorf("cosign does not download the SBOM that was attached:\n%s", out)
			}
		}},
}

// command matches a whole step that begins with the pattern.
func command(pattern string) *regexp.Regexp {
	if strings.HasSuffix(pattern, ")") || strings.HasSuffix(pattern, `(\S+)`) || strings.HasSuffix(pattern, "(.*)") {
		return regexp.MustCompile(`(?s)^` + pattern + `$`)
	}
	return regexp.MustCompile(`(?s)^` + pattern + `.*$`)
}

// listed fails unless the JSON document out has a list with want in it.
func listed(t *testing.T, out, want string) {
	t.Helper()
	var lists map[string]any
	if err := json.Unmarshal([]byte(out), &lists); err != nil {
		t.Errorf("not JSON: %v\n%s", err, out)
		return
	}
	for _, v := range lists {
		if list, ok := v.([]any); ok && slices.Contains(list, any(want)) {
			return
		}
	}
	t.Errorf("%q is not listed in %s", want, out)
}

// install puts the program where the guide downloads zot to.
func (g *guide) install(t *testing.T) {
	t.Helper()
	program, err := os.ReadFile(Program(t, "berth"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(g.dir, "zot"), program, 0o644); err != nil {
		t.Fatal(err)
	}
}

// container builds the image, and writes a configuration that does not listen
// beyond loopback.
func (g *guide) container(t *testing.T) {
	t.Helper()
	g.stop(t)
	host, port, _ := strings.Cut(g.addr, ":")
	writeFile(t, g.sh, "image-config.json", `{
  "storage": {"rootDirectory": "/var/lib/zot"},
  "http": {"address": "`+host+`", "port": "`+port+`"}
}`)
	buildImages(t, g.sh, "berth")
	t.Cleanup(func() { g.sh.Try(docker, "rm", "-f", "zot") })
}

// waitContainer waits until the container answers.
func (g *guide) waitContainer(t *testing.T) {
	t.Helper()
	_, stderr, err := g.sh.Try("curl", "-fsS", "--retry", "50", "--retry-connrefused", "--retry-delay", "0", "--retry-max-time", "15",
		"http://"+g.addr+"/readyz")
	if err != nil {
		log, _, _ := g.sh.Try(docker, "logs", "zot")
		t.Fatalf("the container does not answer: %v\n%s%s", err, stderr, log)
	}
}
