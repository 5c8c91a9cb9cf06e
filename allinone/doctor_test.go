package allinone

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry/doctor"
)

// runDoctor runs doctor on a config file that says text.
func runDoctor(t *testing.T, text string, flags ...string) (string, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err := Program("berth", "v0", "", localParts()).Run(t.Context(), append(append([]string{"doctor"}, flags...), file), &out)
	return out.String(), err
}

func TestDoctor(t *testing.T) {
	root, err := json.Marshal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	storage := `"storage": {"rootDirectory": ` + string(root) + `}`
	out, err := runDoctor(t, `{`+storage+`, "extensions": {"search": {}, "ui": {}}}`, "--json")
	if exitCode(err) != 0 {
		t.Errorf("got %v: %s", err, out)
	}
	warned := false
	for line := range strings.Lines(out) {
		var f doctor.Finding
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Check == "" || f.Text == "" {
			t.Errorf("%q: %v", line, err)
		}
		warned = warned || f.Check == "config file" && f.Level == doctor.Warn && strings.Contains(f.Text, "extensions.ui")
	}
	if !warned {
		t.Errorf("no warning of the config file: %s", out)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	for text, want := range map[string]string{
		`{` + storage + `, "services": {"metadata": {"address": "` + dead + `"}}}`:                       "fail  services.metadata.address " + dead,
		`{` + storage + `, "services": {"insecure": true, "metadata": {"address": "nobody.invalid:1"}}}`: "fail  services.metadata.address nobody.invalid:1: lookup",
		`{` + storage + `, "http": {"tls": {"cert": "/nowhere", "key": "/nowhere"}}}`:                    "fail  http.tls:",
		`{"storage": {"rootDirectory": "/proc/x"}}`:                                                      "fail  storage.rootDirectory:",
		`{"storage": 7}`: "fail  config file:",
	} {
		out, err := runDoctor(t, text)
		if exitCode(err) != 1 || !strings.Contains(out, want) {
			t.Errorf("%s: exit code %d, want 1 and %q in\n%s", text, exitCode(err), want, out)
		}
	}
	var none bytes.Buffer
	if err := Program("berth", "v0", "", localParts()).Run(t.Context(), []string{"doctor"}, &none); exitCode(err) != 2 {
		t.Errorf("without a file: %v", err)
	}
}
