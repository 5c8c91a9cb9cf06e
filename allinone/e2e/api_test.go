//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestAPI uses the APIs for automation as docs/api.md says, with curl, grpcurl
// and berth ctl.
func TestAPI(t *testing.T) {
	for _, topology := range []Topology{Linked, Split, SplitTLS} {
		t.Run(string(topology), func(t *testing.T) {
			catalog := loopback(freePort(t))
			s := Start(t, Options{Topology: topology, Edit: func(config map[string]any) {
				services, _ := config["services"].(map[string]any)
				if services == nil {
					services = map[string]any{"metadata": map[string]any{"listen": catalog}, "blobstore": map[string]any{"listen": loopback(freePort(t))}}
					config["services"] = services
				}
				services["reflection"] = true
			}})
			a := newAPI(t, s)
			a.rest(t)
			a.restRefuses(t)
			a.grpcurl(t)
			a.ctl(t)
		})
	}
}

// api is a system with an image in repositories of awkward names.
type api struct {
	s       *System
	run     *Commands
	digest  string
	config  string // file of the program that clients are
	catalog string // address of the metadata service
	tls     []string
}

func newAPI(t *testing.T, s *System) *api {
	manifest := []byte(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[]}`,
		image.MediaTypeImageManifest, digest.FromString("{}")))
	for _, repo := range []string{"team/app", "manifests/tags"} {
		if a := s.ask(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+digest.FromString("{}").String(), "application/octet-stream", []byte("{}")); a.status != 201 {
			t.Fatalf("blob: %d %s", a.status, a.body)
		}
		for _, tag := range []string{"v1", "v2"} {
			if a := s.ask(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, image.MediaTypeImageManifest, manifest); a.status != 201 {
				t.Fatalf("manifest: %d %s", a.status, a.body)
			}
		}
	}
	last := s.Processes[len(s.Processes)-1]
	a := &api{s: s, run: NewCommands(t), digest: digest.FromBytes(manifest).String(), config: last.Args[len(last.Args)-1]}
	var file struct {
		Services struct {
			Metadata struct {
				Listen string
			}
			TLS struct{ Cert, Key, CACert string }
		}
	}
	text, err := os.ReadFile(a.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	a.catalog = file.Services.Metadata.Listen
	a.tls = []string{"-plaintext"}
	if tls := file.Services.TLS; tls.Cert != "" {
		a.tls = []string{"-cert", tls.Cert, "-key", tls.Key, "-cacert", tls.CACert, "-authority", "metadata"}
	}
	return a
}

// curl returns status and body.
func (a *api) curl(t *testing.T, args ...string) (status, body string) {
	t.Helper()
	for i, arg := range args {
		if strings.HasPrefix(arg, "/") {
			args[i] = a.s.URL() + "/api/v1" + arg
		}
	}
	out := a.run.Run(t, "curl", append([]string{"-sS", "--path-as-is", "-w", "\n%{http_code}"}, args...)...)
	i := strings.LastIndexByte(out, '\n')
	return out[i+1:], strings.TrimSpace(out[:max(i, 0)])
}

func (a *api) rest(t *testing.T) {
	for _, c := range []struct {
		path  string
		args  []string
		want  string
		parts []string
	}{
		{"/health", nil, "200", []string{`"blobstore"`, `"metadata"`, `"serving":true`}},
		{"/openapi.json", nil, "200", []string{`"/api/v1/repositories/{repository}/-/tags/{tag}/history"`}},
		{"/repositories", nil, "200", []string{"manifests/tags", "team/app"}},
		{"/repositories?limit=1", nil, "200", []string{`"next":"manifests/tags"`}},
		{"/repositories/team/app/-/tags", nil, "200", []string{"v1", "v2"}},
		{"/repositories/manifests%2Ftags/-/tags", nil, "200", []string{"v1", "v2"}},
		{"/repositories/team/app/-/tags/v1/history", nil, "200", []string{a.digest, `Z"`}},
		{"/repositories/team/app/-/manifests/v1", nil, "200", []string{a.digest}},
		{"/repositories/team/app/-/manifests/" + a.digest + "/referrers", nil, "200", []string{`"referrers":[]`}},
		{"/repositories/team/app/-/blobs/" + digest.FromString("{}").String(), nil, "200", []string{`"size":"2"`}},
		{"/repositories/team/app/-/blobs/" + digest.FromString("{}").String(), []string{"-X", "DELETE"}, "409", []string{`"code":"InUse"`}},
		{"/repositories/team/app/-/tags/v3", nil, "404", []string{`"code":"ManifestUnknown"`}},
		{"/repositories/team/app/-/tags/v2?ifDigest=" + digest.FromString("x").String(), []string{"-X", "DELETE"}, "412", []string{`"code":"PreconditionFailed"`}},
		{"/repositories/team/app/-/tags/v2?ifDigest=" + a.digest, []string{"-X", "DELETE"}, "200", []string{"{}"}},
		{"/repositories/team/app/-/tags/v2", nil, "404", []string{`"code":"ManifestUnknown"`}},
		{"/repositories/team/app/-/manifests/v1", []string{"-X", "PUT"}, "405", []string{`"code":"Unsupported"`}},
	} {
		status, body := a.curl(t, append(c.args, c.path)...)
		body = strings.ReplaceAll(body, `, "`, `,"`)
		for _, part := range c.parts {
			if status != c.want || !strings.Contains(body, part) {
				t.Errorf("curl %s %q: got %s %s, want %s %s", c.path, c.args, status, body, c.want, part)
			}
		}
	}
	if got := a.s.tags(t, "team/app"); !slices.Equal(got, []string{"v1"}) {
		t.Errorf("tags after the deletion of v2: %q", got)
	}
}

