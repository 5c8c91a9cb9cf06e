package validate

import (
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// TestCompose reads the compose files as compose v2 does, and looks at every
// service of ours. That docker-compose 1.29 reads and runs them is for
// TestCompose of allinone/e2e.
func TestCompose(t *testing.T) {
	files, err := filepath.Glob("../compose/compose*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			o, err := cli.NewProjectOptions([]string{f}, cli.WithName("berth"))
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
	if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" || s.Privileged || s.User == "" || s.User == "0" {
		t.Errorf("%s: its root is writable, or it has capabilities, or it is root: %v %v %q", name, s.ReadOnly, s.CapDrop, s.User)
	}
	if len(s.SecurityOpt) != 1 || s.SecurityOpt[0] != "no-new-privileges:true" || s.MemLimit == 0 {
		t.Errorf("%s: may gain privileges, or all memory: %v %d", name, s.SecurityOpt, s.MemLimit)
	}
	if s.Restart == "" && s.StopGracePeriod == nil { // it ends by itself
		return
	}
	if s.HealthCheck == nil || s.Restart != types.RestartPolicyUnlessStopped || s.StopGracePeriod == nil {
		t.Errorf("%s: want a health check, restarts and time to stop: %v %q %v", name, s.HealthCheck, s.Restart, s.StopGracePeriod)
	}
}
