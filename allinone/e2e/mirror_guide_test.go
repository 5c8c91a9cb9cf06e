//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMirrorGuide serves every configuration of the guide that mirrors something,
// its extensions.sync word for word, in an internet where the registries it names
// are servers of the test, and then does the guide's hands-on exercise, command by
// command.
func TestMirrorGuide(t *testing.T) {
	text := guideText(t)
	engine := startDockerd(t)
	l := makeContents(t, engine).image
	hub, other, primary := Start(t, Options{Topology: Peer}), Start(t, Options{Topology: Linked}), Start(t, Options{Topology: Linked})
	for _, name := range []string{"library/nginx:latest", "library/nginx:alpine", "library/nginx:1.24", "library/nginx:1.19", "library/alpine:3.19", "library/alpine:3.16"} {
		pushAs(t, hub, name, l)
	}
	for _, name := range []string{"kubernetes/kubectl:latest", "google/pause:1", "warehouse/pick:v1", "office/mail:v1"} {
		pushAs(t, other, name, l)
	}
	pushAs(t, primary, "team/app:v1", l)
	world := newInternet(t, map[string]*site{
		"registry-1.docker.io": {backend: hub.Addr}, "ghcr.io": {backend: other.Addr}, "gcr.io": {backend: other.Addr}, "harbor.hq.example.com": {backend: other.Addr},
		"zot-us-east.example.com": {backend: primary.Addr, user: "sync-user", password: "sync-password"},
	})
	configs := guideMirrors(text)
	if len(configs) < 6 {
		t.Fatalf("the guide has %d configurations that mirror something, want 6", len(configs))
	}
	for _, c := range configs {
		t.Run(fmt.Sprintf("line %d", c.line), func(t *testing.T) { testGuideMirror(t, world, c) })
	}
	exercise := configs[len(configs)-1]
	t.Run("exercise", func(t *testing.T) { testGuideExercise(t, world, engine, exercise, text) })
}

// pushAs pushes a layout under a name with a tag.
func pushAs(t *testing.T, s *System, ref string, l layout) {
	t.Helper()
	NewCommands(t).Run(t, "skopeo", "copy", "-q", "--all", "--dest-tls-verify=false", "oci:"+l.dir+":1", "docker://"+s.Addr+"/"+ref)
}

// guideMirrors returns the JSON objects of the guide that mirror registries.
func guideMirrors(text string) []guideStep {
	var all []guideStep
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] != "{" {
			continue
		}
		first, depth := i, 0
		for ; i < len(lines); i++ {
			depth += strings.Count(lines[i], "{") - strings.Count(lines[i], "}")
			if depth == 0 {
				break
			}
		}
		if i == len(lines) {
			break
		}
		if block := strings.Join(lines[first:i+1], "\n"); strings.Contains(block, `"sync"`) && strings.Contains(block, `"urls"`) {
			all = append(all, guideStep{first + 1, stepConfig, block})
		}
	}
	return all
}

// guideMirrorRule is what a test reads of a rule.
type guideMirrorRule struct {
	URLs         []string `json:"urls"`
	OnDemand     bool     `json:"onDemand"`
	PollInterval string   `json:"pollInterval"`
}

// pulledFrom are names that are pulled from a registry on demand, and copiedFrom
// tags that are copied if there is a schedule and no selection of tags.
var (
	pulledFrom = map[string][]string{
		"registry-1.docker.io":    {"library/nginx:latest"},
		"ghcr.io":                 {"ghcr.io/kubernetes/kubectl:latest", "kubernetes/kubectl:latest"},
		"gcr.io":                  {"google/pause:1", "gcr.io/google/pause:1"},
		"zot-us-east.example.com": {"team/app:v1"},
		"harbor.hq.example.com":   {"warehouse/pick:v1"},
	}
	copiedFrom = map[string]map[string][]string{
		"registry-1.docker.io":    {"library/nginx": {"1.24", "1.19", "alpine", "latest"}, "library/alpine": {"3.16", "3.19"}},
		"zot-us-east.example.com": {"team/app": {"v1"}},
		"harbor.hq.example.com":   {"warehouse/pick": {"v1"}},
	}
)