func (a *api) restRefuses(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-H", "X-Forwarded-For: 127.0.0.1"}, "403"},
		{[]string{"-H", "Forwarded: for=127.0.0.1"}, "403"},
		{[]string{"-H", "Host: evil.example"}, "403"},
		{[]string{"-H", "Origin: http://evil.example"}, "403"},
		{[]string{"-H", "Sec-Fetch-Site: cross-site"}, "403"},
		{[]string{"-X", "OPTIONS", "-H", "Origin: http://evil.example", "-H", "Access-Control-Request-Method: DELETE"}, "403"},
		{[]string{"-d", "a=b"}, "400"},
		{[]string{"-X", "DELETE", "-d", "a=b"}, "400"},
		{[]string{"-X", "POST", "-H", "X-HTTP-Method-Override: DELETE"}, "405"},
	} {
		status, body := a.curl(t, append(c.args, "/repositories/team/app/-/tags/v1")...)
		if status != c.want || !strings.Contains(body, `"code":`) {
			t.Errorf("curl %q: got %s %s, want %s", c.args, status, body, c.want)
		}
	}
	a.s.get(t, "/v2/team/app/manifests/v1")
}

func (a *api) grpcurl(t *testing.T) {
	grpcurl := Client(t, "grpcurl")
	run := func(args ...string) string {
		t.Helper()
		return a.run.Run(t, grpcurl, append(slices.Clone(a.tls), args...)...)
	}
	list := strings.Fields(run(a.catalog, "list"))
	for _, service := range []string{"berth.metadata.v1.CatalogService", "berth.metadata.v1.CollectorService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} {
		if !slices.Contains(list, service) {
			t.Errorf("list: %s is not in %q", service, list)
		}
	}
	if got := run(a.catalog, "describe", "berth.metadata.v1.ListTagsRequest"); !strings.Contains(got, "string repository = 2;") {
		t.Errorf("describe: %s", got)
	}
	if got := run("-d", `{"repository": "team/app", "page": {"limit": 100}}`, a.catalog, "berth.metadata.v1.CatalogService/ListTags"); !strings.Contains(got, `"v1"`) {
		t.Errorf("ListTags: %s", got)
	}
	if got := run(a.catalog, "grpc.health.v1.Health/Check"); !strings.Contains(got, "SERVING") {
		t.Errorf("health: %s", got)
	}
}

func (a *api) ctl(t *testing.T) {
	run := func(code int, args ...string) (stdout, stderr string) {
		t.Helper()
		stdout, stderr, got := a.exit(t, append([]string{"ctl"}, args...)...)
		if got != code {
			t.Errorf("ctl %q: exit code %d, want %d: %s%s", args, got, code, stdout, stderr)
		}
		return stdout, stderr
	}
	if got, _ := run(0, "repos", "--config", a.config); got != "REPOSITORY\nmanifests/tags\nteam/app\n" {
		t.Errorf("repos: %s", got)
	}
	if got, _ := run(0, "tags", "--json", "--config", a.config, "team/app"); got != `{"tag":"v1"}`+"\n" {
		t.Errorf("tags: %s", got)
	}
	if got, _ := run(0, "health", "--config", a.config); !strings.Contains(got, "metadata") {
		t.Errorf("health: %s", got)
	}
	run(0, "tag", "--config", a.config, "team/app:v1", "stable")
	run(0, "delete", "--config", a.config, "--if-digest", a.digest, "team/app:v1")
	if _, text := run(1, "manifest", "--config", a.config, "team/app:v1"); !strings.Contains(text, "manifest unknown") {
		t.Errorf("manifest: %s", text)
	}
	if got := a.s.tags(t, "team/app"); !slices.Equal(got, []string{"stable"}) {
		t.Errorf("tags: %q", got)
	}
	if a.s.Topology == SplitTLS {
		if _, text := run(3, "repos", "--metadata", a.catalog, "--timeout", "5s"); !strings.Contains(text, "--tls-cert") {
			t.Errorf("without a certificate: %s", text)
		}
	}
}

// exit runs berth and returns what it wrote, and its exit code.
func (a *api) exit(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	stdout, stderr, err := a.run.Try(Program(t, "berth"), args...)
	if err == nil {
		return stdout, stderr, 0
	}
	end, ok := err.(*exec.ExitError)
	if !ok {
		t.Fatal(err)
	}
	return stdout, stderr, end.ExitCode()
}

// TestAPIIsOffUnlessAskedFor: without services.X.listen there is no gRPC but the
// socket below the root directory, and without services.reflection no reflection.
func TestAPIIsOffUnlessAskedFor(t *testing.T) {
	grpcurl := Client(t, "grpcurl")
	quiet := newAPI(t, Start(t, Options{Topology: Linked}))
	if _, text, code := quiet.exit(t, "ctl", "repos", "--config", quiet.config); code != 0 {
		t.Errorf("ctl: exit code %d, %s", code, text)
	}
	a := newAPI(t, Start(t, Options{Topology: Split}))
	if out, text, err := a.run.Try(grpcurl, "-plaintext", a.catalog, "list"); err == nil || !strings.Contains(text, "reflection") {
		t.Errorf("list: %v, %s%s", err, out, text)
	}
	got := a.run.Run(t, grpcurl, "-plaintext", "-import-path", Root(t)+"/proto", "-proto", "berth/metadata/v1/metadata.proto",
		"-d", `{"repository": "team/app", "page": {"limit": 100}}`, a.catalog, "berth.metadata.v1.CatalogService/ListTags")
	if !strings.Contains(got, `"v1"`) {
		t.Errorf("ListTags: %s", got)
	}
}
