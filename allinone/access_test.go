package allinone

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAccessExplain asks for the guide's rules.
func TestAccessExplain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	text := `{"storage":{"rootDirectory":"/x"},"http":{"auth":{"htpasswd":{"path":"/x"}},"accessControl":{"repositories":{
		"**":{"anonymousPolicy":["read"],"policies":[{"users":["ci-user"],"actions":["read","create"]}]},
		"production/**":{"policies":[{"groups":["release"],"actions":["update"]}]}}}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"ci-user create a/b:v1":       "yes: http.accessControl.repositories.**.policies[0]: lists the user\n",
		"ci-user create production/a": "no: production/** is the longest pattern that matches, and grants nobody like this create",
	} {
		var out strings.Builder
		err := explainAccess(append([]string{file}, strings.Fields(args)...), "", nil, &out)
		if got := out.String(); err == nil && got != want || err != nil && err.Error() != want {
			t.Errorf("%s: %q, %v; want %q", args, got, err, want)
		}
	}
	var out strings.Builder
	if err := explainAccess([]string{file, "bob", "update", "production/a"}, "x;release", nil, &out); err != nil || !strings.Contains(out.String(), "policies[0]: lists a group") {
		t.Errorf("by a group: %q, %v", out.String(), err)
	}
}