func testGuideMirror(t *testing.T, world *internet, c guideStep) {
	var config struct {
		Extensions struct {
			Sync json.RawMessage `json:"sync"`
		} `json:"extensions"`
	}
	var sync struct {
		Registries []guideMirrorRule `json:"registries"`
	}
	if err := json.Unmarshal([]byte(c.text), &config); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(config.Extensions.Sync, &sync); err != nil {
		t.Fatal(err)
	}
	s := Start(t, Options{Topology: Linked, Env: world.env, Edit: func(file map[string]any) {
		file["extensions"] = map[string]any{"sync": config.Extensions.Sync}
	}})
	for _, r := range sync.Registries {
		host := strings.TrimPrefix(r.URLs[0], "https://")
		if r.OnDemand {
			for _, ref := range pulledFrom[host] {
				pullThrough(t, s, ref)
			}
		}
		if r.PollInterval == "" {
			continue
		}
		want := copiedFrom[host]
		if strings.Contains(c.text, `"regex"`) { // the one configuration that selects tags
			want = map[string][]string{"library/nginx": {"1.24"}, "library/alpine": {"3.19"}}
		}
		for repo, tags := range want {
			awaitTags(t, s, repo, tags)
		}
	}
	// What no rule covers is not asked for.
	if status := statusOf(t, s.URL()+"/v2/office/unknown/manifests/v1"); status != http.StatusNotFound {
		t.Errorf("a repository that no registry has: %d", status)
	}
}

// pullThrough pulls all of an image and compares the digests.
func pullThrough(t *testing.T, s *System, ref string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "back")
	NewCommands(t).Run(t, "skopeo", "copy", "-q", "--all", "--src-tls-verify=false", "docker://"+s.Addr+"/"+ref, "oci:"+dir+":1")
}

// awaitTags waits until a repository has exactly these tags.
func awaitTags(t *testing.T, s *System, repo string, want []string) {
	t.Helper()
	slices.Sort(want)
	var got []string
	for deadline := time.Now().Add(2 * readyWithin); time.Now().Before(deadline); time.Sleep(readyPause) {
		var list struct {
			Tags []string `json:"tags"`
		}
		if resp, err := http.Get(s.URL() + "/v2/" + repo + "/tags/list"); err == nil {
			json.NewDecoder(resp.Body).Decode(&list)
			resp.Body.Close()
		}
		if got = list.Tags; slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("%s has tags %q, want %q", repo, got, want)
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

var (
	exerciseSkips = regexp.MustCompile(`^(kubectl|kind|pkill|sleep|cat|helm|Terminal window|#|$)`)
	exerciseRuns  = regexp.MustCompile(`^(time )?(docker|curl|echo) `)
)

// testGuideExercise runs what the exercise says between the start of the program
// and its end. There is no cluster: the configuration of its ConfigMap is served.
func testGuideExercise(t *testing.T, world *internet, engine string, config guideStep, text string) {
	sh := NewCommands(t, "DOCKER_HOST="+engine)
	addr := loopback(freePort(t))
	host, port, _ := strings.Cut(addr, ":")
	file := strings.NewReplacer(`"0.0.0.0"`, strconv.Quote(host), `"5000"`, strconv.Quote(port), "/var/lib/zot", filepath.Join(sh.dir, "zot")).Replace(config.text)
	path := filepath.Join(sh.dir, "config.json")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	accepted := verifyAccepting(t, sh, path)
	p := &Process{Name: "berth", Path: Program(t, "berth"), Env: world.env, Args: append(append([]string{"serve"}, accepting(accepted)...), path), ready: "http://" + addr + "/readyz"}
	p.start(t)
	p.await(t)

	_, steps, ok := strings.Cut(text, "# Verify Zot is running\n")
	steps, _, ok2 := strings.Cut(steps, "# The image is served from local cache")
	if !ok || !ok2 {
		t.Fatal("the exercise is not where it was in the guide")
	}
	heredoc := false
	ran := 0
	for line := range strings.Lines(steps) {
		line = strings.TrimSpace(line)
		switch {
		case heredoc:
			heredoc = line != "EOF"
		case strings.Contains(line, "<<EOF"):
			heredoc = true
		case line == "# Simulate network failure to DockerHub":
			sh.Run(t, "bash", "-c", docker+" image prune -a -f")
			world.setDown(true)
		case exerciseSkips.MatchString(line):
		case exerciseRuns.MatchString(line):
			command := strings.ReplaceAll(line, "localhost:5000", addr)
			out := sh.Run(t, "bash", "-e", "-o", "pipefail", "-c", command)
			ran++
			switch {
			case strings.Contains(line, "/_catalog"):
				listed(t, out, "library/nginx")
			case strings.Contains(line, "/metrics"):
				if !strings.Contains(out, "zot_http_requests_total") {
					t.Errorf("the metrics that the guide names are missing:\n%s", out)
				}
			}
			t.Logf("run: %s", line)
		default:
			t.Errorf("a line of the exercise is neither run nor known: %s", line)
		}
	}
	if ran < 10 {
		t.Errorf("only %d commands of the exercise were run", ran)
	}
}
