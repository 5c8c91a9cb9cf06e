package allinone

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestClientConfig: clients are told of each upstream that is mirrored on demand, by
// the names that they have for it.
func TestClientConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	text := `{"storage":{"rootDirectory":"/x"},"http":{"address":"0.0.0.0","port":"5000"},"extensions":{"sync":{"registries":[
		{"urls":["https://registry-1.docker.io"],"onDemand":true},
		{"urls":["https://ghcr.io","https://mirror.example.com"],"onDemand":true},
		{"urls":["https://reg.example.com:5443"],"onDemand":true},
		{"urls":["https://quay.io"],"pollInterval":"6h","content":[{"prefix":"a/b"}]}]}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const at = "http://edge.example.com:5000"
	for client, want := range map[string]string{
		"containerd": `# /etc/containerd/certs.d/docker.io/hosts.toml
server = "https://registry-1.docker.io"

[host."http://edge.example.com:5000"]
  capabilities = ["pull", "resolve"]

# /etc/containerd/certs.d/ghcr.io/hosts.toml
server = "https://ghcr.io"

[host."http://edge.example.com:5000"]
  capabilities = ["pull", "resolve"]

# /etc/containerd/certs.d/reg.example.com:5443/hosts.toml
server = "https://reg.example.com:5443"

[host."http://edge.example.com:5000"]
  capabilities = ["pull", "resolve"]
`,
		"k3s": `# /etc/rancher/k3s/registries.yaml
mirrors:
  "docker.io":
    endpoint:
      - "http://edge.example.com:5000"
  "ghcr.io":
    endpoint:
      - "http://edge.example.com:5000"
  "reg.example.com:5443":
    endpoint:
      - "http://edge.example.com:5000"
`,
		"podman": `# /etc/containers/registries.conf.d/mirror.conf
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "edge.example.com:5000/docker.io"
insecure = true

[[registry]]
location = "ghcr.io"
[[registry.mirror]]
location = "edge.example.com:5000/ghcr.io"
insecure = true

[[registry]]
location = "reg.example.com:5443"
[[registry.mirror]]
location = "edge.example.com:5000/reg.example.com"
insecure = true

`,
	} {
		out, code, err := berth(t, "sync", "client-config", file, client, at)
		if diff := cmp.Diff(want, out); code != 0 || diff != "" {
			t.Errorf("%s: %d, %v\n%s", client, code, err, diff)
		}
	}
	out, code, err := berth(t, "sync", "client-config", file, "docker", at)
	var got map[string][]string
	if jsonErr := json.NewDecoder(bytes.NewReader([]byte(out))).Decode(&got); code != 0 || jsonErr != nil {
		t.Fatal(code, err, jsonErr, out)
	}
	if diff := cmp.Diff(map[string][]string{"registry-mirrors": {at}, "insecure-registries": {"edge.example.com:5000"}}, got); diff != "" {
		t.Error(diff)
	}
	for want, args := range map[string][]string{
		"give URL":           {"containerd"}, // 0.0.0.0 is no address for clients
		"must be http":       {"k3s", "edge.example.com"},
		"must be containerd": {"crio", at},
		"too few arguments":  {},
	} {
		_, code, err := berth(t, append([]string{"sync", "client-config", file}, args...)...)
		if code != 2 || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %d, %v, want %q", args, code, err, want)
		}
	}
}
