package validate

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// TestCompose reads the compose files as compose v2 does, and looks at every
// service of ours. That docker-compose 1.29 reads and runs them is for
// TestCompose of allinone/e2e.
func TestCompose(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../compose")); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "bash", filepath.Join(dir, "setup.sh")); err != nil {
		t.Fatalf("setup.sh: %v\n%s", err, out)
	}
	files, err := filepath.Glob(dir + "/compose*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			o, err := cli.NewProjectOptions([]string{f}, cli.WithName("berth"), cli.WithProfiles([]string{"scanner", "syncer"}))
			if err != nil {
				t.Fatal(err)
			}
			p, err := o.LoadProject(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for name, s := range p.Services {
				hardened(t, name, s)
				for _, port := range s.Ports {
					if port.HostIP != "127.0.0.1" {
						t.Errorf("%s publishes %v beyond this machine", name, port)
					}
				}
			}
		})
	}
}

// hardened checks what a service may do.
func hardened(t *testing.T, name string, s types.ServiceConfig) {
	t.Helper()
	if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" || s.Privileged {
		t.Errorf("%s: its root is writable, or it has capabilities: %v %v", name, s.ReadOnly, s.CapDrop)
	}
	if len(s.SecurityOpt) != 1 || s.SecurityOpt[0] != "no-new-privileges:true" || s.MemLimit == 0 {
		t.Errorf("%s: may gain privileges, or all memory: %v %d", name, s.SecurityOpt, s.MemLimit)
	}
	if s.Restart == "" && s.NetworkMode == "none" { // it ends by itself, and nobody reaches it
		return
	}
	if user, _, _ := strings.Cut(s.User, ":"); user == "" || user == "0" || len(s.CapAdd) > 0 {
		t.Errorf("%s is root, or has capabilities: %q %v", name, s.User, s.CapAdd)
	}
	if s.HealthCheck == nil || s.Restart != types.RestartPolicyUnlessStopped || s.StopGracePeriod == nil {
		t.Errorf("%s: want a health check, restarts and time to stop: %v %q %v", name, s.HealthCheck, s.Restart, s.StopGracePeriod)
	}
}

// TestComposeConfig has each program verify the file that compose mounts.
func TestComposeConfig(t *testing.T) {
	for file, programs := range map[string][]string{
		"edge.json":            {"berth-edge"},
		"berth.json":           {"berth-gateway", "berth-blobstore", "berth-metadata"},
		"full.json":            {"berth-gateway", "berth-blobstore", "berth-metadata", "berth-scanner", "berth-syncer"},
		"../image/config.json": {"berth", "berth-edge"},
	} {
		text, err := os.ReadFile(filepath.Join("../compose", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range programs {
			if w := verify(t, file, p, string(text)); w != "" {
				t.Error(w)
			}
		}
	}
}

// TestComposeSecrets makes secrets twice: the second time changes nothing,
// and certificates say what their owner is.
func TestComposeSecrets(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("../compose")); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, "secrets", name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	files := []string{"database/dsn", "database/password", "s3/secret-key", "s3.env", "gateway/tls.crt", "gateway/ca.crt", "blobstore/tls.crt", "metadata/tls.key"}
	made := map[string]string{}
	for range 2 {
		if out, err := run(t, "bash", filepath.Join(dir, "setup.sh")); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, f := range files {
			if made[f] != "" && made[f] != string(read(f)) {
				t.Errorf("%s is another one the second time", f)
			}
			made[f] = string(read(f))
		}
	}
	for _, service := range []string{"gateway", "blobstore", "metadata", "scanner", "syncer"} {
		certified(t, service, read(service+"/tls.crt"), read(service+"/ca.crt"))
	}
	if info, err := os.Stat(filepath.Join(dir, "secrets")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into secrets/: %v, %v", info.Mode(), err)
	}
}
